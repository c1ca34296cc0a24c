"""The access log: every line is JSON, none is lost in a rotation, and a full disk costs lines only."""

import errno
import json
import logging
import os
import re
import resource
import stat
import subprocess
import sys
from ipaddress import ip_network

import pytest

from gateway.call import Call
from gateway.core.http.head import Head, read
from gateway.core.model import NOBODY, Identity, Route, Tenant, TenantId, TrustedProxies
from gateway.core.routing.snapshot import Snapshot
from gateway.telemetry import access_log as accesslog
from gateway.telemetry.access_log import AccessLog
from tests.eventually import poll

SNAPSHOT = Snapshot(1, 0.0, "", None, {}, {}, NOBODY)
ROUTE = Route(name="list products", path="/catalog/{rest*}", target_name="catalog", target=None)


def call(subject="alice", **found):
    made = Call("GET", "/catalog/x?secret=1", Head(), "192.0.2.7", SNAPSHOT)
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


def test_a_line_holds_what_is_known_of_a_call(log, lines):
    made = call(bytes_in=3, bytes_out=70000, queue_s=0.0015, backend_s=0.25, received_at=1700000000.0429)
    made.address = "unix:a.sock"
    log.write(made)
    (line,) = lines()
    assert line.pop("ms_total") >= 0
    assert line == {
        "time": "2023-11-14T22:13:20.042Z",
        "id": made.id,
        "peer": "192.0.2.7",
        "client": "192.0.2.7",
        "host": None,
        "user_agent": None,
        "referer": None,
        "method": "GET",
        "protocol": "HTTP/1.1",
        "path": "/catalog/x",
        "tenant": "acme",
        "subject": "alice",
        "issuer": None,
        "credential": None,
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
    assert [line[key] for key in ("tenant", "subject", "issuer", "credential")] == [None] * 4
    assert [line[key] for key in ("route", "backend", "address")] == [None] * 3
    assert (line["status"], line["code"]) == (404, "no_route")


def test_a_tenant_that_was_refused_is_named_as_its_token_says(log, lines):
    log.write(call(tenant=None, status=403, code="forbidden"))
    assert lines()[0]["tenant"] == "acme"


def test_a_refused_call_names_its_credential_so_that_one_that_leaked_is_found(log, lines):
    known = {"tenant": TenantId("acme"), "subject": "etl", "scopes": frozenset(), "expires": 0.0}
    token = Identity(**known, issuer="keycloak", credential_id="j-1")
    key = Identity(**known, kind="api_key", credential_id="7Kq0ZmP3xA")
    for identity in (token, key):
        log.write(call(identity=identity, tenant=None, status=403, code="forbidden"))
    told = [(line["issuer"], line["credential"]) for line in lines()]
    assert told == [("keycloak", "j-1"), ("api_key", "7Kq0ZmP3xA")]


def written(tmp_path, *calls, **more):
    log = AccessLog(str(tmp_path / "one.log"), **more)
    for made in calls:
        log.write(made)
    log.close()
    return [json.loads(line) for line in (tmp_path / "one.log").read_text().splitlines()]


def told(*lines, old=False, peer="192.0.2.7", trusted=NOBODY, **found):
    """A call whose head has these lines."""
    head = read("".join(f"\r\n{name}: {value}" for name, value in lines).encode())
    snapshot = Snapshot(1, 0.0, "", None, {}, {}, trusted)
    made = Call("GET", "/catalog/x?page=2", head, peer, snapshot)
    made.old = old
    for name, value in found.items():
        setattr(made, name, value)
    return made


def test_the_query_is_nowhere_unless_it_is_asked_for(tmp_path):
    made = told(("Referer", "https://a.example/x?q=secret#frag"), path="/catalog/x", query="q=secret")
    refused = told(target="/a%00b?q=secret#access_token=secret")
    fragment = told(target="/a%00b#access_token=secret")
    for line in written(tmp_path, made, refused, fragment):
        assert "query" not in line
        assert "secret" not in json.dumps(line)
        assert line["path"] in ("/catalog/x", "/a%00b")
    assert line["path"] == "/a%00b"


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("a=1&b=&c", "a=1&b=&c"),
        ("a=1&access_token=abc&b=2", "a=1&access_token=***&b=2"),
        ("ACCESS%5FTOKEN=abc", "ACCESS%5FTOKEN=***"),
        ("a=1;api_key=abc", "a=1;api_key=***"),
        ("X-Amz-Signature=abc&X-Amz-Credential=def", "X-Amz-Signature=***&X-Amz-Credential=***"),
        ("password=a=b", "password=***"),
        ("code=abc&state=xyz", "code=***&state=xyz"),
        ("eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0.c2ln", "***"),
        ("next=eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0.c2ln", "next=***"),
        ("", None),
    ],
)
def test_a_query_that_is_asked_for_hides_what_may_be_a_secret(tmp_path, query, shown):
    (line,) = written(tmp_path, told(path="/x", query=query), queries="yes")
    assert line["query"] == shown
    (path := tmp_path / "one.log").unlink()
    (line,) = written(tmp_path, told(path="/x", query=query), queries="all")
    assert line["query"] == (query or None)
    assert path.exists()


def test_an_address_never_shows_its_user(tmp_path):
    referer = ("Referer", "https://user:secret@a.example/x?token=secret&n=1")
    lines = written(tmp_path, told(referer), told(("Referer", "/x")), queries="yes")
    assert [line["referer"] for line in lines] == ["https://a.example/x?token=***&n=1", "/x"]


