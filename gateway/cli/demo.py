"""What `gateway up` does for a newcomer: a token in a file, and a few things to look at."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from gateway.auth.keys import issue
from gateway.config import strict_yaml
from gateway.core.model import Route
from gateway.core.process.settings import ProcessConfig
from gateway.core.routing.problems import Problems
from gateway.runtime import durable
from gateway.runtime.files import read_text

TOKEN_TIME = 12 * 3600.0  # seconds
_OPERATORS = "gateway:"  # scopes of this kind rule the gateway itself: never in a file for trying things out
_ANSWER_TIME = 5.0  # seconds that a backend may take for an answer
_TIME = 10.0  # seconds for all of it
_MAX_BYTES = 1024 * 1024


def scopes(routes: Iterable[Route[Any]]) -> list[str]:
    """What a demo token may do: all that the routes ask for, and nothing that rules the gateway."""
    found = {scope for route in routes for scope in route.all_scopes()}
    return sorted(scope for scope in found if not scope.startswith(_OPERATORS))


def header_file(config: ProcessConfig, tenant: str, routes: Iterable[Route[Any]]) -> Path:
    """A token with every scope that the routes ask for but those of operators, as a header in a file of mode
    0600: it is on no screen, in no shell history and in no process list.

    Raises KeysUnusable, GatewayError, OSError.
    """
    scope = " ".join(scopes(routes))
    token = issue(Path(config.keys), config.tokens, tenant, scope, "demo", TOKEN_TIME)
    path = Path(os.path.abspath(config.data)) / "demo-token.header"  # noqa: PTH100
    with durable.replacing(path) as file:
        file.write(f"Authorization: Bearer {token}\n".encode())
    return path


Seed = Mapping[str, list[Any]]


def read_seed(path: Path) -> Seed:
    """The file: a public path to a list of JSON bodies. Raises OSError, ValueError."""
    try:
        data = strict_yaml.parse(read_text(path, _MAX_BYTES)).data
    except Problems as found:
        raise ValueError(f"{path}: {found.items[0].reason}") from None
    if not isinstance(data, dict) or not all(
        isinstance(key, str) and key.startswith("/") and isinstance(value, list)
        for key, value in data.items()
    ):
        raise ValueError(f"{path}: it maps no paths to lists of what is sent there")
    return data


async def sow(seed: Seed, base: str, header: Path) -> list[str]:
    """Send each path what the seed has for it, unless there is something already. Nothing is replaced, and
    what is there is not sent again. base: the address of the public listener.

    Gives what did not work, as text, after some seconds at most.
    """
    name, _, token = header.read_text().strip().partition(": ")
    wrong: list[str] = []
    timeout = aiohttp.ClientTimeout(total=_ANSWER_TIME)
    try:
        async with asyncio.timeout(_TIME):
            async with aiohttp.ClientSession(base, headers={name: token}, timeout=timeout) as client:
                for path, bodies in seed.items():
                    wrong += [text async for text in _sow_one(client, path, bodies)]
    except TimeoutError:
        wrong.append(f"there was no time left after {_TIME:.0f} s")
    return wrong


async def _sow_one(client: aiohttp.ClientSession, path: str, bodies: list[Any]) -> AsyncIterator[str]:
    try:
        async with client.get(path) as answer:
            there = answer.status == 200 and not is_empty(await answer.read())
        if answer.status not in (200, 404):
            yield f"GET {path} was answered {answer.status}"
            return
        for body in () if there else bodies:
            async with client.post(path, json=body) as answer:
                if answer.status >= 300:
                    yield f"POST {path} was answered {answer.status}"
    except aiohttp.ClientError as error:
        yield f"{path}: {type(error).__name__}"


def is_empty(raw: bytes) -> bool:
    """Whether a list in JSON, or an object with a list, holds nothing. What is neither is something."""
    try:
        data = json.loads(raw)
    except ValueError:
        return False
    lists = [
        value for value in (data.values() if isinstance(data, dict) else [data]) if isinstance(value, list)
    ]
    return bool(lists) and not any(lists)
