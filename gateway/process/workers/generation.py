"""A generation of workers, as the master sees it: the fork server that makes them."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.process.workers.fork_server import MESSAGE, PROTOCOL

L = logging.getLogger(__name__)
_START = 60.0  # seconds that loading the code may take on a busy machine
_END = 5.0  # seconds for its end, once its workers have ended
_PROGRAM = "import sys; sys.path[:] = sys.argv[3:]; from {0} import main; main(int(sys.argv[1]), sys.argv[2])"


class NoWorkers(OSError):
    """Workers cannot be started; the text says why."""


class Generation:
    """`start` once; `end` once. module: whose main(descriptor, conf) is the fork server's program. conf: the
    process config. on_pid(worker, pid): a worker was made. on_end(pid, code): one has ended. on_lost: the
    server has ended by itself."""

    def __init__(
        self,
        module: str,
        conf: str,
        on_pid: Callable[[str, int], None],
        on_end: Callable[[int, int], None],
        on_lost: Callable[[Generation], None],
    ) -> None:
        self._program = _PROGRAM.format(module)
        self._conf = conf
        self._on_pid, self._on_end, self._on_lost = on_pid, on_end, on_lost
        self._process: asyncio.subprocess.Process | None = None
        self._sock: socket.socket | None = None
        self._ready: asyncio.Future[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether workers can be asked for."""
        return self._sock is not None

    async def start(self) -> None:
        """Load the code anew, in a process of its own. Raises NoWorkers."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        root = str(Path(__file__).parents[3])
        paths = [root, *(str(Path(path).absolute()) for path in sys.path)]
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", self._program, str(theirs.fileno()), self._conf, *paths),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            ours.close()
            raise NoWorkers(f"the process that makes workers does not start: {error.strerror}") from None
        finally:
            theirs.close()
        self._sock, self._ready = ours, loop.create_future()
        loop.add_reader(ours, self._receive)
        try:
            async with asyncio.timeout(_START):
                await self._ready
        except TimeoutError:
            await self.end()
            raise NoWorkers(f"the process that makes workers was not ready after {_START:g} s") from None
        except BaseException:
            await self.end()
            raise

    def fork(self, worker: str, order: dict[str, Any], descriptors: Sequence[int]) -> None:
        """Make a worker that gets these descriptors. Raises NoWorkers."""
        if self._sock is None:
            raise NoWorkers("the process that makes workers has ended")
        message = json.dumps({"worker": worker, **order}).encode()
        try:
            socket.send_fds(self._sock, [message], descriptors)
        except OSError as error:
            raise NoWorkers(f"no worker can be made: {error.strerror}") from None

    async def end(self) -> None:
        """Let it go: what is left of its workers ends with it."""
        self._forget()
        process = self._process
        if process is None:
            return
        try:
            async with asyncio.timeout(_END):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _forget(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()

    def _receive(self) -> None:
        assert self._sock is not None and self._ready is not None
        try:
            message = self._sock.recv(MESSAGE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            message = b""
        if not message:
            self._lost()
            return
        told = json.loads(message)
        if "ready" in told and told["protocol"] != PROTOCOL:
            text = "the code that is installed now does not go with the master that runs; restart the gateway"
            self._ready.set_exception(NoWorkers(text))
        elif "ready" in told:
            self._ready.set_result(None)
        elif "refused" in told:
            self._ready.set_exception(NoWorkers(told["refused"]))
        elif "forked" in told:
            self._on_pid(told["forked"], told["pid"])
        elif "ended" in told:
            self._on_end(told["ended"], told["code"])
        elif "failed" in told:
            L.error("worker %s: %s", told["failed"], told["why"])

    def _lost(self) -> None:
        assert self._ready is not None
        self._forget()
        if not self._ready.done():
            text = "the process that makes workers ended at once; what it said is on standard error"
            self._ready.set_exception(NoWorkers(text))
        else:
            self._on_lost(self)
