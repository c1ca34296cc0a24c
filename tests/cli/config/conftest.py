"""A gateway that runs, for the commands that ask it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from gateway.cli.config import TOKEN_VARIABLE
from gateway.cli.main import main
from tests.eventually import END
from tests.process.test_serve import Serving

ROUTING = """\
version: 1
# Where the requests go.
backends:
  fast: { kind: uvicorn, addresses: ["http://127.0.0.1:1"] } # nobody is there
tenants:
  acme: {}
routes:
  - name: fast
    path: /fast/{rest*}
    target: fast
    public: true
    timeouts: { total: 5s }
  - { name: open, path: /open, target: fast, public: true }
"""
SLOWER = ROUTING.replace("5s", "9s")
BAD = ROUTING.replace("target: fast\n    public", "target: fats\n    public")


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Operated:
    """A gateway process, and the command line beside it."""

    def __init__(self, serving: Serving, capsys: pytest.CaptureFixture[str] | None = None) -> None:
        self.serving = serving
        self.conf = serving.conf
        self.routing = serving.folder / "routing.yaml"
        self.data = serving.folder / "var"
        self.capsys = capsys

    def run(self, *words: str) -> Outcome:
        """Run a command in this process, as a program without a terminal would."""
        assert self.capsys is not None
        self.capsys.readouterr()
        code = main([*words, "-c", str(self.conf)])
        return Outcome(code, *self.capsys.readouterr())

    def live(self) -> tuple[int, str]:
        """The live revision's number and text."""
        page = self.run("revisions", "--json", "--limit", "1").json
        number = page["revisions"][0]["number"]
        return number, self.run("revisions", str(number), "--text").out

    def file(self, text: str, name: str = "new.yaml") -> str:
        path = self.serving.folder / name
        path.write_text(text)
        return str(path)

    def request(self, path: str) -> int:
        try:
            with urllib.request.urlopen(self.serving.public + path, timeout=30) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    @contextmanager
    def terminal(self, *words: str, **environment: str) -> Iterator[Terminal]:
        """Run a command on a terminal of 80 columns."""
        ours, theirs = os.openpty()
        given = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "40", **environment}
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", *words, "-c", str(self.conf)],
            stdin=theirs, stdout=theirs, stderr=theirs, env=given, start_new_session=True,
            preexec_fn=_take_terminal,
        )  # fmt: skip
        os.close(theirs)
        try:
            yield Terminal(ours, process)
        finally:
            process.kill()
            process.wait()
            os.close(ours)


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C is a signal,
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # also where the tests were begun with it ignored


class Terminal:
    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self.descriptor = descriptor
        self.process = process
        self.shown = ""

    def until(self, text: str) -> None:
        """Read until it shows the text."""
        while text not in self.shown:
            ready, _, _ = select.select([self.descriptor], [], [], END)
            assert ready, self.shown
            try:
                piece = os.read(self.descriptor, 4096)
            except OSError:  # its end is closed
                piece = b""
            assert piece, f"it ended without {text!r}: {self.shown}"
            self.shown += piece.decode()

    def type(self, keys: str) -> None:
        os.write(self.descriptor, keys.encode())

    def ended(self) -> int:
        """Its exit code, with all that it showed."""
        while True:
            try:
                if not (piece := os.read(self.descriptor, 4096)):
                    break
            except OSError:
                break
            self.shown += piece.decode()
        return self.process.wait(END)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    serving = Serving(tmp_path_factory.mktemp("gateway"), ROUTING)
    with serving.started() as process:
        serving.until_ready(process)
        yield serving


@pytest.fixture
def operated(
    serving: Serving, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Operated:
    """The running gateway, with the first config live."""
    for name in (TOKEN_VARIABLE, "VISUAL", "EDITOR", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    operated = Operated(serving, capsys)
    assert operated.run("apply", operated.file(ROUTING, "first.yaml"), "--yes", "--json").code == 0
    return operated
