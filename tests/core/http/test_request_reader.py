"""A client's bytes as requests: the same however they are cut, and never one that others would not read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from time import process_time
from typing import Any

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.errors import BadRequest, GatewayError, HeadersTooLarge, TargetTooLong
from gateway.core.http.chunks import MAX_FRAMING
from gateway.core.http.request_reader import MAX_HEAD, MAX_LINE, RequestReader
from tests.support import mutants

HOST = b"HTTP/1.1\r\nHost: a\r\n"
GET = b"GET /next " + HOST + b"\r\n"


@dataclass
class Read:
    """What bytes are. requests: method, target, lines, body of each; the last one may not be whole.
    error: what ended them."""

    requests: list[tuple[str, str, bytes, bytes]] = field(default_factory=list)
    whole: bool = True
    error: type[GatewayError] | None = None
    left: int = 0


def read(pieces: Iterable[bytes]) -> Read:
    """As a connection does: everything that can be read is, before more comes."""
    reader, found = RequestReader(), Read()
    try:
        for piece in pieces:
            reader.feed(piece)
            while True:
                if reader.whole:
                    request = reader.read_head()
                    if request is None:
                        break
                    found.requests.append((request.method, request.target, request.head.raw, b""))
                else:
                    *start, body = found.requests[-1]
                    found.requests[-1] = (*start, body + reader.read_body())  # type: ignore[assignment]
                    if not reader.whole and not reader.has_more:
                        break
    except GatewayError as error:
        assert error.close, "after an error nothing can be read"
        found.error = type(error)
        if not reader.whole:  # how much of a broken body was read before depends on the cuts
            *start, _ = found.requests[-1]
            found.requests[-1] = (*start, b"")  # type: ignore[assignment]
    found.whole = reader.whole
    found.left = 0 if found.error else reader.held
    return found


def one(raw: bytes) -> Any:
    """The only request in these bytes."""
    reader = RequestReader()
    reader.feed(raw)
    request = reader.read_head()
    assert request is not None
    return request


def cuts(raw: bytes) -> Iterator[list[bytes]]:
    for at in range(len(raw) + 1):
        yield [raw[:at], raw[at:]]
    yield [raw[at : at + 1] for at in range(len(raw))]


# --- what is read ---


GOOD: dict[str, tuple[bytes, list[tuple[str, str, bytes]]]] = {
    "without a body": (GET, [("GET", "/next", b"")]),
    "of HTTP/1.0": (b"GET / HTTP/1.0\r\n\r\n", [("GET", "/", b"")]),
    "empty lines before it": (b"\r\n\r\n" + GET + b"\r\n" + GET, [("GET", "/next", b"")] * 2),
    "a length": (b"POST / " + HOST + b"Content-Length: 5\r\n\r\nhello" + GET,
                 [("POST", "/", b"hello"), ("GET", "/next", b"")]),
    "a length of nothing": (b"POST / " + HOST + b"Content-Length: 0\r\n\r\n" + GET,
                            [("POST", "/", b""), ("GET", "/next", b"")]),
    "a line break behind a body": (b"POST / " + HOST + b"Content-Length: 1\r\n\r\nx\r\n" + GET,
                                   [("POST", "/", b"x"), ("GET", "/next", b"")]),
    "chunks": (b"POST / " + HOST + b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"
               + GET, [("POST", "/", b"hello!"), ("GET", "/next", b"")]),
    "trailers": (b"POST / " + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nCookie: a\r\nHost: b\r\n\r\n"
                 + GET, [("POST", "/", b""), ("GET", "/next", b"")]),
    "an upgrade and chunks": (b"POST / " + HOST + b"Connection: upgrade\r\nUpgrade: h2c\r\n"
                              b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n" + GET,
                              [("POST", "/", b"hi"), ("GET", "/next", b"")]),
    "what looks like a request in a body": (b"POST / " + HOST + b"Content-Length: %d\r\n\r\n" % len(GET)
                                            + GET + GET, [("POST", "/", GET), ("GET", "/next", b"")]),
    "an unusual method": (b"M-SEARCH * " + HOST + b"\r\n", [("M-SEARCH", "*", b"")]),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_requests_are_read_the_same_wherever_they_are_cut(name: str) -> None:
    raw, expected = GOOD[name]
    whole = read([raw])
    assert [(method, target, body) for method, target, _, body in whole.requests] == expected
    assert (whole.error, whole.left, whole.whole) == (None, 0, True)
    for pieces in cuts(raw):
        assert read(pieces) == whole, pieces


def test_trailers_are_no_part_of_any_request() -> None:
    raw, _ = GOOD["trailers"]
    first, second = read([raw]).requests
    for _, _, lines, _ in (first, second):
        assert b"Cookie" not in lines
    assert second[2] == b"\r\nHost: a"


BAD: dict[bytes, type[GatewayError]] = dict.fromkeys(
    [
        b"\x16\x03\x01\x02\x00\x01",  # a TLS client at a port without TLS
        b"\r\n" * 17, b"\n" + GET, b"\r" + GET, b" " + GET, b"\0",
        b"nonsense\r\n", b"GET\r\n", b"GET /\r\n", b"GET /  HTTP/1.1\r\n", b"GET  / HTTP/1.1\r\n",
        b"GET / HTTP/1.1 \r\n", b"GET / HTTP/2.0\r\n", b"GET / HTTP/0.9\r\n", b"GET / http/1.1\r\n",
        b"GET / HTTP/1.2\r\n", b"GET / HTTP/1.10\r\n", b"GET\t/ HTTP/1.1\r\n", b"G(T / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n", b"GET /\xc3\xa9", b"GET /\x7f", b"GET / HTTP/1.1\n", b"GET /\rX HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\r\n", b"A" * 65 + b" / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\n Host: a\r\n", b"GET / HTTP/1.1\r\nHost : a\r\n", b"GET / HTTP/1.1\r\nHost\r\n",
        b"GET / HTTP/1.1\r\n: a\r\n", b"GET / HTTP/1.1\r\nHost: a\n", b"GET / HTTP/1.1\r\nA: b\r\n c\r\n",
        b"GET / HTTP/1.1\r\nA: b\0\r\n", b"GET / HTTP/1.1\r\nA: b\rc\r\n", b"GET / HTTP/1.1\r\nA B: c\r\n",
        b"GET / HTTP/1.1\r\n\xc3\xa9: c\r\n", b"GET / HTTP/1.1\r\nA: b\r\n\n", b"GET / HTTP/1.1\r\n\n",
        b"POST / " + HOST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
        b"POST / " + HOST + b"Content-Length: 5, 5\r\n\r\n",
        b"POST / " + HOST + b"Content-Length: +5\r\n\r\n",
        b"POST / " + HOST + b"Content-Length: \x805\r\n\r\n",
        b"POST / " + HOST + b"Transfer-Encoding: \x80chunked\r\n\r\n",
        b"POST / " + HOST + b"Content-Length:\r\n\r\n",
        b"POST / " + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / " + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / " + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        b"POST / " + HOST + b"Transfer-Encoding: identity\r\n\r\n",
        b"POST / " + HOST + b"Transfer-Encoding:\r\n\r\n",
        b"POST / " + HOST + b"Transfer-Encoding: chunked;a\r\n\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / " + HOST + b"Content-Type: a\r\nContent-Type: b\r\n\r\n",
    ],
    BadRequest,
)  # fmt: skip
_LONG = b"GET / " + HOST + b"A: " + b"a" * MAX_LINE
BAD |= {
    b"GET /" + b"a" * MAX_LINE: TargetTooLong,
    b"GET /" + b"a" * MAX_LINE + b" HTTP/1.1\r\n\r\n": TargetTooLong,
    _LONG: HeadersTooLarge,
    _LONG + b"\r\n\r\n": HeadersTooLarge,
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 129: HeadersTooLarge,
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 129 + b"\r\n": HeadersTooLarge,
    b"GET / HTTP/1.1\r\n" + (b"A: " + b"a" * 8000 + b"\r\n") * 9: HeadersTooLarge,
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 128 + b"no colon\r\n\r\n": HeadersTooLarge,
    b"GET / HTTP/1.1\r\nno colon\r\n" + b"A: b\r\n" * 200: BadRequest,
}


@pytest.mark.parametrize("raw", BAD)
def test_what_is_no_request_is_refused_wherever_it_is_cut(raw: bytes) -> None:
    """And as soon as it is certain: nobody has to send the end of a head for it."""
    expected = Read([], True, BAD[raw])
    assert read([raw]) == expected
    assert read([raw + b"\r\n\r\n" + GET]) == expected
    some = cuts(raw) if len(raw) < 300 else ([raw[:at], raw[at:]] for at in range(0, len(raw), 997))
    for pieces in some:
        assert read(pieces) == expected, pieces
    assert read(raw[at : at + 1] for at in range(len(raw))) == expected


CHUNKED = b"POST /first " + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
BROKEN = [b"5\r\nhello\r\nZZ\r\n", b"5\r\nhelloX\r\n", b"5\r\nhello\n0\r\n", b"5\r\nhello0\r\n\r\n",
          b"ZZ\r\n", b"\r\n", b"-1\r\n", b"5\r\nhello\r\n0\r\n A: b\r\n", b"0\r\nA\r\n", b"0\r\nA: b\rc\r\n",
          b"5 \r\n", b"0\r\n" + b"A: b\r\n" * 4000, b"1" + b";" + b"a" * 5000,
          b"0" * 16 + b"\r\n", (b"1;" + b"a" * 4000 + b"\r\nx\r\n") * 6]  # fmt: skip


@pytest.mark.parametrize("body", BROKEN)
def test_a_broken_chunk_is_never_the_end_of_a_body(body: bytes) -> None:
    raw = CHUNKED + body
    expected = Read(
        [("POST", "/first", b"\r\nHost: a\r\nTransfer-Encoding: chunked", b"")], False, BadRequest
    )
    assert read([raw]) == expected
    step = 1 if len(raw) < 300 else 991
    for at in range(len(CHUNKED), len(raw), step):
        assert read([raw[:at], raw[at:]]) == expected, raw[at:]
        assert read([raw[:at], raw[at:] + GET]) == expected
    assert read(raw[at : at + 1] for at in range(len(raw))) == expected


@pytest.mark.parametrize("body", [b"1;a=b\r\nx\r\n", b"1\r\nx\r\n", b"000001\r\nx\r\n"])
def test_many_small_chunks_are_read(body: bytes) -> None:
    found = read([CHUNKED + body * 10_000 + b"0\r\n\r\n"])
    assert (found.error, found.requests[0][3]) == (None, b"x" * 10_000)


def test_a_body_of_single_bytes_is_refused_once_it_is_long_and_one_of_small_chunks_is_not() -> None:
    cases = (
        (b"1\r\nx\r\n" * (MAX_FRAMING // 2 + 1), BadRequest),
        (b"1\r\nx\r\n" * (MAX_FRAMING // 2 - 3), None),  # the last chunk is framing too
        (b"2\r\nxy\r\na\r\n0123456789\r\n" * 60_000, None),
    )
    for size in (1 << 20, 4096):
        for body, error in cases:
            raw = CHUNKED + body + b"0\r\n\r\n"
            found = read(raw[at : at + size] for at in range(0, len(raw), size))
            assert found.error is error
    assert found.requests[0][3] == b"xy0123456789" * 60_000


def test_chunks_of_any_size_are_the_same_in_one_piece_and_byte_by_byte() -> None:
    random = Random(5)
    data = [bytes(random.choices(b"\r\n01aF;", k=random.choice([1, 2, 9, 15, 16]))) for _ in range(2000)]
    raw = CHUNKED + b"".join(b"%X\r\n%b\r\n" % (len(one), one) for one in data) + b"0\r\n\r\n" + GET
    whole = read([raw])
    assert whole.requests[0][3] == b"".join(data)
    assert len(whole.requests) == 2
    assert read(raw[at : at + 1] for at in range(len(raw))) == whole


@pytest.mark.parametrize("size", [MAX_LINE, MAX_LINE - 1])
def test_lines_are_as_long_as_they_may_be(size: int) -> None:
    first = b"GET /%b HTTP/1.1" % (b"a" * (size - len(b"GET / HTTP/1.1")))
    line = b"A: " + b"a" * (size - 3)
    for raw in (first + b"\r\nHost: a\r\n\r\n", b"GET / " + HOST + line + b"\r\n\r\n"):
        for pieces in ([raw], [raw[:-3], raw[-3:]], [raw[:-4], raw[-4:]], [raw[:-5], raw[-5:]]):
            assert read(pieces) == read([raw]) and read(pieces).error is None


@pytest.mark.parametrize("more", [0, 1])
def test_a_head_is_as_long_as_it_may_be(more: int) -> None:
    raw = b"GET / HTTP/1.1\r\n" + (b"A: " + b"a" * 1000 + b"\r\n") * 64
    raw += b"B: " + b"b" * (MAX_HEAD - len(raw) - 5 + more) + b"\r\n"
    assert len(raw) == MAX_HEAD + more
    for at in range(len(raw) - 10, len(raw) + 3):
        whole = raw + b"\r\n"
        assert read([whole[:at], whole[at:]]).error is (HeadersTooLarge if more else None)


# --- what a request says ---


@pytest.mark.parametrize(
    ("version", "lines", "keep_alive"),
    [("1.1", "", True), ("1.1", "Connection: close", False), ("1.1", "Connection: x, Close", False),
     ("1.1", "Connection: keep-alive", True), ("1.1", "Connection: close\r\nConnection: keep-alive", False),
     ("1.1", "Proxy-Connection: close", True), ("1.1", "Connection: upgrade", True),
     ("1.0", "", False), ("1.0", "Connection: keep-alive", True),
     ("1.0", "Connection: keep-alive, close", False),
     ("1.0", "Connection: upgrade", False)],
)  # fmt: skip
def test_whether_the_connection_may_go_on(version: str, lines: str, keep_alive: bool) -> None:
    request = one(f"GET / HTTP/{version}\r\n{lines}".rstrip().encode() + b"\r\n\r\n")
    assert request.keep_alive is keep_alive
    assert request.old is (version == "1.0")


def test_nothing_goes_on_behind_a_connect() -> None:
    assert not one(b"CONNECT a:1 " + HOST + b"Content-Length: 41\r\n\r\n").keep_alive


@pytest.mark.parametrize(
    ("first", "hosts"),
    [("GET / HTTP/1.0", [""]), ("GET http://b:1/x HTTP/1.0", ["b:1"]), ("GET / HTTP/1.1", []),
     ("GET http://b/ HTTP/1.1", [])],
)  # fmt: skip
def test_http_1_0_may_lack_the_host(first: str, hosts: list[str]) -> None:
    assert one(f"{first}\r\n\r\n".encode()).head.hosts == hosts


def test_what_a_request_of_http_1_0_lacks_is_not_lacking_to_one_of_1_1_with_the_same_lines() -> None:
    reader = RequestReader()
    reader.feed(b"GET / HTTP/1.0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\nA: b\r\n\r\nGET / HTTP/1.0\r\nA: b\r\n\r\n")
    assert [reader.read_head().head.hosts for _ in range(3)] == [[""], [], [""]]  # type: ignore[union-attr]


def test_a_head_that_repeats_the_last_one_s_lines_is_that_head_again() -> None:
    """It is compared, not parsed: that is where the speed is."""
    reader = RequestReader()
    reader.feed(b"GET /a " + HOST + b"\r\nPUT /b " + HOST + b"\r\nGET /a HTTP/1.1\r\nHost: aa\r\n\r\n")
    first, second, third = (reader.read_head() for _ in range(3))
    assert first and second and third
    assert (second.method, second.target) == ("PUT", "/b")
    assert second.head is first.head is not third.head
    assert third.head.hosts == ["aa"]


def test_what_is_taken_is_all_that_follows() -> None:
    reader = RequestReader()
    reader.feed(GET + b"frames")
    assert reader.read_head()
    assert reader.held == 6
    assert (reader.take(), reader.held) == (b"frames", 0)


# --- however it is cut, and whatever it is ---

_PIECES = st.sampled_from(
    [b"GET / HTTP/1.1", b"POST /a HTTP/1.0", b"\r\n", b"\r\n\r\n", b"Host: a\r\n", b"Content-Length: 3\r\n",
     b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n",
     b"0\r\nA: b\r\n\r\n", b"abc", b"\n", b"\r", b" ", b"A: b\r\n", b"\0",
     b"Connection: upgrade\r\nUpgrade: h2c\r\n", b";x=y", b"5", GET,
     CHUNKED, b"POST / " + HOST + b"Content-Length: 3\r\n\r\nabc"]
)  # fmt: skip
STREAMS = st.lists(st.one_of(_PIECES, st.binary(max_size=3)), max_size=12).map(b"".join)


@st.composite
def mutant_streams(draw: st.DrawFn) -> bytes:
    random = draw(st.randoms(use_true_random=True))
    return b"".join(mutants.request(random, "/svc", str(n)) for n in range(random.choice([1, 2, 3])))


@st.composite
def cut(draw: st.DrawFn, streams: st.SearchStrategy[bytes]) -> tuple[bytes, list[bytes]]:
    raw = draw(streams)
    at = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    return raw, [raw[start:stop] for start, stop in zip([0, *at], [*at, len(raw)], strict=True)]


def check_cuts(raw: bytes, pieces: list[bytes]) -> None:
    whole = read([raw])
    assert read(pieces) == whole
    assert read(raw[at : at + 1] for at in range(len(raw))) == whole


@settings(max_examples=400, deadline=None)
@given(cut(STREAMS))
@example((b"\r\n\x00", [b"\r", b"\n\x00"]))
def test_any_bytes_mean_the_same_however_they_are_cut(case: tuple[bytes, list[bytes]]) -> None:
    check_cuts(*case)


@settings(max_examples=300, deadline=None)
@given(cut(mutant_streams()))
def test_requests_with_a_fault_mean_the_same_however_they_are_cut(case: tuple[bytes, list[bytes]]) -> None:
    check_cuts(*case)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_heads_near_their_limits_mean_the_same_however_they_are_cut(data: st.DataObject) -> None:
    """Which of two faults comes first must not depend on what has come."""
    near = st.sampled_from([1, 40, MAX_LINE - 20, MAX_LINE - 3, MAX_LINE, MAX_LINE + 3])
    spoil = st.sampled_from([b"", b"", b"", b"\n", b"\r", b"\0", b" : ", b"\xff"])
    lines = [b"GET /%b%b%b HTTP/1.1" % (b"a" * data.draw(near), data.draw(spoil), b"a" * data.draw(near))]
    for _ in range(data.draw(st.integers(0, 9))):
        lines.append(b"A: %b%b%b" % (b"a" * data.draw(near), data.draw(spoil), b"a" * data.draw(near)))
    raw = b"\r\n".join(lines) + data.draw(
        st.sampled_from([b"", b"\r", b"\r\n", b"\r\n\r", b"\r\n\r\n", b"\n"])
    )
    whole = read([raw])
    for size in data.draw(st.lists(st.sampled_from([7, 50, 1000, 8191, 8192]), min_size=1, max_size=2)):
        assert read(raw[at : at + size] for at in range(0, len(raw), size)) == whole


def h11_reads(raw: bytes, count: int) -> list[tuple[str, str, list[tuple[bytes, bytes]], bytes]] | None:
    """The first requests, None where h11 refuses one. Of what it understands otherwise on purpose, it gets
    what was meant: it takes no empty line before a request (RFC 9112 section 2.2)."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=10**6)
    found: list[tuple[str, str, list[tuple[bytes, bytes]], bytes]] = []
    rest = raw
    for _ in range(count):
        while rest.startswith(b"\r\n"):
            rest = rest[2:]
        connection.receive_data(rest)
        body = b""
        try:
            request = connection.next_event()
            assert isinstance(request, h11.Request)
            while isinstance(event := connection.next_event(), h11.Data):
                body += event.data
            assert isinstance(event, h11.EndOfMessage)
        except h11.RemoteProtocolError:
            return None
        found.append((request.method.decode(), request.target.decode(), list(request.headers), body))
        rest = connection.trailing_data[0]
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=10**6)
    return found


