"""The ordinary log never holds up who logs, and says what it has dropped."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.telemetry.logs import LogThread
from tests.eventually import END, eventually

ROUTING = "version: 1\ntenants: { acme: {} }\nroutes:\n- { name: d, path: '/d/{rest*}', target: documents }\n"


class Reader(logging.Handler):
    """A handler that may hang, and notes what it was given, and in which thread."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.go_on.set()
        self.has_one = threading.Event()
        self.lines: list[str] = []
        self.threads: set[int] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.has_one.set()
        assert self.go_on.wait(END)
        self.threads.add(threading.get_ident())
        self.lines.append(self.format(record))


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.go_on.set()


@pytest.fixture
def logger(reader: Reader) -> logging.Logger:
    made = logging.Logger("test", logging.INFO)
    made.addHandler(reader)
    return made


def test_lines_are_written_in_their_order_by_another_thread(logger: logging.Logger, reader: Reader) -> None:
    thread = LogThread.before(logger, [None, reader])
    for number in range(100):
        logger.info("line %d", number)
    try:
        raise KeyError("why")
    except KeyError:
        logger.exception("it failed")
    thread.finish(logger)
    assert reader.lines[:100] == [f"line {number}" for number in range(100)]
    assert reader.lines[100].startswith("it failed\n    Traceback")
    assert reader.lines[100].endswith("KeyError: 'why'")
    assert threading.get_ident() not in reader.threads
    logger.info("at the end")
    assert reader.lines[101:] == ["at the end"]


@pytest.mark.asyncio
async def test_a_reader_that_hangs_holds_nobody_up_and_is_told_what_it_missed(
    logger: logging.Logger, reader: Reader
) -> None:
    reader.go_on.clear()
    logger.removeHandler(reader)
    thread = LogThread([reader], limit=10)
    logger.addHandler(thread)
    logger.info("line 0")
    assert reader.has_one.wait(END)
    for number in range(1, 50):
        logger.info("line %d", number)
    reader.go_on.set()
    await eventually(lambda: len(reader.lines) >= 11)
    assert reader.lines == [f"line {number}" for number in range(11)], "one in hand, ten that wait"
    logger.info("there is room again")
    thread.finish(logger)
    told = "39 lines of this log were dropped: whoever reads it was too slow"
    assert reader.lines[11:] == [told, "there is room again"]


def test_a_reader_that_never_goes_on_is_given_up(logger: logging.Logger, reader: Reader) -> None:
    reader.go_on.clear()
    thread = LogThread.before(logger, [reader])
    logger.info("nobody reads this")
    assert not thread.finish(logger, timeout=0.05)
    logger.error("nor this")  # and it does not wait
    assert reader.lines == []


def test_what_is_to_be_done_between_two_lines_is(logger: logging.Logger, reader: Reader) -> None:
    thread = LogThread.before(logger, [reader])
    logger.info("before")
    thread.call(lambda: reader.lines.append("rotated"))
    logger.info("after")
    thread.finish(logger)
    assert reader.lines == ["before", "rotated", "after"]


@pytest.mark.parametrize("what", ["work", "handler"])
def test_what_fails_in_the_thread_does_not_end_the_log(
    logger: logging.Logger, reader: Reader, what: str
) -> None:
    """A file whose disk is full cannot even be closed without an error, and that is when logs are rotated."""

    def full(record: object = None) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    thread = LogThread.before(logger, [reader])
    logger.info("before")
    if what == "work":
        thread.call(full)
    else:
        thread.call(lambda: setattr(reader, "emit", full))
        logger.info("this is lost")
        thread.call(lambda: delattr(reader, "emit"))
    logger.info("after")
    assert thread.finish(logger)
    assert reader.lines == ["before", "after"]


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.asyncio
async def test_a_gateway_whose_log_nobody_reads_serves_on(tmp_path: Path) -> None:
    ports = _free_port(), _free_port()
    listen = [f"listen = 127.0.0.1:{port}" for port in ports]
    conf = tmp_path / "gateway.conf"
    where = "workers = 1\nrouting = routing.yaml\ndata = var\n"
    conf.write_text(f"[gateway]\n{listen[0]}\n{where}[admin]\n{listen[1]}\n")
    (tmp_path / "routing.yaml").write_text(ROUTING)
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    command = [sys.executable, "-m", "gateway", "serve", "-c", str(conf)]
    environment = {**os.environ, "ASABFORCECONSOLE": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=writing, env=environment)
    os.close(writing)

    def alive() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{ports[1]}/readyz", timeout=END) as response:
                return int(response.status) == 200
        except OSError:
            return False

    try:
        await eventually(alive)
        for _ in range(100):  # a line each, of which the pipe holds a few dozen
            process.send_signal(signal.SIGUSR1)
            assert alive()
        process.send_signal(signal.SIGTERM)
        assert process.wait(END) == 0
    finally:
        process.kill()
        process.wait()
        os.close(reading)


INTERRUPTED = """
import logging, signal
from gateway.telemetry.logs import LogThread

logger = logging.Logger("test", logging.INFO)
thread = LogThread.before(logger, [logging.NullHandler()])
signal.signal(signal.SIGALRM, lambda *_: logger.info("in a signal's handler"))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for number in range(50_000):
    logger.info("line %d", number)
signal.setitimer(signal.ITIMER_REAL, 0)
print(thread.finish(logger))
"""


def test_a_signal_in_the_midst_of_a_line_may_log_another_one() -> None:
    """A lock that the interrupted line holds would stop the process for ever."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=END, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)


def test_what_a_line_quotes_is_no_line_of_its_own_and_no_order_to_a_terminal(
    logger: logging.Logger, reader: Reader
) -> None:
    thread = LogThread.before(logger, [reader])
    logger.info("a child said: %s", "\x1b[2Jok\r\n2026-01-01 00:00:00 ERROR forged")
    logger.info("", extra={"_struct_data": {"al.p": "/\x1b]0;x\x07", "al.c": 200}})
    assert thread.finish(logger)
    assert reader.lines[0] == "a child said: \\x1b[2Jok\\x0d\n    2026-01-01 00:00:00 ERROR forged"


def test_what_is_to_be_done_between_two_lines_is_done_also_when_the_queue_is_full(
    logger: logging.Logger, reader: Reader
) -> None:
    """Else a file that was renamed would be written to for ever."""
    reader.go_on.clear()
    thread = LogThread([reader], limit=3)
    logger.removeHandler(reader)
    logger.addHandler(thread)
    for number in range(20):
        logger.info("line %d", number)
    done = threading.Event()
    thread.call(done.set)
    reader.go_on.set()
    assert done.wait(END)
    assert thread.finish(logger)
