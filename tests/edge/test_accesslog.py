"""The access log: every line is JSON, none is lost in a rotation, and a full disk costs lines only."""

import json
import logging
import os
import re
import resource
import stat
import subprocess
import sys
import time

import pytest

from gateway.call import Call
from gateway.core.head import Head
from gateway.core.model import Identity, Route, Tenant, TenantId
from gateway.edge.accesslog import AccessLog

ROUTE = Route(name="list products", path="/catalog/{rest*}", target_name="catalog", target=None)


def call(subject="alice", **found):
    made = Call("GET", "/catalog/x?secret=1", Head(), "192.0.2.7", None)
    tenant = TenantId("acme")
    made.route = ROUTE
    made.identity = Identity(tenant, subject, frozenset(), 0.0)
    made.tenant = Tenant(tenant, "Acme")
    made.status = 200
    for name, value in found.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def log(tmp_path):
    access_log = AccessLog(str(tmp_path / "logs" / "access.log"))
    yield access_log
    access_log.close()


@pytest.fixture
def lines(log, tmp_path):
    """Closes the log and reads what is in its file."""

    def read():
        log.close()
        return [json.loads(line) for line in (tmp_path / "logs" / "access.log").read_text().splitlines()]

    return read


def until(condition):
    deadline = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def test_a_line_holds_what_is_known_of_a_call(log, lines):
    made = call(bytes_in=3, bytes_out=70000, queue_s=0.0015, backend_s=0.25, wall=1700000000.0429)
    made.address = "unix:a.sock"
    log.write(made)
    (line,) = lines()
    assert line.pop("ms_total") >= 0
    assert line == {
        "time": "2023-11-14T22:13:20.042Z",
        "id": made.id,
        "peer": "192.0.2.7",
        "method": "GET",
        "tenant": "acme",
        "subject": "alice",
        "route": "list products",
        "backend": "catalog",
        "address": "unix:a.sock",
        "status": 200,
        "code": None,
        "bytes_in": 3,
        "bytes_out": 70000,
        "ms_queue": 1.5,
        "ms_backend": 250.0,
    }


def test_the_whole_time_is_in_milliseconds(log, lines):
    made = call()
    made.started -= 2.5
    log.write(made)
    assert 2500 <= lines()[0]["ms_total"] < 3500


def test_what_is_not_known_is_null(log, lines):
    log.write(call(route=None, identity=None, tenant=None, status=404, code="no_route"))
    (line,) = lines()
    assert [line[key] for key in ("tenant", "subject", "route", "backend", "address")] == [None] * 5
    assert (line["status"], line["code"]) == (404, "no_route")


def test_a_tenant_that_was_refused_is_named_as_its_token_says(log, lines):
    log.write(call(tenant=None, status=403, code="forbidden"))
    assert lines()[0]["tenant"] == "acme"


def test_neither_the_path_nor_the_query_is_logged(log, tmp_path):
    log.write(call(path="/catalog/x", query="secret=1"))
    log.close()
    text = (tmp_path / "logs" / "access.log").read_text()
    assert text
    assert not re.search(r"catalog/x|secret", text)


@pytest.mark.parametrize(
    "hostile",
    [
        'a"b\\c',
        '","status":500,"x":"',
        "line\nbreak\r\n\x00\x1b[31m\x7f",
        "\u2028\u2029 é \U0001f600",
        "lone \udcff surrogate",
        "{}{0}%s",
    ],
)
def test_hostile_strings_stay_one_line_of_ascii_json_and_come_back(log, lines, tmp_path, hostile):
    log.write(call(hostile, method=hostile, id=hostile, peer=hostile, code=hostile))
    (line,) = lines()
    assert [line[key] for key in ("subject", "method", "id", "peer", "code")] == [hostile] * 5
    assert line["status"] == 200
    text = (tmp_path / "logs" / "access.log").read_bytes()
    assert text.isascii()
    assert not re.search(rb"[\x00-\x09\x0b-\x1f]", text)


def test_the_file_is_for_its_owner_and_group_and_grows_over_restarts(tmp_path):
    path = tmp_path / "deep" / "folder" / "access.log"
    for _ in range(2):
        log = AccessLog(str(path))
        log.write(call())
        log.close()
    assert len(path.read_text().splitlines()) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_lines_reach_the_file_without_closing(log, tmp_path):
    log.write(call())
    until(lambda: (tmp_path / "logs" / "access.log").read_text().count("\n") == 1)


def test_many_lines_are_all_written_in_their_order(log, lines):
    for number in range(5000):
        log.write(call(bytes_out=number))
    assert [line["bytes_out"] for line in lines()] == list(range(5000))