def test_who_the_client_is_and_how_it_speaks(tmp_path):
    proxies = TrustedProxies((ip_network("10.0.0.0/8"),))
    pairs = [("Host", "api.example"), ("User-Agent", "curl/8"), ("X-Forwarded-For", "203.0.113.9, 10.0.0.2")]
    behind = told(*pairs, peer="10.0.0.1", trusted=proxies, old=True)
    beside = told(*pairs, peer="192.0.2.7", trusted=proxies, status=101)
    first, second = written(tmp_path, behind, beside)
    names = ("peer", "client", "host", "user_agent", "protocol")
    both = ["api.example", "curl/8"]
    assert [first[name] for name in names] == ["10.0.0.1", "203.0.113.9", *both, "HTTP/1.0"]
    assert [second[name] for name in names] == ["192.0.2.7", "192.0.2.7", *both, "websocket"]


def test_requests_that_share_a_head_share_what_it_says_but_not_their_peers(tmp_path):
    one = told(("User-Agent", "curl/8"), peer="10.0.0.1")
    other = told(peer="10.0.0.2")
    other.head, other.snapshot = one.head, one.snapshot
    assert [line["peer"] for line in written(tmp_path, one, one, other)] == ["10.0.0.1"] * 2 + ["10.0.0.2"]


def test_what_never_became_a_request_has_no_protocol_and_no_path(tmp_path):
    made = Call("", "", Head(), "192.0.2.7", SNAPSHOT)
    (line,) = written(tmp_path, made)
    assert (line["protocol"], line["path"], line["host"], line["user_agent"]) == (None,) * 4


@pytest.mark.parametrize(
    "hostile", ['","status":500,"x":"', "line\nbreak\r\n\x00\x1b[31m", "\u2028 é \U0001f600"]
)
def test_a_path_cannot_write_fields_or_lines_of_its_own(tmp_path, hostile):
    (line,) = written(tmp_path, told(path="/" + hostile, status=200))
    assert line["path"] == "/" + hostile
    assert line["status"] == 200


def test_a_lone_surrogate_becomes_valid_unicode_for_readers_that_refuse_it(tmp_path):
    written(tmp_path, told(path="/a\udcff\ud800b"))
    text = (tmp_path / "one.log").read_text()
    assert json.loads(text)["path"] == "/a??b"
    assert "\\ud" not in text


def test_what_a_client_chooses_is_of_bounded_length(tmp_path):
    made = told(("User-Agent", "a" * 8000), path="/" + "p" * 8000, query="q=" + "q" * 8000)
    (line,) = written(tmp_path, made, queries="yes")
    assert all(len(line[name]) < 2100 for name in ("path", "query", "user_agent"))
    assert line["path"].endswith("p...")


def test_lines_that_are_long_on_purpose_do_not_fill_the_memory(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(accesslog, "_WAITING", 10_000)
    monkeypatch.setattr(accesslog, "FLUSH_INTERVAL", 60.0)
    log = AccessLog(str(tmp_path / "a.log"))
    for _ in range(100):
        log.write(told(path="/" + "p" * 1900))
    assert 0 < log.dropped < 100
    log.close()
    assert len((tmp_path / "a.log").read_text().splitlines()) == 100 - log.dropped


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
    poll(lambda: (tmp_path / "logs" / "access.log").read_text().count("\n") == 1)


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
            poll(path.exists)
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
    poll(lambda: log.write(call()) or "cannot be opened again" in caplog.text)
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
            poll(lambda before=dropped: log.dropped > before)
        log.write(call())  # at the latest now what the thread met is said
        poll(lambda: log.dropped == 4)
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        assert os.strerror(errno.ENOSPC) in caplog.text

        path.unlink()
        log.reopen()
        poll(path.exists)
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
        poll(lambda: log.dropped)
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

        def dropped():
            for _ in range(1000):
                log.write(call())  # it would wait for ever, if it waited for the reader
            return log.dropped

        poll(dropped)
        assert caplog.text.count("is written too slowly") == 1
        os.set_blocking(reader, False)
        taken = bytearray()

        def recovered():
            try:
                taken.extend(os.read(reader, 1 << 20))
            except BlockingIOError:
                log.write(call())
            return "takes lines again" in caplog.text

        poll(recovered)
        assert [json.loads(line)["status"] for line in taken.splitlines()[:-1]]
        assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]
    finally:
        os.close(reader)
        log.close()


def test_a_minus_is_stdout():
    program = (
        "from gateway.telemetry.access_log import AccessLog\n"
        "from gateway.call import Call\n"
        "from gateway.core.http.head import Head\n"
        "from gateway.core.model import NOBODY\n"
        "from gateway.core.routing.snapshot import Snapshot\n"
        "snapshot = Snapshot(1, 0.0, '', None, {}, {}, NOBODY)\n"
        "log = AccessLog('-')\n"
        "log.write(Call('GET', '/', Head(), '', snapshot))\n"
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
    assert log.reopened == 1  # nobody need wait for it
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_opened_fails_the_start(tmp_path):
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        AccessLog(str(tmp_path))


def test_a_fifo_without_a_reader_fails_the_start_and_one_with_a_reader_is_written(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with pytest.raises(OSError, match="a FIFO that nobody reads"):
        AccessLog(str(path))
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(str(path))
    log.write(call())
    log.close()
    assert json.loads(os.read(reader, 65536))["status"] == 200
    os.close(reader)


def test_closing_twice_is_closing_once(log, lines):
    log.write(call())
    log.close()
    log.close()
    assert len(lines()) == 1


def test_a_bug_in_its_thread_costs_the_lines_of_one_moment_and_is_told(log, lines, caplog):
    """Else nothing would ever be logged again."""
    log._put += 12
    log._lines.append("no ASCII: \xe9\n")
    poll(lambda: log._news)
    assert log._put == log._taken, "what is lost does not count as waiting"
    log.write(call(subject="bob"))
    (line,) = lines()
    assert line["subject"] == "bob"
    assert "A bug in the gateway: writing it failed" in caplog.text
