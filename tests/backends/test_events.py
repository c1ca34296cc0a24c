"""The ASAB application on a unix socket, and its ring of events."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time

import pytest

from backends.events import ring, stream
from tests.backends.servers import FORWARDED, ROOT, running
from tests.backends.signing import assertion
from tests.eventually import AT_ONCE, poll

SERVE = ("-m", "backends.events", "--socket", "{socket}")
PREFIX = {"X-Forwarded-Prefix": "/events", **FORWARDED}


@pytest.fixture(scope="module")
def events():
    with running(*SERVE) as server:
        yield server


def publish(events, tenant, *types):
    """The ids of the new events."""
    answer = events.call(
        "POST", "/events", tenant, [{"type": type, "data": {"from": tenant}} for type in types]
    )
    assert answer.status == 201, answer.body
    return [item["id"] for item in answer.json["items"]]


@contextlib.contextmanager
def listening(events, tenant, **headers):
    """An open stream whose first frame, a comment or `_reset`, has been read."""
    with events.open("GET", "/events/stream", tenant, **headers) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        response.first = frame(response)
        yield response


def frame(response):
    """The next frame as {field: value}; {} at the end; a comment has the field ""."""
    fields = {}
    while line := response.readline().decode().rstrip("\n"):
        name, _, value = line.partition(":")
        fields[name] = value.strip()
    return fields


def open_streams(events):
    return events.call("GET", "/metrics", scope="events:metrics").json["streams"]["open"]


def wait_for_streams(events, count):
    poll(lambda: open_streams(events) == count)


@pytest.mark.parametrize("path", ["/", "/events", "/events/stream", "/metrics", "/nowhere"])
def test_a_request_without_an_identity_is_refused(events, path):
    assert events.call("GET", path, tenant=None).is_problem(401)


def test_a_repeated_identity_is_refused(events):
    line = f"X-Gateway-Identity: {assertion()}\r\n".encode()
    request = b"GET /events HTTP/1.1\r\nHost: a\r\n" + line + line + b"Connection: close\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(events.socket_path)
        client.sendall(request)
        assert client.recv(100).startswith(b"HTTP/1.1 401 ")


def test_an_early_refusal_reaches_a_caller_that_is_still_sending(events):
    large = b"x" * 5_000_000
    assert events.call("POST", "/events", None, large).is_problem(401)
    assert events.call("POST", "/events", body=large).is_problem(413)
    assert events.call("POST", "/nowhere", body=large).is_problem(404)


def test_events_are_kept_in_order(events):
    assert events.call("GET", "/events", "fresh").json["items"] == []
    single = events.call("POST", "/events", "order", {"type": "a", "data": [1, None, "\ud800\n"]})
    assert single.status == 201
    ids = publish(events, "order", "b", "c")
    items = events.call("GET", "/events", "order").json["items"]
    assert items[0] == single.json["items"][0]
    assert items[0]["data"] == [1, None, "\ud800\n"]
    assert [item["id"] for item in items[1:]] == ids
    assert [item["type"] for item in events.call("GET", "/events?limit=2", "order").json["items"]] == [
        "b",
        "c",
    ]


def test_a_stream_tells_of_new_events_at_once(events):
    publish(events, "live", "before")
    with listening(events, "live") as response:
        begun = time.monotonic()
        [first] = publish(events, "live", "after")
        told = frame(response)
        assert time.monotonic() - begun < AT_ONCE
        assert (told["id"], told["event"]) == (first, "after")
        assert '"data": {"from": "live"}' in told["data"]


def test_tenants_never_hear_of_each_other(events):
    with listening(events, "left") as left, listening(events, "right") as right:
        publish(events, "left", "l1")
        publish(events, "right", "r1")
        publish(events, "left", "l2")
        publish(events, "right", "r2")
        assert [frame(left)["event"], frame(left)["event"]] == ["l1", "l2"]
        assert [frame(right)["event"], frame(right)["event"]] == ["r1", "r2"]
    assert b"left" not in events.call("GET", "/events", "right").body
    # Another tenant's id resumes nothing: it is as unknown as one that never was.
    [theirs] = publish(events, "left", "l3")
    for last_id in (theirs, "00000000-1"):
        with listening(events, "right", **{"Last-Event-ID": last_id}) as right:
            assert right.first["event"] == "_reset"
            assert [frame(right)["event"], frame(right)["event"]] == ["r1", "r2"]


def test_a_stream_resumes_after_the_last_event_seen(events):
    ids = publish(events, "resume", "a", "b", "c")
    with listening(events, "resume", **{"Last-Event-ID": ids[0]}) as response:
        assert "" in response.first
        assert [frame(response)["event"], frame(response)["event"]] == ["b", "c"]
        publish(events, "resume", "d")
        assert frame(response)["event"] == "d"
    with listening(events, "resume", **{"Last-Event-ID": ids[2]}) as response:
        assert frame(response)["event"] == "d"


@pytest.mark.parametrize("last_id", ["", "x", "00000000-1", "99", "-1"])
def test_a_stream_that_cannot_resume_says_so_first(events, last_id):
    tenant = "reset"
    if not events.call("GET", "/events", tenant).json["items"]:
        publish(events, tenant, "kept")
    with listening(events, tenant, **{"Last-Event-ID": last_id}) as response:
        assert response.first["event"] == "_reset"
        assert frame(response)["event"] == "kept"


def test_a_reader_that_leaves_frees_its_stream_at_once(events):
    wait_for_streams(events, 0)
    with listening(events, "leaver"):
        assert open_streams(events) == 1
    wait_for_streams(events, 0)


def test_a_slow_reader_is_cut_off_and_the_others_hear_everything(events):
    body = [{"type": "big", "data": "x" * 2000}] * 100
    with listening(events, "slow") as slow, listening(events, "slow") as quick:
        heard = 0
        for _ in range(20):
            assert events.call("POST", "/events", "slow", body).status == 201
            for _ in body:
                assert frame(quick)["event"] == "big"
                heard += 1
        assert heard == 2000
        wait_for_streams(events, 1)
        # What was already on its way arrives, then the connection breaks: no proper end.
        with pytest.raises((OSError, http.client.HTTPException)):
            while frame(slow):
                pass
    assert "Traceback" not in events.log.read_text()


def test_a_tenant_cannot_take_all_streams(events):
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(listening(events, "greedy"))
        answer = events.call("GET", "/events/stream", "greedy")
        assert answer.is_problem(429)
        assert answer.headers["Retry-After"]
        stack.enter_context(listening(events, "modest"))
    wait_for_streams(events, 0)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        (b'{"type": "a", "data": NaN}', 400),
        ([], 422),
        ([{"type": "a"}] * 101, 422),
        (5, 422),
        ({}, 422),
        ({"type": "_reset"}, 422),
        ({"type": "a\nid: 1"}, 422),
        ({"type": "a", "tenant": "other"}, 422),
        ([{"type": "a"}, {"type": ""}], 422),
    ],
)
def test_bad_input_is_a_problem_and_nothing_is_kept(events, body, status):
    assert events.call("POST", "/events", "bad", body).is_problem(status)
    assert events.call("GET", "/events", "bad").json["items"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=%C2%B2"])
def test_a_bad_limit_is_a_problem(events, query):
    assert events.call("GET", f"/events?{query}").is_problem(400)


def test_a_wrong_method_names_the_right_ones(events):
    answer = events.call("DELETE", "/events")
    assert answer.is_problem(405)
    assert set(answer.headers["Allow"].split(",")) == {"GET", "HEAD", "POST"}


def test_metrics_count_over_all_tenants_and_need_their_scope(events):
    assert events.call("GET", "/metrics").is_problem(403)
    scope = {"scope": "events:metrics"}
    before = events.call("GET", "/metrics", **scope).json["events"]["accepted"]
    publish(events, "count", "a", "b")
    assert events.call("GET", "/metrics", **scope).json["events"]["accepted"] == before + 2


def test_redirects_and_links_are_public(events):
    answer = events.call("GET", "/", **PREFIX)
    assert (answer.status, answer.headers["Location"]) == (302, "/events/events")
    expected = "https://api.example:8443/events/events/stream"
    assert events.call("GET", "/events", **PREFIX).json["stream"] == expected


def test_a_junk_prefix_is_refused(events):
    assert events.call("GET", "/", **{"X-Forwarded-Prefix": "//evil.example"}).is_problem(400)


def test_the_socket_is_the_owners_alone(events):
    assert os.stat(events.socket_path).st_mode & 0o077 == 0


def test_sigterm_ends_open_streams_properly_and_the_process_quickly():
    with running(*SERVE) as server, listening(server, "acme") as response:
        assert server.stop() < AT_ONCE
        assert response.read() == b""  # the last chunk came: an end, not a broken connection
        assert server.process.returncode == 0
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("where", [("--socket", "/nonexistent/s"), ("--listen", "127.0.0.1:{port}")])
def test_a_listener_that_cannot_be_bound_is_exit_code_1_with_a_reason(where):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        option, address = where[0], where[1].format(port=taken.getsockname()[1])
        command = [sys.executable, "-m", "backends.events", option, address]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=30)
    assert done.returncode == 1
    assert b"cannot listen on" in done.stderr


@pytest.mark.parametrize("option", ["--no-auth", "--web-api", "--daemonize"])
def test_asabs_own_options_do_not_exist(option):
    command = [sys.executable, "-m", "backends.events", "--socket", "/nonexistent/s", option]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, timeout=30).returncode == 2


def test_a_ring_forgets_the_oldest_by_number_and_by_bytes():
    many = ring.Ring()
    first = many.add("a", "", "0").id
    for _ in range(ring.MOST_EVENTS):
        last = many.add("a", "", "0").id
    assert len(many.recent(9999)) == ring.MOST_EVENTS
    assert many.since(first) == (True, many.recent(9999))
    assert many.since(last) == (True, [])
    many.add("a", "", "0")
    assert many.since(first)[0] is False

    large = ring.Ring()
    for _ in range(10):
        large.add("a", "", "x" * (ring.MOST_BYTES // 4))
    assert len(large.recent(9999)) == 4


async def test_a_stream_hands_over_what_waits_before_it_ends():
    open_stream = stream.Stream("acme", None)
    event = ring.Ring().add("a", "", "0")
    open_stream.on_event("", event)
    open_stream.close()
    assert await open_stream.next(1) == [event]
    with pytest.raises(stream.StreamClosed):
        await open_stream.next(1)


async def test_a_silent_stream_gives_nothing_after_the_timeout():
    assert await stream.Stream("acme", None).next(0.01) == []
