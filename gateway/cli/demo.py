"""What `gateway up` prepares for trying it out: a token in a file, and the demo's seed."""

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
_OPERATORS = "gateway:"  # the scopes that begin so are for operators: never in a demo token
_REQUEST_TIMEOUT = 5.0  # seconds
_TIMEOUT = 10.0  # seconds, of all requests together
_MAX_BYTES = 1024 * 1024


def scopes(routes: Iterable[Route[Any, Any]]) -> list[str]:
    """The scopes of a demo token: all that the routes require, but none of an operator."""
    found = {scope for route in routes for scope in route.all_scopes()}
    return sorted(scope for scope in found if not scope.startswith(_OPERATORS))


def header_file(config: ProcessConfig, tenant: str, routes: Iterable[Route[Any, Any]]) -> Path:
    """Write a demo token (12 h) for the tenant, and return the path of its file (mode 0600), which holds it
    as a header for curl: so it is on no screen, in no shell history and in no process list.

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
    """The seed in a YAML file: from a public path to the list of JSON bodies to POST there. Raises OSError,
    ValueError."""
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


async def post_seed(seed: Seed, base: str, header: Path) -> list[str]:
    """POST the bodies of each path whose list is empty. base: the URL of the public listener. header: the
    file with the demo token.

    Returns the failures as text, after 10 s at most.
    """
    name, _, token = header.read_text().strip().partition(": ")
    failures: list[str] = []
    timeout = aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT)
    try:
        async with asyncio.timeout(_TIMEOUT):
            async with aiohttp.ClientSession(base, headers={name: token}, timeout=timeout) as client:
                for path, bodies in seed.items():
                    failures += [text async for text in _post_one(client, path, bodies)]
    except TimeoutError:
        failures.append(f"there was no time left after {_TIMEOUT:.0f} s")
    return failures


async def _post_one(client: aiohttp.ClientSession, path: str, bodies: list[Any]) -> AsyncIterator[str]:
    try:
        async with client.get(path) as response:
            exists = response.status == 200 and not is_empty(await response.read())
        if response.status not in (200, 404):
            yield f"GET {path} was answered {response.status}"
            return
        for body in () if exists else bodies:
            async with client.post(path, json=body) as response:
                if response.status >= 300:
                    yield f"POST {path} was answered {response.status}"
    except aiohttp.ClientError as error:
        yield f"{path}: {type(error).__name__}"


def is_empty(raw: bytes) -> bool:
    """Whether JSON is an empty list, or an object whose lists are all empty; False for anything else."""
    try:
        data = json.loads(raw)
    except ValueError:
        return False
    lists = [
        value for value in (data.values() if isinstance(data, dict) else [data]) if isinstance(value, list)
    ]
    return bool(lists) and not any(lists)
