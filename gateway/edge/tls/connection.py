"""TLS on one connection: between its socket and the protocol that reads requests, to which it is the
transport.

Ours and not the event loop's: that one reads into 256 KiB at a time, and asks OpenSSL once more for what is
not there after each read, by an exception. A request costs it some 10 µs more, and a handshake a task, two
futures and a timer (measured). And it cannot tell a client why plain HTTP is wrong here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

from gateway.core.fairness.turns import Turns
from gateway.edge.tls.client_certificate import ClientCertificate, ServerSide
from gateway.edge.tls.site import TlsSite
from gateway.runtime.log_interval import LogInterval

L = logging.getLogger(__name__)
HANDSHAKE_TIME = 10.0  # seconds that a handshake may take
RECORD = 16 * 1024  # bytes of a record's content at most (RFC 8446 section 5.1)
# Of what came, given to OpenSSL at once: its buffers stay as large as the largest of these.
_PIECE = RECORD + 1024
_HANDSHAKE = 0x16  # the first byte of a connection that speaks TLS: the type of its record
_LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_MOST_HELLO = 64 * 1024  # bytes that wait for the handshake's turn


class Secured(Protocol):
    """The protocol of a connection, as TLS sees it (edge/client/connection.py)."""

    peer: str

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, exc: BaseException | None) -> None: ...
    def secured(self, certificate: ClientCertificate | None) -> None:
        """The handshake is over. certificate: the client's, verified."""
        ...

    def spoke_plainly(self) -> None:
        """The client spoke plain HTTP where TLS is spoken."""
        ...


class Handshakes:
    """How the handshakes of one section went, for the metrics and the log."""

    def __init__(self, where: str) -> None:
        self.results: dict[str, int] = {"full": 0, "resumed": 0, "failed": 0}
        self._where = where
        self._log_interval = LogInterval()

    def failed(self, peer: str, reason: str) -> None:
        """One that failed is logged, once a minute: anybody can have them fail."""
        self.results["failed"] += 1
        if self._log_interval.is_over():
            L.info("%s: a handshake with %s failed: %s", self._where, peer or "a unix socket", reason)


