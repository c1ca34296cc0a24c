"""A WebSocket on its way to a backend: the handshake on both sides, each with its own key; then a tunnel.

By then the request was authorised as any other. A backend's refusal of the upgrade passes as any response.
"""

from __future__ import annotations

import base64
import os
import time

from gateway.call import Call
from gateway.core.errors import BadRequest, Unauthenticated
from gateway.core.http.hops import Via
from gateway.core.http.response_head import ResponseHead
from gateway.core.model import WebSocketRule
from gateway.core.policy.forwarding import public_host
from gateway.core.websocket import handshake
from gateway.edge.backend.exchange import Exchange
from gateway.edge.backend.pool import Pools
from gateway.edge.response.head import upgrade_head
from gateway.edge.websocket.tunnel import Tunnel, Tunnels
from gateway.proxy.proxied_call import ProxiedCall


class Handshake:
    """One opening handshake. lines: what the request to the backend carries of it.

    Raises BadRequest, UpgradeRequired, Forbidden (Origin), Unauthenticated.
    """

    def __init__(self, call: Call, rule: WebSocketRule, pools: Pools, tunnels: Tunnels) -> None:
        given = call.headers
        self._call = call
        self._rule = rule
        self._pools = pools
        self._tunnels = tunnels
        self._client_key = handshake.check_key(
            given.getall("Sec-WebSocket-Key", ()), given.getall("Sec-WebSocket-Version", ())
        )
        if call.head.length > 0 or call.head.codings:
            raise BadRequest("A request for a WebSocket has no body.", close=True)
        host = public_host(call.forwarded, call.head.hosts[0])
        handshake.check_origin(call.head.origins, host, rule.origins)
        self._offered = handshake.without_bearer(call.head.protocols)
        _require_fresh(call)
        self._key = base64.b64encode(os.urandom(16)).decode()
        self.lines = (
            "Connection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Key: {self._key}\r\nSec-WebSocket-Version: {handshake.VERSION}\r\n"
        ).encode()
        if self._offered:
            self.lines += f"Sec-WebSocket-Protocol: {', '.join(self._offered)}\r\n".encode()

    def follow(self, proxied: ProxiedCall, exchange: Exchange) -> None:
        """The request is on its way: take the 101, should it come."""

        def upgraded(head: ResponseHead, raw: bytes, rest: bytes) -> None:
            handshake.check_response(raw, self._key, self._offered)
            self._open(proxied, exchange, head, rest)

        exchange.expect_upgrade(upgraded)

    def _open(self, proxied: ProxiedCall, exchange: Exchange, head: ResponseHead, rest: bytes) -> None:
        """The proxied call keeps its seat until the tunnel ends."""
        call, client = self._call, self._call.client
        assert client is not None

        def ended(tunnel: Tunnel) -> None:
            self._pools.forget(tunnel)
            self._tunnels.discard(tunnel)
            exchange.abort()
            proxied.relay.finish()

        tunnel = Tunnel(call, exchange.connection, self._rule, ended, self._tunnels.turns)
        try:
            response = self._response(head, proxied.relay.via)
            exchange.connection.carry(tunnel)
            self._pools.forget(exchange)
            self._pools.watch(tunnel, Tunnel.check_timeouts)
            self._tunnels.add(tunnel)
            proxied.upgraded()
            early = client.begin_tunnel(tunnel)
            tunnel.start(response, early, rest)  # it may end at once
        except BaseException:
            tunnel.cut()
            raise

    def _response(self, head: ResponseHead, via: Via) -> bytes:
        """The client's 101: the backend's headers, but for what is of its own hop."""
        own = (b"sec-websocket-accept:", b"sec-websocket-version:")
        kept = [line for line in head.lines.splitlines(True) if not line.lower().startswith(own)]
        accept = f"Sec-WebSocket-Accept: {handshake.accept(self._client_key)}\r\n".encode()
        if handshake.BEARER in self._call.head.protocols and not _chooses(kept):
            kept.append(f"Sec-WebSocket-Protocol: {handshake.BEARER}\r\n".encode())
        lines = b"".join((b"Connection: Upgrade\r\nUpgrade: websocket\r\n", accept, *kept))
        return upgrade_head(self._call, head, lines, via)


def _chooses(lines: list[bytes]) -> bool:
    """Whether a subprotocol is chosen. A browser that offered some fails the connection unless one is (the
    WebSockets standard, section 2)."""
    return any(line.lower().startswith(b"sec-websocket-protocol:") for line in lines)


def _require_fresh(call: Call) -> None:
    """An expired token is accepted for a while (the clocks' leeway), but opens no WebSocket."""
    if call.identity is not None and call.identity.expires <= time.time():
        raise Unauthenticated("The token has expired, so it opens no WebSocket.")
