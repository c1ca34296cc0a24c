"""Seats: at most as many requests inside a threaded backend as it has threads; the others wait in line."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from gateway.call import Call
from gateway.core.balance import least_used
from gateway.core.errors import BackendSaturated, GatewayError
from gateway.core.model import Address, Backend


class Seat:
    """The right to have one request inside a backend, at one address. Release it exactly once."""

    __slots__ = ("_line", "address")

    def __init__(self, line: _Line, address: Address) -> None:
        self._line = line
        self.address = address

    def release(self) -> None:
        self._line.give_back(self.address)

    def decline(self) -> None:
        """Give it back before any use: the next one is at the same address. Else the short way, which only
        takes warm connections, would use up the turns of the addresses that have none."""
        self._line.unturn()
        self.release()

    def move(self, address: Address) -> bool:
        """Sit at another address of the backend, if there is room."""
        if not self._line.take_at(address):
            return False
        self._line.give_back(self.address)
        self.address = address
        return True


class _Line:
    """The seats of one backend, and who waits for them, first come first served. on_idle(line): nobody is
    inside or waits any more."""

    def __init__(
        self, backend: Backend, on_idle: Callable[[_Line], None], usable: Callable[[Address], bool]
    ) -> None:
        self.backend = backend
        self._on_idle = on_idle
        self._usable = usable
        self.inside: dict[str, int] = {}  # by the address's text, whose hash is made once
        self.waiting: deque[asyncio.Future[Seat]] = deque()
        self._turn = 0

    def try_take(self) -> Seat | None:
        addresses = self.backend.addresses
        if len(addresses) > 1:
            addresses = tuple(address for address in addresses if self._usable(address))
        if not addresses:
            return None
        address = addresses[0]
        if len(addresses) > 1:
            self._turn += 1
            address = least_used(addresses, lambda a: self.inside.get(a.text, 0), self._turn)
        return Seat(self, address) if self.take_at(address) else None

    def take_at(self, address: Address) -> bool:
        used, threads = self.inside.get(address.text, 0), self.backend.threads
        if threads and used >= threads:
            return False
        self.inside[address.text] = used + 1
        return True

    def unturn(self) -> None:
        self._turn -= 1

    def give_back(self, address: Address) -> None:
        left = self.inside[address.text] - 1
        if left:
            self.inside[address.text] = left
        else:
            del self.inside[address.text]
        if self.waiting:
            self.wake()
        if not self.inside:
            self.settle()

    def wake(self) -> None:
        """Hand free seats to those who wait."""
        self.tidy()
        while self.waiting:
            seat = self.try_take()
            if seat is None:
                return
            self.waiting.popleft().set_result(seat)
            self.tidy()

    def settle(self) -> None:
        """Say so when it is idle now."""
        self.tidy()
        if not self.inside and not self.waiting:
            self._on_idle(self)

    def tidy(self) -> None:
        """Forget those at the head of the line who gave up."""
        while self.waiting and self.waiting[0].done():
            self.waiting.popleft()


class Admission:
    """The seats of all backends, by name; a reload resets nothing. usable: whether an address may be sent
    requests now (a backend's only one is never asked about: whoever asks for a seat has done so)."""

    def __init__(self, usable: Callable[[Address], bool] = lambda address: True) -> None:
        self._usable = usable
        self._lines: dict[str, _Line] = {}
        self._names: frozenset[str] | None = None  # of the live snapshot; None before the first

    def try_admit(self, backend: Backend) -> Seat | None:
        """A seat that is free now, if nobody waits for one."""
        line = self._lines.get(backend.name)
        if line is None:
            line = self._lines[backend.name] = self._line(backend)
        return line.try_take() if not line.waiting else None

    def try_admit_at(self, backend: Backend, address: Address) -> Seat | None:
        """A seat at this very address, usable or not, if one is free: for a probe."""
        line = self._lines.get(backend.name)
        return Seat(line, address) if line is not None and line.take_at(address) else None

    def wake(self, name: str, refusal: Callable[[], GatewayError] | None = None) -> None:
        """Which addresses of the backend are usable has changed: hand free seats to those who wait. refusal:
        none is, and this makes the error for each of them."""
        line = self._lines.get(name)
        if line is None:
            return
        if refusal is None:
            line.wake()
            return
        while line.waiting:
            place = line.waiting.popleft()
            if not place.done():
                place.set_exception(refusal())

    async def admit(self, call: Call, backend: Backend, timeout: float) -> Seat:
        """A seat, after at most `timeout` seconds in line. Raises BackendSaturated."""
        seat = self.try_admit(backend)
        return seat if seat is not None else await self._wait(self._lines[backend.name], timeout)

    async def _wait(self, line: _Line, timeout: float) -> Seat:
        place: asyncio.Future[Seat] = asyncio.get_running_loop().create_future()
        line.waiting.append(place)
        try:
            async with asyncio.timeout(timeout):
                return await place
        except BaseException as error:
            if place.done() and not place.cancelled() and place.exception() is None:
                place.result().release()  # it came in the moment that we left
            place.cancel()
            line.settle()
            if isinstance(error, TimeoutError):
                raise BackendSaturated("All seats of the backend are taken.", retry_after=timeout) from None
            raise

    def reconcile(self, backends: Mapping[str, Backend]) -> None:
        """Take over what a new snapshot says of each backend; more seats are handed out at once.

        Every backend has its line from then on, so that a call of an older snapshot cannot begin one with
        the number of seats that its snapshot knew.
        """
        for name, backend in backends.items():
            line = self._lines.setdefault(name, self._line(backend))
            line.backend = backend
            line.wake()
        self._names = frozenset(backends)
        for line in list(self._lines.values()):
            line.settle()

    def _line(self, backend: Backend) -> _Line:
        return _Line(backend, self._idle, self._usable)

    def _idle(self, line: _Line) -> None:
        """A backend that the config no longer has is forgotten after its last use."""
        name = line.backend.name
        if self._names is not None and name not in self._names and self._lines.get(name) is line:
            del self._lines[name]

    def in_use(self) -> dict[str, int]:
        """Requests inside, by backend."""
        return {name: sum(line.inside.values()) for name, line in self._lines.items()}

    def waiting(self) -> dict[str, int]:
        """Requests in line, by backend."""
        return {name: sum(not f.done() for f in line.waiting) for name, line in self._lines.items()}