def check_by_h11(raw: bytes) -> int:
    """Whatever we read whole, h11 reads too, and the same. Gives how many requests that were."""
    ours = read([raw])
    whole = ours.requests if ours.whole else ours.requests[:-1]
    # A request without a Host is for the policies to refuse (RFC 9112 section 3.2 asks for a 400).
    for number, (_, _, lines, _) in enumerate(whole):
        if len(re.findall(rb"(?i)\r\nHost:", lines)) != 1:
            whole = whole[:number]
            break
    theirs = h11_reads(raw, len(whole))
    assert theirs is not None, f"h11 refuses {raw!r}"
    for (method, target, lines, body), other in zip(whole, theirs, strict=True):
        assert (method, target, body) == (other[0], other[1], other[3]), raw
        kept = [line.partition(b":") for line in lines.split(b"\r\n")[1:]]
        mine = [(name.lower(), value.strip(b" \t")) for name, _, value in kept]
        framing = (b"content-length", b"transfer-encoding")  # h11 gives them as it understands them
        assert [pair for pair in mine if pair[0] not in framing] == [
            pair for pair in other[2] if pair[0] not in framing
        ], raw
    return len(whole)


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=True))
def test_h11_reads_every_request_that_we_read_and_reads_the_same(random: Random) -> None:
    found = 0
    for number in range(50):
        raws = [mutants.request(random, "/svc", f"{number}-{n}") for n in range(random.choice([1, 2]))]
        found += check_by_h11(b"".join(raws))
    assert found > 5, "most of what is tried says nothing"