def test_a_rotation_loses_no_line(log, lines, tmp_path):
    path, old = tmp_path / "logs" / "access.log", tmp_path / "logs" / "access.log.1"
    for number in range(2000):
        if number == 700:
            path.rename(old)
        if number == 1000:
            log.reopen()
            until(path.exists)
        log.write(call(bytes_out=number))
    fresh = [line["bytes_out"] for line in lines()]
    rotated = [json.loads(line)["bytes_out"] for line in old.read_text().splitlines()]
    assert rotated + fresh == list(range(2000))
    assert fresh[0] >= 1000
    assert log.dropped == 0


def test_a_rotation_that_cannot_open_its_file_goes_on_in_the_old_one_and_says_so(log, tmp_path, caplog):
    folder = tmp_path / "logs"
    folder.rename(tmp_path / "moved")
    folder.write_text("in the way")
    log.reopen()
    until(lambda: log.write(call()) or "cannot be opened again" in caplog.text)
    log.close()
    assert (tmp_path / "moved" / "access.log").read_text().count("\n") >= 1
    assert log.dropped == 0


def test_a_full_disk_never_fails_a_call_and_is_said_once_and_once_when_it_is_over(tmp_path, caplog):
    path = tmp_path / "access.log"
    path.symlink_to("/dev/full")
    log = AccessLog(str(path))
    try:
        for _ in range(3):
            log.write(call())
            dropped = log.dropped
            until(lambda before=dropped: log.dropped > before)
        log.write(call())  # at the latest now what the thread met is said
        until(lambda: log.dropped == 4)
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        assert "No space left on device" in caplog.text

        path.unlink()
        log.reopen()
        until(path.exists)
        log.write(call())
    finally:
        log.close()
    assert len(path.read_text().splitlines()) == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]
    assert "is written again; 4 lines were dropped" in caplog.text


def test_a_line_that_a_full_disk_cut_spoils_no_other_line(tmp_path):
    path = tmp_path / "access.log"
    start = 1 << 30  # so that the limit on the size of files meets no other file of this process
    path.touch()
    os.truncate(path, start)
    log = AccessLog(str(path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (start + 400, before[1]))
    try:
        for number in range(10):
            log.write(call(bytes_out=number))
        until(lambda: log.dropped)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    log.write(call(bytes_out=10))
    log.close()
    with path.open("rb") as file:
        file.seek(start)
        written = file.read().splitlines()
    kept, torn, after = written[:-2], written[-2], written[-1]
    assert [json.loads(line)["bytes_out"] for line in kept] == list(range(len(kept)))
    with pytest.raises(ValueError):
        json.loads(torn)
    assert json.loads(after)["bytes_out"] == 10
    assert log.dropped == 10 - len(kept)


def test_a_reader_that_stalls_holds_up_no_call_and_costs_lines_once_the_queue_is_full(caplog):
    reader, writer = os.pipe()
    log = AccessLog(f"/dev/fd/{writer}", queue_limit=1000)
    os.close(writer)
    try:
        began = time.monotonic()
        for _ in range(5000):
            log.write(call())
            time.sleep(0.0001)  # longer than a flush in all, so that the thread is stuck in a write
        assert time.monotonic() - began < 4.0
        assert log.dropped > 0
        assert caplog.text.count("is written too slowly") == 1
        os.set_blocking(reader, False)
        taken = bytearray()

        def recovered():
            try:
                taken.extend(os.read(reader, 1 << 20))
            except BlockingIOError:
                log.write(call())
            return "takes lines again" in caplog.text

        until(recovered)
        assert [json.loads(line)["status"] for line in taken.splitlines()[:-1]]
        assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]
    finally:
        os.close(reader)
        log.close()


def test_a_minus_is_stdout():
    program = (
        "from gateway.edge.accesslog import AccessLog\n"
        "from gateway.call import Call\n"
        "from gateway.core.head import Head\n"
        "log = AccessLog('-')\n"
        "log.write(Call('GET', '/', Head(), '', None))\n"
        "log.reopen()\n"
        "log.close()\n"
        "print('still open')\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    line, after = ran.stdout.splitlines()
    assert json.loads(line)["method"] == "GET"
    assert after == "still open"


def test_an_empty_path_logs_nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = AccessLog("")
    log.write(call())
    log.reopen()
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_opened_fails_the_start(tmp_path):
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        AccessLog(str(tmp_path))


def test_closing_twice_is_closing_once(log, lines):
    log.write(call())
    log.close()
    log.close()
    assert len(lines()) == 1
