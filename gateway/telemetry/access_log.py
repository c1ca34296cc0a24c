"""The access log: one JSON line per call.

A call only adds its line to a queue in memory. A thread writes what has gathered, five times a second, so
that a slow disk or a stalled reader of stdout never holds up a request.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections import deque
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path

from gateway.call import Call
from gateway.core.http.tickets import PREFIX
from gateway.core.policy.forwarding import chain
from gateway.core.redact import Queries, redact_query, redact_url
from gateway.runtime.periodic import Boundary

L = logging.getLogger("gateway.accesslog")

FLUSH_INTERVAL = 0.2  # seconds
QUEUE_LIMIT = 50_000  # lines, some 30 MB; more than that waiting means that nobody takes them
_WAITING = 64_000_000  # characters: a line may be long on purpose
_LONGEST = 2000  # characters of a field that a client chooses
# Characters of a piece: to join and to encode it holds the interpreter's lock, for a fifth of a millisecond.
# To get the lock from a busy loop again, after each write, costs some 60 wakes: so there are few pieces.
_AT_ONCE = 512 * 1024
_CLOSE_TIMEOUT = 2.0
_STDOUT = 1
_NOBODY = ',"tenant":null,"subject":null,"issuer":null,"credential":null'
_NEWLINE = ord("\n")


class AccessLog:
    """Writes to `path`: a file (made with mode 0640, its folder too), "-" for stdout, "" for nowhere.

    Raises OSError when the file cannot be opened at the start. Later a failure (disk full) costs lines, never
    a request: they are counted in `dropped`, and the ordinary log says it once, and once when it is over.
    """

    def __init__(self, path: str, *, queries: Queries = "no", queue_limit: int = QUEUE_LIMIT) -> None:
        self._path = path
        self._queries = queries
        self._queue_limit = queue_limit
        self._lines: deque[str] = deque()
        self._second = 0
        self._second_text = ""
        self._put = self._taken = 0  # characters, ever: counted by whoever calls write(), by the thread
        self._refused = 0  # counted by whoever calls write()
        self._unwritten = 0  # counted by the thread
        self._full = False
        self._failing = False
        self._torn = False  # the last thing written is the beginning of a line
        self._news: deque[tuple[int, str]] = deque()  # from the thread, for the ordinary log
        self.reopened = 0  # how often it was tried, whatever came of it; counted by the thread
        self._reopen = threading.Event()
        self._closed = threading.Event()
        self._fd = self._open() if path else -1
        if path:
            self._thread = threading.Thread(target=self._write_until_closed, name="access log", daemon=True)
            self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines lost so far."""
        return self._refused + self._unwritten

    def write(self, call: Call) -> None:
        """Log a call that ended."""
        if not self._path:
            return
        if len(self._lines) < self._queue_limit and self._put - self._taken < _WAITING:
            line = self._line(call)
            self._put += len(line)
            self._lines.append(line)
        else:
            self._refuse()
        if self._news:
            self.tell()

    def reopen(self) -> None:
        """Go on in a new file of the same name, because the old one was renamed (log rotation). `reopened`
        grows when that was tried."""
        if self._path:
            self._reopen.set()
        else:
            self.reopened += 1

    def close(self, patience: float = _CLOSE_TIMEOUT) -> None:
        """Write what is left. patience: seconds for a disk or a reader that does not take it."""
        if not self._path or self._closed.is_set():
            return
        self._closed.set()
        self._thread.join(patience)
        if self._thread.is_alive():
            L.error("The access log %s takes no more lines: %d are lost.", self._path, len(self._lines))
        self.tell()

    def _line(self, call: Call) -> str:
        """The call as a JSON object (RFC 8259), in ASCII. What is not known is null.

        time: when the head had arrived (RFC 3339, UTC). peer: the other end of the connection; client: the
        one that a trusted proxy names, else the peer. path: in its canonical form, as it was matched; query:
        its own field, if asked for. issuer, credential: its name (`api_key`: a key of ours), and the token's
        `jti` or the key's id. address: the backend's that was tried last. ms_queue: waiting for a
        seat; ms_backend: until its response ended; ms_total: from the head to the end of the response.
        """
        received = call.received_at
        second = int(received)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        route, identity = call.route, call.identity
        # By hand, at less than half the cost of json.dumps; strings get the JSON encoder's own quoting.
        return (
            f'{{"time":"{self._second_text}.{int((received - second) * 1000):03d}Z","id":{quoted(call.id)}'
            f'{self._client(call)},"method":{quoted(call.method)},"protocol":{_protocol(call)}'
            f"{self._where(call)}"
            f"{_NOBODY if identity is None else identity.logged}"
            f',"route":{quoted(route.name) if route is not None else "null"}'
            f',"backend":{quoted(route.target_name) if route is not None else "null"}'
            f',"address":{quoted(call.address) if call.address else "null"}'
            f',"status":{call.status},"code":{quoted(call.code) if call.code else "null"}'
            f',"bytes_in":{call.bytes_in},"bytes_out":{call.bytes_out}'
            f',"ms_queue":{call.queue_s * 1000:.3f},"ms_backend":{call.backend_s * 1000:.3f}'
            f',"ms_total":{(time.perf_counter() - call.started) * 1000:.3f}}}\n'
        )

    def _client(self, call: Call) -> str:
        """What the head says of the client: made once for all requests with the same head."""
        head = call.head
        trusted = call.snapshot.trusted
        made = head.logged
        if made is not None and made[0] is trusted and made[1] == call.peer:
            return made[2]
        agents, referers = head.values(b"user-agent"), head.values(b"referer")
        referer = redact_url(referers[0], self._queries) if referers else ""
        client = chain(call.peer, head.forwarded, trusted)[0] if head.forwarded else call.peer
        text = (
            f',"peer":{quoted(call.peer)},"client":{quoted(client)}'
            f',"host":{_text(head.hosts[0]) if head.hosts else "null"}'
            f',"user_agent":{_text(agents[0]) if agents else "null"},"referer":{_text(referer)}'
        )
        head.remember_logged(trusted, call.peer, text)
        return text

    def _where(self, call: Call) -> str:
        path = call.path
        if not path and call.target.startswith("/"):
            path = call.target.partition("?")[0].partition("#")[0]
        if PREFIX in path:  # a ticket in the wrong place has not been used up
            path = redact_query(path, "all")
        if self._queries == "no":
            return f',"path":{_text(path)}'
        query = call.query if call.path else call.target.partition("?")[2]
        text = redact_query(query.partition("#")[0], self._queries)
        return f',"path":{_text(path)},"query":{_text(text)}'

    def _refuse(self) -> None:
        self._refused += 1
        if not self._full:
            self._full = True
            L.error(
                "The access log %s is written too slowly: %d lines wait. Further ones are dropped until it"
                " catches up; requests go on. Is the disk or the reader of stdout stalled?",
                *(self._path, len(self._lines)),
            )

    def tell(self) -> None:
        """Say in the ordinary log what the thread met. On the caller's thread, because handlers of that log
        may belong to its loop."""
        while self._news:
            level, text = self._news.popleft()
            L.log(level, "%s", text)

    # --- the thread --------------------------------------------------------------------------------------

    def _write_until_closed(self) -> None:
        boundary = Boundary("writing it", report=self._bug)
        while not self._closed.wait(FLUSH_INTERVAL):
            with boundary:
                self._write_gathered()
            if self._reopen.is_set():
                self._reopen.clear()
                with boundary:
                    self._open_again()
                self.reopened += 1
        with boundary:
            self._write_gathered()
        if self._fd != _STDOUT:
            os.close(self._fd)

    def _write_gathered(self) -> None:
        while self._lines:
            taken, size = [], 0
            while self._lines and size < _AT_ONCE:
                line = self._lines.popleft()
                taken.append(line)
                size += len(line)
            text = "".join(taken)
            try:
                self._write_all(text.encode("ascii"))
            finally:
                self._taken += len(text)
        if self._full:
            self._full = False
            self._note(logging.WARNING, f"takes lines again; {self.dropped} were dropped so far")

    def _write_all(self, data: bytes) -> None:
        rest = memoryview(b"\n" + data if self._torn else data)  # a torn line spoils itself, not the next one
        try:
            while rest:
                written = os.write(self._fd, rest)
                self._torn = rest[written - 1] != _NEWLINE
                rest = rest[written:]
        except OSError as error:
            self._unwritten += min(bytes(rest).count(b"\n"), data.count(b"\n"))
            if not self._failing:
                self._failing = True
                text = f"cannot be written: {error.strerror}. Lines are dropped until it can; requests go on"
                self._note(logging.ERROR, text)
            return
        if self._failing:
            self._failing = False
            self._note(logging.WARNING, f"is written again; {self.dropped} lines were dropped so far")

    def _bug(self, text: str, error: Exception) -> None:
        self._note(logging.ERROR, f"loses lines. {text}: {error!r}")

    def _note(self, level: int, text: str) -> None:
        self._news.append((level, f"The access log {self._path} {text}."))

    def _open(self) -> int:
        if self._path == "-":
            return _STDOUT
        path = Path(self._path)
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
        try:
            fd = os.open(path, flags | os.O_NONBLOCK, 0o640)  # else opening a FIFO waits for its reader
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            text = f"{path}: a FIFO that nobody reads, or a socket; start its reader, or name a file"
            raise OSError(text) from None
        os.set_blocking(fd, True)
        return fd

    def _open_again(self) -> None:
        try:
            fd = self._open()
        except OSError as error:
            reason = error.strerror or error  # the name of the file stands before it
            self._note(logging.ERROR, f"cannot be opened again: {reason}. Lines go on to the old file")
            return
        if self._fd != _STDOUT:
            os.close(self._fd)
            self._note(logging.INFO, "was opened again")
        self._fd = fd
        self._torn = False


def _protocol(call: Call) -> str:
    if call.status == 101:
        return '"websocket"'
    if not call.method:
        return "null"  # it never became a request
    return '"HTTP/1.0"' if call.old else '"HTTP/1.1"'


def _text(text: str) -> str:
    """A text that a client chose as JSON: of bounded length, and valid Unicode for whoever reads it. null
    for none."""
    if not text:
        return "null"
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "..."
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()  # a lone surrogate, which many readers refuse
    return quoted(text)