@settings(max_examples=300, deadline=None)
@given(STREAMS)
def test_h11_reads_every_request_in_any_bytes(raw: bytes) -> None:
    check_by_h11(raw)


@pytest.mark.parametrize("more", ["", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n"])
def test_h11_agrees_about_every_byte_in_every_place(more: str) -> None:
    body = b"abc" if "Length" in more else b"3\r\nabc\r\n0\r\n\r\n" if more else b""
    good = f"POST /a?b HTTP/1.1\r\nHost: a\r\n{more}X-A: b c\r\n\r\n".encode() + body
    found = 0
    for at in range(len(good) + 1):
        for byte in range(256):
            found += check_by_h11(good[:at] + bytes([byte]) + good[at:] + GET)
            found += check_by_h11(good[:at] + bytes([byte]) + good[at + 1 :] + GET)
    assert found > 2000


# --- what it costs ---


@pytest.mark.parametrize(
    "make",
    [lambda n: b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * (n // 6), lambda n: CHUNKED + b"1\r\na\r\n" * (n // 6),
     lambda n: b"GET / HTTP/1.1\r\nA:" + b" " * n + b"\0", lambda n: CHUNKED + b"1;" + b"a" * n,
     lambda n: b"\r\n" * n],
)  # fmt: skip
def test_reading_byte_by_byte_takes_no_time_that_grows_with_the_square(make: Callable[[int], bytes]) -> None:
    raw = make(30_000)
    before = process_time()
    read(raw[at : at + 1] for at in range(len(raw)))
    assert process_time() - before < 3, "0.1 s is usual"


@pytest.mark.parametrize(
    "lines",
    [b"origin:" + b" " * 64_000 + b"x x", b"origin:" + b"\t " * 32_000, b"\r\norigin:" * 7_000],
)
def test_what_is_told_of_a_refused_head_is_found_in_one_look_at_it(lines: bytes) -> None:
    """The same bytes a few times over; a pattern that looks back would take minutes for one of them."""
    reader = RequestReader()
    reader.feed(b"GET /a HTTP/1.1\r\n" + lines + b"\r\n\r\n")
    before = process_time()
    for _ in range(10):
        assert reader.begun() is not None
    assert process_time() - before < 3, "0.01 s is usual"


@pytest.mark.parametrize(
    ("raw", "target", "origins"),
    [
        (b"GET /a HTTP/1.1\r\nOrigin: https://a\r\n", "/a", ["https://a"]),
        (b"GET /a HTTP/1.1\r\nOrigin: https://a", "/a", []),  # the line may go on
        (b"GET /a HTTP/1.1\r\na: b\r\nORIGIN:https://a \r\n\r\n\r\norigin: b\r\n", "/a", ["https://a"]),
        (b"GET /a HTTP/1.1\r\norigin: a\r\norigin: b\r\n\r\n", "/a", ["a", "b"]),
        (b"GET /a HTTP/1.1\r\nX-Origin: a\r\n origin: b\r\norigin: a b\r\n\r\n", "/a", []),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nOrigin: a\r\n\r\n", "/" + "a" * (MAX_LINE - 1), ["a"]),
    ],
)
def test_of_a_head_that_is_refused_its_target_and_its_page_are_told(
    raw: bytes, target: str, origins: list[str]
) -> None:
    reader = RequestReader()
    reader.feed(raw)
    found = reader.begun()
    assert found is not None
    assert (found.target, found.head.origins) == (target, origins)
