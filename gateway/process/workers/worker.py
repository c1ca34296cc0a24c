"""One worker process, as its master knows it: how far it is, whether it answers, and how it is ended."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import Any

from gateway.process.workers.generation import NoWorkers
from gateway.process.workers.sockets import Address
from gateway.runtime.channel import Channel

_START = 60.0  # seconds until a worker has to be ready
_CODE = 1.0  # seconds that are waited for the exit code of a worker that is gone


class Worker:
    """One worker process. number: its place among them, from 0. id: of no other one of this master. pid: 0
    until it is known. addresses: that it listens on. ready: it serves. leaving: it was told to end. paused:
    no new clients come to it. channel: once it can be told and asked. why: it cannot start, "" unless it said
    so. gone, code: are done when it has ended, and with its exit code."""

    def __init__(self, number: int, id_: str, addresses: tuple[Address, ...]) -> None:
        self.number, self.id, self.addresses = number, id_, addresses
        self.pid = 0
        self.ready = self.leaving = self.paused = False
        self._silent_since: float | None = None
        self.channel: Channel | None = None
        self.why = ""
        self._handle = -1  # of the process: its pid may be another's, once it has ended
        loop = asyncio.get_running_loop()
        self._outcome: asyncio.Future[None] = loop.create_future()  # of its start
        self.gone: asyncio.Future[None] = loop.create_future()
        self.code: asyncio.Future[int] = loop.create_future()

    def __str__(self) -> str:
        return f"worker {self.number} (pid {self.pid})"

    def has_pid(self, pid: int) -> None:
        """The process is there."""
        self.pid = pid
        with suppress(OSError):  # it has ended already
            self._handle = os.pidfd_open(pid)

    def forget(self) -> None:
        """It has ended, and is not to be ended any more."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def is_ready(self) -> None:
        """It serves."""
        self.ready = True
        if not self._outcome.done():
            self._outcome.set_result(None)

    def failed(self, why: str) -> None:
        """It cannot start."""
        self.why = why

    @property
    def silent(self) -> bool:
        """Whether it does not answer."""
        return self._silent_since is not None

    def is_heard(self) -> bool:
        """It answers. Gives whether it did not before."""
        before, self._silent_since = self._silent_since, None
        return before is not None

    def is_not_heard(self, asked: float, now: float) -> float:
        """It has not answered since then. Gives for how many seconds it has been silent."""
        if self._silent_since is None:
            self._silent_since = asked
        return now - self._silent_since

    def has_gone(self) -> None:
        """It has ended, or its channel."""
        self.ready = False
        if not self._outcome.done():
            self._outcome.set_result(None)
        if not self.gone.done():
            self.gone.set_result(None)

    def speaks_over(self, channel: Channel) -> None:
        """This is how it is told and asked."""
        self.channel = channel

    def is_paused(self) -> None:
        """No new clients come to it any more."""
        self.paused = True

    def is_resumed(self) -> None:
        """New clients come to it again."""
        self.paused = False

    def has_to_leave(self) -> None:
        """It ends what it has in hand, and then itself: also where somebody has stopped it."""
        self.leaving = True
        self._send(signal.SIGCONT)

    async def started(self) -> None:
        """Wait until it is ready. Raises NoWorkers."""
        try:
            async with asyncio.timeout(_START):
                await asyncio.shield(self._outcome)
        except TimeoutError:
            self.kill()
            raise NoWorkers(f"{self} was not ready after {_START:g} s") from None
        if not self.ready:
            raise NoWorkers(self.why or f"{self} ended before it was ready{await self.exit_text()}")

    async def exit_text(self) -> str:
        """How it ended, as far as that is known."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CODE):
                code = await asyncio.shield(self.code)
                return f" ({_exit(code)})"
        return ""

    def tell(self, name: str, body: Any = None) -> None:
        """Send it a message, if it is there."""
        if self.channel is not None:
            self.channel.tell(name, body)

    def kill(self) -> None:
        """End it at once."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self._handle >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)


def _exit(code: int) -> str:
    """An exit code for people."""
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return f"signal {-code}, {signal.Signals(-code).name}"
    return f"signal {-code}"