class TlsConnection(asyncio.Protocol):
    """One connection. inner: what reads its requests. turns: a handshake costs as much as ten requests, so
    each waits for its client's turn.

    It is inner's transport: what asyncio.Transport has, as far as it is used here.
    """

    __slots__ = (
        "_closing", "_encrypt", "_ended", "_incoming", "_inner", "_outgoing", "_passes", "_raw", "_read",
        "_results", "_secured", "_site", "_timer", "_tls", "_turns", "_verified", "_waits",
    )  # fmt: skip

    def __init__(self, inner: Secured, site: TlsSite, results: Handshakes, turns: Turns) -> None:
        self._inner = inner
        self._site = site
        self._results = results
        self._turns = turns
        self._raw: asyncio.Transport | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ServerSide | None = None
        self._verified = 0  # of the site, when the handshake began
        self._timer: asyncio.TimerHandle | None = None
        # Both from the end of the handshake on, as long as there is something to read or to write.
        self._read: Callable[[int], bytes] | None = None
        self._encrypt: Callable[[Any], int] | None = None
        self._waits = False  # the handshake waits for its turn
        self._secured = False  # it is over
        self._ended = False  # the client's close_notify came
        self._passes = False  # bytes pass as they are: of plain HTTP, or to be discarded
        self._closing = False

    # --- what the socket's transport says ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client has connected; it counts as a connection from now on."""
        self._raw = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_TIME, self._too_late)
        self._inner.connection_made(cast(asyncio.BaseTransport, self))

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        read = self._read
        if read is None:
            self._received_early(data)
            return
        incoming, size = self._incoming, len(data)
        if size > _PIECE:
            self._read_much(data)
            return
        incoming.write(data)
        try:
            # That many bytes are allocated: what is in a record is less than the record. Where all of them
            # are filled, it came in parts.
            plain = read(size)
            if incoming.pending or len(plain) == size:
                plain += b"".join(self._records(read))
        except ssl.SSLWantReadError:
            self._flush()  # a record is not whole yet, or was OpenSSL's own
            return
        except ssl.SSLError as error:
            self._broken(error)
            return
        self._deliver(plain)

    def _records(self, read: Callable[[int], bytes]) -> Iterable[bytes]:
        """The content of all records that are whole. Raises SSLError but SSLWantReadError."""
        try:
            while piece := read(RECORD):
                yield piece
            self._ended = True
        except ssl.SSLWantReadError:
            return

    def _read_much(self, data: bytes) -> None:
        """As `data_received`, of more than a record."""
        read, view, found = self._read, memoryview(data), list[bytes]()
        assert read is not None
        try:
            for at in range(0, len(data), _PIECE):
                self._incoming.write(view[at : at + _PIECE])
                found.extend(self._records(read))
                if self._ended:
                    break
        except ssl.SSLError as error:
            self._broken(error)
            return
        self._flush()
        if plain := b"".join(found):
            self._deliver(plain)
        elif self._ended:
            self._deliver(b"")

    def _deliver(self, plain: bytes) -> None:
        """Pass on what was read; nothing is the client's close_notify."""
        if plain:
            self._inner.data_received(plain)
        if (not plain or self._ended) and self._read is not None:
            self._read = None
            if not self._inner.eof_received():
                self.close()

    def eof_received(self) -> bool:
        """The client has ended its side of the connection, with or without a close_notify before: where a
        request ends is said by its framing (RFC 9112 section 9.8)."""
        if self._passes or self._secured:
            self._read = None
            if self._inner.eof_received():
                return True
        self.close()
        return False

    def pause_writing(self) -> None:
        """As the inner protocol's."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """As the inner protocol's."""
        self._inner.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone."""
        self._cancel_timer()
        if self._tls is not None and not self._secured and not self._closing:
            self._results.failed(self._inner.peer, "the client left")
        self._closing = True
        self._read = self._encrypt = self._tls = None
        self._inner.connection_lost(exc)

    # --- the handshake ---

    def _received_early(self, data: bytes) -> None:
        """Bytes before the end of the handshake, or after the end of what is decrypted."""
        if self._passes:
            self._inner.data_received(data)
        elif not (self._closing or self._secured):
            self._received_handshake(data)

    def _received_handshake(self, data: bytes) -> None:
        if self._tls is None and data[0] != _HANDSHAKE:
            self._spoke_plainly(data)
            return
        self._incoming.write(data)
        if self._waits:
            if self._incoming.pending > _MOST_HELLO:
                self._fail("it sent too much")
        elif self._tls is None:
            self._tls = self._site.current.wrap(self._incoming, self._outgoing)
            self._verified = self._site.verified
            self._waits = True
            self._turns.later(self._inner.peer, self._begin)
        else:
            self._shake_hands()

    def _begin(self) -> None:
        self._waits = False
        if not self._closing:
            self._shake_hands()

    def _shake_hands(self) -> None:
        tls = self._tls
        assert tls is not None
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            self._flush()  # the alert that says why
            self._fail((error.reason or str(error)).replace("_", " ").lower())
            return
        certificate = ClientCertificate.of(tls, self._site)
        if certificate is not None and not self._site.is_valid(certificate.begins, certificate.ends):
            self._fail("the client's certificate has expired since its session began")
            return
        if certificate is not None and self._verified != self._site.verified:
            self._fail("what clients' certificates are verified with has changed meanwhile")
            return
        self._cancel_timer()
        if self._outgoing.pending:
            self._flush()
        elif not self._incoming.pending:
            self._acknowledge()
        self._results.results["resumed" if tls.session_reused else "full"] += 1
        self._read, self._encrypt = tls.direct()
        self._secured = True
        self._inner.secured(certificate)
        if self._incoming.pending and self._read is not None:
            self._read_much(self._incoming.read())

    def _acknowledge(self) -> None:
        """Where no ticket does so, say at once that the client's last message has come: a client that has not
        set TCP_NODELAY holds its request back until then, and the kernel would take its 40 ms."""
        assert self._raw is not None
        sock = self._raw.get_extra_info("socket")
        with contextlib.suppress(OSError):  # it has ended, or is not TCP
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _fail(self, reason: str) -> None:
        self._results.failed(self._inner.peer, reason)
        self._closing = True
        assert self._raw is not None
        self._raw.close()

    def _too_late(self) -> None:
        if self._tls is not None:
            self._fail(f"it was not over in {HANDSHAKE_TIME:g} s")
        else:  # a client that sent nothing, as browsers open connections ahead
            self.close()

    def _spoke_plainly(self, data: bytes) -> None:
        """What begins as a request in plain HTTP gets a response in plain HTTP."""
        self._cancel_timer()
        if data[0] not in _LETTERS:
            self._fail("it speaks neither TLS nor HTTP")
            return
        self._results.failed(self._inner.peer, "it speaks plain HTTP")
        self._passes = True
        self._inner.spoke_plainly()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _broken(self, error: ssl.SSLError) -> None:
        """What came is no TLS, or an alert: nothing more can be read or written."""
        self._flush()
        self._encrypt = self._read = None
        self.abort()

    def _flush(self) -> None:
        if self._outgoing.pending and self._raw is not None:
            self._raw.write(self._outgoing.read())

    # --- the transport of the inner protocol (asyncio.Transport) ---

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send it, encrypted."""
        raw, encrypt = self._raw, self._encrypt
        assert raw is not None
        if encrypt is None or self._closing:
            if self._passes and not self._secured and not self._closing:
                raw.write(data)
            return
        try:
            if len(data) <= RECORD:
                if data:
                    encrypt(data)
                    raw.write(self._outgoing.read())
                return
            view, records = memoryview(data), []
            for at in range(0, len(data), RECORD):
                encrypt(view[at : at + RECORD])
                records.append(self._outgoing.read())
        except ssl.SSLError as error:
            self._broken(error)
            return
        raw.writelines(records)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        """Send all of them."""
        self.write(b"".join(pieces))

    def write_eof(self) -> None:
        """End our side. What the client still sends is passed on as it comes, to be discarded: OpenSSL takes
        data after a close_notify for an error, and the reset that follows for the response."""
        assert self._raw is not None
        self._notify_close()
        self._read, self._passes = None, True
        self._raw.write_eof()

    def can_write_eof(self) -> bool:
        """It can: a close_notify ends one direction (RFC 8446 section 6.1)."""
        return True

    def _notify_close(self) -> None:
        """Tell the client that what it got is whole."""
        if self._tls is None or self._encrypt is None:
            return
        self._encrypt = None
        with contextlib.suppress(ssl.SSLError):  # the client's own is still to come
            self._tls.unwrap()
        self._flush()

    def close(self) -> None:
        """Close the connection once all that was written has left."""
        if self._closing or self._raw is None:
            return
        self._notify_close()
        self._closing, self._read = True, None
        self._raw.close()

    def abort(self) -> None:
        """Close the connection now."""
        self._closing = True
        if self._raw is not None:
            self._raw.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._closing or self._raw is None or self._raw.is_closing()

    def pause_reading(self) -> None:
        """Read nothing more from the socket."""
        if self._raw is not None:
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Read from the socket again."""
        if self._raw is not None:
            self._raw.resume_reading()

    def get_write_buffer_size(self) -> int:
        """Bytes, encrypted, that the kernel has not taken yet."""
        return self._raw.get_write_buffer_size() if self._raw is not None else 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As the socket's transport; and `ssl_object`, which OpenSSL's state can be asked of."""
        if name == "ssl_object":
            return self._tls
        return self._raw.get_extra_info(name, default) if self._raw is not None else default
