"""The request as a backend gets it."""

from __future__ import annotations

from gateway.call import Call, Signer
from gateway.core.http.hops import Via, counted_down, hops_left
from gateway.core.model import Backend
from gateway.core.policy import forwarding

_MAX_ORIGINS = 1024  # remembered blocks of forwarding headers


class Requests:
    """Makes the requests to one backend. signer: of the identities that it asks for in signed form."""

    def __init__(self, via: Via, backend: Backend, signer: Signer) -> None:
        self._via = via
        self._backend = backend.name
        self._signer = signer if backend.identity != "headers" else None
        self._plain = backend.identity != "signed"
        self._origins: dict[tuple[str, str, str, str], bytes] = {}

    def whole(self, call: Call, total: float) -> bytes:
        """The request with its body, where that came whole. total: as for `head`."""
        call.bytes_in = len(call.body)
        length = len(call.body) if call.body or call.head.length >= 0 else -1
        return self.head(call, length, b"", total) + call.body

    def head(self, call: Call, length: int, coding: bytes, total: float) -> bytes:
        """The head as the backend gets it: Host, the client's headers, the identity, where it comes from, and
        the deadline (seconds since the epoch, as X-Request-Start). length: -1 for no Content-Length. total:
        seconds, 0.0 for no deadline."""
        target = f"{call.subpath}?{call.query}" if call.query else call.subpath
        made = call.head.made
        if made is not None and made[0] is call.route and made[1] is call.identity:
            lines = made[2]
        else:
            lines = self._lines(call)
            call.head.remember_made(call.route, call.identity, lines)
        if call.method == "OPTIONS" and (left := hops_left(call.head)):
            lines = counted_down(lines, left)
        return b"".join(
            (
                f"{call.method} {target} HTTP/1.1\r\n".encode("utf-8", "surrogateescape"),
                lines,
                self._signed(call, target) if self._signer is not None else b"",
                self._via.request_lines[call.old],
                f"X-Request-ID: {call.id}\r\nX-Request-Start: t={call.received_at:.3f}\r\n".encode(),
                b"X-Request-Deadline: t=%.3f\r\n" % (call.received_at + total) if total else b"",
                coding,
                b"Content-Length: %d\r\n\r\n" % length if length >= 0 else b"\r\n",
            )
        )

    def _signed(self, call: Call, target: str) -> bytes:
        """Who calls, in signed form. Not among the lines that are kept: it is renewed while they stay."""
        assert self._signer is not None and call.route is not None
        if call.route.bind:
            return self._signer.bound(call.identity, self._backend, call.method, target)
        return self._signer.lines(call.identity, self._backend)

    def _lines(self, call: Call) -> bytes:
        """The lines that are the same for all requests with these headers, of this identity on this route: a
        route is of one snapshot, and a head of one client's connection."""
        head, route = call.head, call.route
        assert route is not None
        host, client = head.hosts[0], call.client
        certificate = client.certificate if client is not None else None
        authorization = ""
        if route.forward_authorization and head.authorization:
            authorization = f"Authorization: {head.authorization[0]}\r\n"
        return b"".join(
            (
                f"Host: {route.set_host or host}\r\n".encode("utf-8", "surrogateescape"),
                head.block(),
                authorization.encode(),
                call.identity.lines if self._plain and call.identity is not None else b"",
                certificate.lines if certificate is not None else b"",
                self._forwarding(call, client.scheme if client is not None else "http", host, route.strip),
            )
        )

    def _forwarding(self, call: Call, scheme: str, host: str, prefix: str) -> bytes:
        """The X-Forwarded lines; the same for all calls of a client, so they are remembered."""
        trusted = forwarding.is_trusted(call.peer, call.snapshot.trusted)
        key = (call.peer, scheme, host, prefix)
        known = self._origins.get(key) if not trusted else None
        if known is not None:
            return known
        said = call.head.forwarded if trusted else ()
        pairs = forwarding.pairs(
            call.peer, said, call.snapshot.trusted, scheme=scheme, host=host, prefix=prefix
        )
        block = "".join(f"{name}: {value}\r\n" for name, value in pairs if value).encode(
            "utf-8", "surrogateescape"
        )
        if not trusted:
            if len(self._origins) >= _MAX_ORIGINS:
                self._origins.clear()
            self._origins[key] = block
        return block
