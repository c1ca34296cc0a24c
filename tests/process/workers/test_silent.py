"""A worker that is stopped, and one that dies while the certificates on disk are broken: what the others, the
operators and the end of the gateway notice of it."""

from __future__ import annotations

import http.client
import os
import signal
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.eventually import poll
from tests.process.test_serve import Serving
from tests.process.workers.test_workers import PATH, TWO, is_there, pids
from tests.support.certificates import Authority


def asked(serving: Serving) -> int:
    """The status of the answer on a new connection of TLS."""
    where = urlsplit(serving.public)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(where.hostname or "", where.port, timeout=60, context=context)
    try:
        connection.request("GET", PATH)
        return connection.getresponse().status
    finally:
        connection.close()


def verbose(serving: Serving) -> str:
    where = urlsplit(serving.admin)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
    try:
        connection.request("GET", "/readyz?verbose")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


@pytest.mark.whole
def test_one_that_dies_is_replaced_and_one_that_is_stopped_holds_up_nobody(tmp_path: Path) -> None:
    serving = Serving(tmp_path, more=TWO)
    pair = Authority(tmp_path / "tls").pair("a")
    text = serving.conf.read_text()
    port = urlsplit(serving.public).port
    text = text.replace(f"listen = 127.0.0.1:{port}", f"listen = 127.0.0.1:{port} tls=public")
    serving.conf.write_text(f"{text}[tls:public]\ncertificate = {pair.certificate}\nkey = {pair.key}\n")
    with serving.started() as process:
        serving.until_ready(process)
        Path(pair.certificate).write_text("half of it")
        os.kill(pids(serving)[0], signal.SIGKILL)
        serving.until(process, lambda: len(pids(serving)) == 3)
        assert [asked(serving) for _ in range(8)] == [200] * 8
        stopped = pids(serving)[2]
        os.kill(stopped, signal.SIGSTOP)
        serving.until_logged(process, f"(pid {stopped}) does not answer")
        assert [asked(serving) for _ in range(8)] == [200] * 8
        assert f"(pid {stopped}): silent" in verbose(serving)
        os.kill(stopped, signal.SIGCONT)
        serving.until_logged(process, f"(pid {stopped}) answers again")
        poll(lambda: "silent" not in verbose(serving))
        assert [asked(serving) for _ in range(8)] == [200] * 8
        os.kill(stopped, signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert not is_there(stopped)
    log = serving.log.read_text()
    assert "Traceback" not in log
    assert "PRIVATE KEY" not in log
