"""Call: one request's life, and what is known about it so far."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web
from multidict import CIMultiDictProxy

from gateway.core.model import Backend, Identity, Route, Tenant, TrustedProxies
from gateway.core.table import RoutingTable

Target = Callable[["Call"], Awaitable[web.StreamResponse]]
CallRoute = Route[Target]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The routing config as compiled, every name resolved. A request reads it once and keeps it."""

    revision: int
    loaded_at: float
    digest: str
    table: RoutingTable[Target]
    backends: Mapping[str, Backend]
    tenants: Mapping[str, Tenant]
    trusted: TrustedProxies


def _never() -> bool:
    return False


class Call:
    """What is known about a request so far. Made from a head and a peer; `request` is optional.

    head: method, target (as received), headers, peer (address, "" for a unix socket), secure.
    Found on the way, in this order: path and query (canonical path, query byte for byte), route, params
    (decoded), subpath (the path that the target sees), identity, tenant. draining: whether the gateway is
    about to end. response: the streamed answer, once it has begun (an error after that cuts the connection).
    Counted for the log: status, bytes_in, bytes_out, queue_s, backend_s, address.
    """

    __slots__ = (
        "address",
        "backend_s",
        "bytes_in",
        "bytes_out",
        "code",
        "draining",
        "headers",
        "id",
        "identity",
        "method",
        "params",
        "path",
        "peer",
        "query",
        "queue_s",
        "request",
        "response",
        "route",
        "scheme",
        "snapshot",
        "started",
        "status",
        "subpath",
        "target",
        "tenant",
        "wall",
    )

    def __init__(
        self,
        method: str,
        target: str,
        headers: CIMultiDictProxy[str],
        peer: str,
        snapshot: Snapshot,
        request: web.BaseRequest | None = None,
        scheme: str = "http",
    ) -> None:
        self.id = os.urandom(16).hex()
        self.started = time.perf_counter()
        self.wall = time.time()
        self.method = method
        self.target = target
        self.headers = headers
        self.peer = peer
        self.scheme = scheme
        self.snapshot = snapshot
        self.request = request
        self.path = ""
        self.query = ""
        self.subpath = ""
        self.route: CallRoute | None = None
        self.params: Mapping[str, str] = {}
        self.identity: Identity | None = None
        self.tenant: Tenant | None = None
        self.response: web.StreamResponse | None = None
        self.draining: Callable[[], bool] = _never
        self.status = 0
        self.code = ""
        self.bytes_in = 0
        self.bytes_out = 0
        self.queue_s = 0.0
        self.backend_s = 0.0
        self.address = ""
