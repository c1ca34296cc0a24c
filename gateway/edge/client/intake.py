"""What one client sends, as requests: heads, and bodies whole or as streams.

Reading takes turns too. One read from a socket holds up to 256 KiB, libuv makes up to 32 of them before it
looks at another socket, and a read of tiny chunks takes a hundred times the time of one that is a single
piece. So after a large read the next one is left to another turn of the loop, and so is the rest of what
takes long to be taken apart; meanwhile nothing more is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from gateway.call import ClientTunnel, ResponseWriter
from gateway.core.errors import GatewayError
from gateway.core.fairness.turns import Turns
from gateway.core.http.request_reader import Request, RequestReader
from gateway.edge.client.body import RequestStream
from gateway.edge.client.holding import Holding, Memory
from gateway.edge.client.linger import Lingering
from gateway.edge.client.liveness import HalfClosed
from gateway.edge.reading import LARGE, LARGE_COST, PausableReader, ReadTurns

# Why nothing is read at the moment; any of them is enough.
BODY, AHEAD, TURN = 1, 2, 4

_HELD = 64 * 1024  # bytes that a client may send ahead while its request is served, and one read more
# Many clients send head and body apart. A small body that is whole a moment later is served as what came in
# one piece: without a stream, and to the backend in one write.
_GATHERED_MOST = 64 * 1024  # bytes of such a body
_GATHERING_TIME = 0.05  # seconds that its parts may take to come


class Gathering:
    """One request whose body is waited for. size: bytes of it that are here. on_late(request, pieces): called
    when its time is over."""

    __slots__ = ("_on_late", "_pieces", "_timer", "request", "size")

    def __init__(self, request: Request, on_late: Callable[[Request, list[bytes]], None]) -> None:
        self.request = request
        self._on_late = on_late
        self._pieces: list[bytes] = []
        self.size = 0
        self._timer = asyncio.get_running_loop().call_later(_GATHERING_TIME, self.give_up)

    def add(self, piece: bytes) -> None:
        """A part of the body. It is not waited for when it is a large one, or the client waits for our word
        (Expect)."""
        self._pieces.append(piece)
        self.size += len(piece)
        head = self.request.head
        if head.expect or max(head.length, self.size) > _GATHERED_MOST:
            self.give_up()

    def whole(self, piece: bytes) -> bytes:
        """The body, with its last part."""
        self._timer.cancel()
        return b"".join([*self._pieces, piece])

    def give_up(self) -> None:
        """The rest takes its time."""
        self._timer.cancel()
        self._on_late(self.request, self._pieces)

    def forget(self) -> None:
        """The connection ends."""
        self._timer.cancel()


class Intake(PausableReader):
    """Reads requests, for who serves them (connection.py). busy: a request is being served, or waits for its
    turn; what comes behind it is not read before that is over. broken: the body is, so that nothing behind it
    can be read. half_closed: the client sends no more. lingering: all is answered, and what still comes is
    thrown away. head_since: when the first byte of a head came that is not here whole. writer, tunnel: as in
    gateway.call.Client."""

    __slots__ = (
        "_body_size", "_content", "_gathering", "_holding", "_reader", "_reads", "_reads_on", "_rest_since",
        "_turns", "broken", "busy", "half_closed", "head_since", "lingering", "request", "tunnel", "writer",
    )  # fmt: skip

    def __init__(self, turns: Turns, reads: ReadTurns, memory: Memory | None = None) -> None:
        super().__init__()
        self._holding = Holding(memory)
        self._body_size = 0  # of the request that is served, where it came whole
        self._turns = turns
        self._reads = reads
        self._reader = RequestReader()
        self._content: RequestStream | None = None  # of the request that is served, until its end has come
        self._gathering: Gathering | None = None
        self._reads_on = False  # the rest of what is here of a body waits for its turn
        self._rest_since = 0.0  # when the request was answered the rest of whose body is thrown away
        self.busy = self.broken = False
        self.request: Request | None = None
        self.writer: ResponseWriter | None = None
        self.tunnel: ClientTunnel | None = None
        self.half_closed: HalfClosed | None = None
        self.lingering: Lingering | None = None
        self.head_since = 0.0

    # --- for who serves them ---

    def _serve(self, request: Request, body: bytes, content: RequestStream | None) -> None:
        """A request is here: with all of its body, or with a stream of it."""
        raise NotImplementedError

    def _refuse(self, error: GatewayError, request: Request | None = None) -> None:
        """What came is no request. request: the one whose body is none."""
        raise NotImplementedError

    def _next(self, request: Request | None) -> None:
        """The rest of a body was thrown away."""
        raise NotImplementedError

    def _holder(self, request: Request | None) -> str:
        """Whose turn it is."""
        raise NotImplementedError

    def _end(self) -> None:
        """Nothing comes any more, and nothing is to be answered."""
        raise NotImplementedError

    def linger(self) -> None:
        """Nothing more can be read."""
        raise NotImplementedError

    # --- bytes from the client ---

    def data_received(self, data: bytes) -> None:
        if self.tunnel is not None:
            self.tunnel.from_client(data)
            return
        if len(data) >= LARGE:
            self.pause_reading(TURN)
            self._reads.later(self._read_on, LARGE_COST)
        if self.lingering is not None:
            self.lingering.throw_away(data)
            return
        if self.broken:
            return
        self._reader.feed(data)
        if self._reads_on:
            return
        if self.busy:
            self._read_ahead()
        else:
            self._read()

    def _read_on(self) -> None:
        if not self._reads_on:
            self.resume_reading(TURN)

    def _read_ahead(self) -> None:
        """What is here, while a request is served: more of its body, and then what is not its own."""
        if self._content is not None:
            self._go_on_with_body(self._content)
        if self._content is None and self._reader.held > _HELD:
            self.pause_reading(AHEAD)
        if self._count() is not None:  # nothing behind the request in hand will be read
            self.broken = True
            self._reader.take()

    def _read(self) -> None:
        """What is here, while no request is served."""
        if self._gathering is not None:
            self._gather(self._gathering.request)
        elif self._rest_since:
            self._throw_rest_away()
        else:
            self._take()
        if self.busy and self._content is None and self._reader.held > _HELD:
            self.pause_reading(AHEAD)  # behind the request that has just begun

    def _rest_later(self, request: Request | None) -> None:
        """Reading what is here of a body takes more than its turn. request: whose it is, if it is known."""
        if not self._reads_on:
            self._reads_on = True
            self.pause_reading(TURN)
            self._turns.later(self._holder(request), self._read_rest)

    def _read_rest(self) -> None:
        self._reads_on = False
        if self.transport is not None and self.lingering is None and not self.broken:
            if self.busy:
                self._read_ahead()
            else:
                self._read()
        self._read_on()

    def _take(self) -> None:
        """Serve the next request, if its head is here."""
        reader = self._reader
        try:
            request = reader.read_head()
        except GatewayError as error:
            self._refuse(error)
            return
        if request is None:
            if reader.held:
                if not self.head_since:
                    self.head_since = monotonic()
                if (too_much := self._count()) is not None:
                    self._refuse(too_much)
                    return
            if self.half_closed is not None:
                self._end()
            return
        self.head_since = 0.0
        if reader.whole:
            self._serve(request, b"", None)
        else:
            self._gather(request)

    def _gather(self, request: Request) -> None:
        """The body of a request, as far as it is here. What breaks before it is served is no request."""
        reader, gathering = self._reader, self._gathering
        try:
            piece = reader.read_body()
        except GatewayError as error:
            self._refuse(error, request)
            return
        if reader.whole:
            self._gathering = None
            self._serve(request, gathering.whole(piece) if gathering is not None else piece, None)
        elif self.half_closed is not None and not reader.has_more:
            self._end()
        else:
            if gathering is None:
                self._gathering = gathering = Gathering(request, self._stream)
            gathering.add(piece)
            if self._gathering is not None and (too_much := self._count()) is not None:
                self._refuse(too_much, request)
                return
            if reader.has_more:
                self._rest_later(request)

    def _stream(self, request: Request, pieces: list[bytes]) -> None:
        """Serve a request whose body takes its time."""
        self._gathering = None
        self._content = content = RequestStream(self._hold_body, self._let_body_go)
        for piece in pieces:
            content.feed(piece)
        self._serve(request, b"", content)

    def _hold_body(self) -> None:
        self.pause_reading(BODY)

    def _let_body_go(self) -> None:
        self.resume_reading(BODY)
        if self._holding.size:
            self._count()

    def _go_on_with_body(self, content: RequestStream) -> None:
        """Of the request that is served. Where it breaks, whoever reads it is told, and the connection ends
        with the answer."""
        try:
            piece = self._reader.read_body()
        except GatewayError as error:
            self._break_body(content, error)
            return
        content.feed(piece)
        if (too_much := self._count()) is not None:
            self._break_body(content, too_much)
        elif self._reader.whole:
            self._content = None
            content.end()
        elif self._reader.has_more:
            self._rest_later(self.request)

    def _break_body(self, content: RequestStream, error: GatewayError) -> None:
        self.broken = True
        self._content = None
        self._reader.take()
        if self.writer is not None:
            self.writer.close_after()
        content.fail(error.with_traceback(None))

    def _count(self) -> GatewayError | None:
        """What is held now counts; gives the error when it is too much."""
        size = self._reader.held + self._body_size
        if self._gathering is not None:
            size += self._gathering.size
        elif self._content is not None:
            size += self._content.waiting
        return self._holding.set(size, self._whose)

    def _whose(self) -> str:
        return self._holder(self._gathering.request if self._gathering is not None else self.request)

    def _throw_rest_away(self) -> None:
        """Of the body of a request that is answered; after it the connection can go on."""
        try:
            self._reader.read_body()
        except GatewayError:
            self.linger()
        else:
            if self._reader.whole:
                self._rest_since = 0.0
                self._next(None)
            elif self._reader.has_more:
                self._rest_later(None)
