"""A gateway in this process on real sockets, for the wire tests."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from gateway.app import Gateway
from gateway.auth.keys import read_keys, signing_key
from gateway.core.jwt.issuer import local_issuer
from gateway.core.jwt.keys import sign
from gateway.core.process.listeners import Listen
from gateway.core.process.settings import ProcessConfig

RULE = local_issuer("")


def route(name: str, target: str, **more: Any) -> dict[str, Any]:
    """A route below /name, stripped."""
    return {"name": name, "path": f"/{name}/{{rest*}}", "strip": f"/{name}", "target": target, **more}


def routing(routes: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"version": 1, "tenants": {"acme": {}, "globex": {}}, "routes": routes, **more}


def process_config(folder: Path, **more: Any) -> ProcessConfig:
    values: dict[str, Any] = {
        "listen": (Listen("127.0.0.1"),),
        "admin": (Listen("127.0.0.1"),),
        "routing": str(folder / "routing.yaml"),
        "data": str(folder / "var"),
        "keys": str(folder / "var" / "keys.jwks"),
        "store_uri": f"sqlite:{folder / 'var' / 'documents'}",
        "access_log": str(folder / "var" / "access.log"),
        "commands": (),
        "drain": 5.0,
        "stream_grace": 0.0,
    }
    values |= more
    return ProcessConfig(**{"tokens": local_issuer(values["keys"]), **values})


@asynccontextmanager
async def running(
    folder: Path,
    config: dict[str, Any],
    *,
    now: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    **more: Any,
) -> AsyncIterator[Gateway]:
    """A started gateway with this routing config; drained at the end. now: the clock of its rate limits and
    circuits. wall: that of its quotas."""
    (folder / "routing.yaml").write_text(yaml.safe_dump(config))
    gateway = Gateway(process_config(folder, **more), now=now, wall=wall)
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.drain()
        with suppress(OSError):  # its folder for sockets is not in `folder`: their paths are short
            Path(gateway.sockets).rmdir()


def address(gateway: Gateway) -> tuple[str, int]:
    return gateway.listener.addresses[0]


def url(gateway: Gateway, path: str) -> str:
    host, port = address(gateway)
    return f"http://{host}:{port}{path}"


def token(gateway: Gateway, tenant: str = "acme", scope: str = "", **claims: Any) -> str:
    """A token of the gateway's own key; `claims` replace or (None) remove."""
    now = int(time.time())
    all_claims = {
        "iss": "gateway",
        "aud": "gateway",
        "tenant": tenant,
        "sub": "alice",
        "scope": scope,
        "iat": now,
        "exp": now + 600,
        **claims,
    }
    keys = read_keys(Path(gateway.config.keys), RULE.algorithms)
    return sign({k: v for k, v in all_claims.items() if v is not None}, signing_key(keys))


def bearer(gateway: Gateway, tenant: str = "acme", scope: str = "", **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(gateway, tenant, scope, **claims)}"}
