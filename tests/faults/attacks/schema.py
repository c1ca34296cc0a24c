"""Schemas and documents that cost much together: time with the interpreter locked, or memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import count
from typing import Any

from tests.faults.isolation import NOISY, Site, attack

_CLIENTS = 4  # of each tenant


def _items(inner: dict[str, Any]) -> dict[str, Any]:
    return {"properties": {"a": {"items": inner}}}


def _document(item: str, number: int) -> bytes:
    return b'{"a":[' + ",".join([item] * number).encode() + b"]}"


async def _put(site: Site, name: str, schema: dict[str, Any]) -> None:
    for tenant in NOISY:
        async with site.client(tenant) as client:
            async with client.put(f"/documents/{name}", json={"schema": schema}) as response:
                await response.read()


async def _send(site: Site, method: str, paths: Iterator[str], body: bytes, kind: str) -> None:
    async def one(tenant: str) -> None:
        async with site.client(tenant) as client:
            while True:
                async with client.request(
                    method, next(paths), data=body, headers={"Content-Type": kind}
                ) as response:
                    await response.read()

    async with asyncio.TaskGroup() as group:
        for tenant in NOISY * _CLIENTS:
            group.create_task(one(tenant))


def _always(path: str) -> Iterator[str]:
    while True:
        yield path


async def _post(site: Site, name: str, body: bytes) -> None:
    await _send(site, "POST", _always(f"/documents/{name}"), body, "application/json")


async def _alternatives(site: Site) -> None:
    await _put(site, "alternatives", _items({"anyOf": [{"const": n} for n in range(1601)]}))


@attack("documents of 40 kB that fit none of 1,601 alternatives", prepare=_alternatives)
async def unfit(site: Site) -> None:
    await _post(site, "alternatives", _document("-1", 13_000))


@attack("documents of 8 MB that fit the last of 1,601 alternatives", prepare=_alternatives)
async def fit(site: Site) -> None:
    await _post(site, "alternatives", _document("1600", 1_600_000))


async def _enum(site: Site) -> None:
    await _put(site, "enum", _items({"enum": [None, *(n + 0.5 for n in range(1000))]}))


@attack("100,000 items against an enum of 1,000 numbers", prepare=_enum)
async def enum(site: Site) -> None:
    await _post(site, "enum", _document("-1", 100_000))


@attack("bulks of 1,000 documents, each costly to check", prepare=_enum)
async def bulks(site: Site) -> None:
    line = b'{"op":"create","data":' + _document("999.5", 20) + b"}\n"
    await _send(site, "POST", _always("/documents/enum/bulk"), line * 1000, "application/x-ndjson")


async def _unique(site: Site) -> None:
    await _put(site, "unique", {"properties": {"a": {"uniqueItems": True}}})


@attack("integers that share a hash where items must be unique", prepare=_unique)
async def hashes(site: Site) -> None:
    await _post(site, "unique", json.dumps({"a": [2**62 + n for n in range(8000)]}).encode())


async def _states(site: Site) -> None:
    await _put(site, "states", _items({"pattern": "([ab]*a[ab]{500}c?){3}"}))


@attack("a text that leads a pattern to a new state with each byte", prepare=_states)
async def states(site: Site) -> None:
    text = "".join("ab"[n * n % 7 % 2 ^ n // 3 % 2] for n in range(20_000))
    await _post(site, "states", json.dumps({"a": [text]}).encode())


@attack("schemas of 400 patterns of Unicode letters, each in a collection of its own")
async def patterns(site: Site) -> None:
    wanted = {f"p{n}": {"pattern": f"\\p{{L}}{{20}}{n}"} for n in range(400)}
    body = json.dumps({"schema": {"properties": wanted}}).encode()
    await _send(site, "PUT", (f"/documents/c{n % 50}" for n in count()), body, "application/json")


@attack("schemas that compile to 4 MiB, each in a collection of its own, and documents for them")
async def compiled(site: Site) -> None:
    async def one(tenant: str, number: int) -> None:
        wanted = {f"p{n}": {"pattern": f"\\p{{L}}{{20}}{number}{n}"} for n in range(4)}
        async with site.client(tenant) as client:
            while True:
                path = f"/documents/m{number}"
                async with client.put(path, json={"schema": {"properties": wanted}}) as response:
                    await response.read()
                async with client.post(path, json={"p0": "ä" * 20}) as response:
                    await response.read()

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            for tenant in NOISY:
                group.create_task(one(tenant, number))


@attack("schemas that refer to themselves by another spelling")
async def recursion(site: Site) -> None:
    spelled = {"$defs": {"a": {"items": {"$ref": "#/%24defs/a"}}}, "$ref": "#/$defs/a"}
    body = json.dumps({"schema": {"properties": {"a": spelled, **spelled}, **spelled}}).encode()
    await _send(site, "PUT", _always("/documents/recursive"), body, "application/json")
