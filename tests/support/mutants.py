"""Mutants of HTTP messages from a seeded generator: mostly good, some broken in one or two places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random


def words(text: str, separator: str = " ") -> list[str]:
    return text.split(separator)


PLAIN = words("accept content-type connection cookie content-length origin user-agent x-a x-forwarded-for te")
NAMES = words(
    "accept content-type content-length content-encoding content-location content-range connection cookie "
    "etag expect host http2-settings if-none-match keep-alive max-forwards origin proxy-connection "
    "sec-websocket-key1 server te trailer transfer-encoding upgrade user-agent x-a x-forwarded-for "
    "x-request-timeout x-tenant"
)
ANSWER_NAMES = words(
    "date server content-type etag vary connection keep-alive set-cookie trailer x-request-id"
)
VALUES = words(
    "a|b|c|0|3|5|+5|-1|0x5|00005|5,5|close|upgrade|chunked|identity|gzip|100-continue|websocket|h2c|tcp|"
    "trailers|a:1|[::1]|a/b|a;q=1||5, 5|keep-alive, x-a|a\tb|a  b|\N{SNOWMAN}|\N{KELVIN SIGN}eep-Alive|"
    "11111111111111111111|000000000000000000000000000005|chun\N{KELVIN SIGN}ed|keep-alive|Keep-Alive|5|3|0",
    "|",
)
TARGETS = words('/ /a //a/b /a//b /a?b=c /? /a?b?c /%41 /a:b@c /a/../b /a;x /{x} /"x" /a|b /\\ /a% /[x]')
OTHER_TARGETS = ["http://a/", "*", "a", "/a#b", "/?a#b", "/a b", "/\u00e9", "/" + "a" * 300]
METHODS = words("GET HEAD POST PUT PATCH DELETE QUERY")
OTHER_METHODS = words("OPTIONS get PRI GETX M-SEARCH CONNECT TRACE")
PIECES = [b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b",", b"\x7f", b"\x80", b"\xff", b"\xc3\xa9", b";"]
PIECES += [b"#", b"_", b'"', b"\x1b", b"(", b"A", b"0", b"\r\n ", b"\r\nX-A: b", b"\r\n\r\n"]


def mutated(raw: bytes, random: Random, counts: Sequence[int] = (0, 0, 0, 1, 1, 2)) -> bytes:
    """Bytes inserted, replaced or left out, in as many places as one of the counts says."""
    for _ in range(random.choice(counts)):
        at, piece = random.randrange(len(raw) + 1), random.choice(PIECES)
        raw = random.choice(
            [raw[:at] + piece + raw[at:], raw[:at] + piece + raw[at + 1 :], raw[:at] + raw[at + 1 :]]
        )
    return raw


def line(random: Random, names: Sequence[str]) -> bytes:
    """A header line."""
    name = random.choice(names)
    name = random.choice([name, name.title(), name.upper()])
    space = random.choice([" "] * 8 + ["", "  ", "\t", " \t "])
    end = random.choice([""] * 6 + [" ", "\t", " \t "])
    return f"{name}:{space}{random.choice(VALUES)}{end}".encode()


def request_head(random: Random, prefix: str = "") -> bytes:
    """A request's head, without the empty line that ends it. prefix: of targets that begin with a slash."""
    method = random.choice(METHODS if random.random() < 0.95 else OTHER_METHODS)
    target = random.choice(TARGETS if random.random() < 0.95 else OTHER_TARGETS)
    target = prefix + target if target.startswith("/") else target
    version = random.choice(["HTTP/1.1"] * 40 + ["HTTP/1.0", "HTTP/2.0", "http/1.1", "HTTP/1.1 "])
    more = [line(random, PLAIN if random.random() < 0.7 else NAMES) for _ in range(random.randrange(5))]
    if random.random() < 0.95:
        more.insert(random.randrange(len(more) + 1), b"Host: a")
    raw = mutated(b"\r\n".join([f"{method} {target} {version}".encode(), *more]), random)
    return raw[: (raw + b"\r\n\r\n").find(b"\r\n\r\n")]


def segments(raw: bytes, random: Random, most: int = 4) -> list[bytes]:
    """The bytes in order, in up to `most` pieces."""
    cuts = sorted(random.randrange(len(raw) + 1) for _ in range(random.randrange(most)))
    return [
        piece for piece in (raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)) if piece
    ]


def request(random: Random, prefix: str, mark: str) -> bytes:
    """A request with a header X-Mark, and a body in one of two framings or none."""
    head = request_head(random, prefix) + b"\r\nX-Mark: " + mark.encode()
    body = b"GET /svc/inner HTTP/1.1\r\nHost: a\r\nX-Mark: inner\r\n\r\n"[: random.choice([0, 3, 3, 5, 50])]
    framing = random.randrange(3)
    if framing == 0:
        raw = head + b"\r\n\r\n"
    elif framing == 1:
        raw = head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    else:
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in segments(body, random, 3))
        end = random.choice([b"0\r\n\r\n"] * 3 + [b"0;a=b\r\n\r\n", b"0\r\nA: b\r\n\r\n"])
        raw = head + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + end
    return mutated(raw, random, (0, 0, 0, 0, 0, 1))


@dataclass(frozen=True)
class MadeAnswer:
    """An answer's head with its end, its body as sent and as meant. closes: it ends with the connection."""

    head: bytes
    sent: bytes
    body: bytes
    closes: bool
    good: bool


def answer(random: Random, mark: str) -> MadeAnswer:
    """An answer without a fault, but for codings in HTTP/1.0. Its body is the mark, some times."""
    status = random.choice(words("200 OK|200 OK|200 OK|201 Created|404 Not Found|503 No|204 None|304 x", "|"))
    version = random.choice(["HTTP/1.1"] * 6 + ["HTTP/1.0"])
    lines = [line(random, ANSWER_NAMES) for _ in range(random.randrange(4))]
    sent = body = mark.encode() * random.choice([0, 1, 3, 300])
    framing = random.choice(["length", "length", "chunked", "close"])
    if framing == "length":
        lines.append(b"Content-Length: %d" % len(body))
    elif framing == "chunked":
        lines.append(b"Transfer-Encoding: chunked")
        extension = random.choice([b"", b";a=b"])
        pieces = [b"%x%b\r\n%b\r\n" % (len(x), extension, x) for x in segments(body, random, 4)]
        sent = b"".join(pieces) + random.choice([b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n"])
    if status.startswith(("204", "304")):
        sent, body, framing = b"", b"", "none"
    random.shuffle(lines)
    early = random.choice([b""] * 8 + [b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n", b"HTTP/1.1 100 x\r\n\r\n"])
    head = early + b"\r\n".join([f"{version} {status}".encode(), *lines]) + b"\r\n\r\n"
    good = version == "HTTP/1.1" or b"Transfer-Encoding: chunked" not in lines
    return MadeAnswer(head, sent, body, framing == "close", good)
