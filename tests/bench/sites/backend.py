"""The backend where nginx is not installed; it answers as conf/backend.conf.

python -m tests.bench.sites.backend PORT
"""

from __future__ import annotations

import asyncio
import json
import re
import sys

# 150 bytes, as an API answers.
BODY = json.dumps(
    {
        "id": "7f9c24e8",
        "name": "A small answer",
        "price": 12.5,
        "currency": "EUR",
        "in_stock": True,
        "tags": ["one", "two", "three"],
        "note": "150 bytes",
    }
)
LARGE = 10 * 1024 * 1024  # bytes of /large
_LARGE = bytes(LARGE)
_SEEN = {
    "tenant": "x-tenant",
    "subject": "x-subject",
    "scopes": "x-scopes",
    "id": "x-request-id",
    "for": "x-forwarded-for",
    "prefix": "x-forwarded-prefix",
    "authorization": "authorization",
}


class _Backend(asyncio.Protocol):
    """Answers at once; a head or a body that arrives in pieces is put together."""

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, rest = self._buffer.partition(b"\r\n\r\n")
            found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            length = int(found[1]) if found else 0
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            body = _answer(head)
            answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            self._transport.write(answer % (len(body), body))  # type: ignore[attr-defined]


def _answer(head: bytes) -> bytes:
    target = head.split(b" ", 2)[1]
    if target == b"/seen":
        return _seen(head)
    return _LARGE if target == b"/large" else BODY.encode()


def _seen(head: bytes) -> bytes:
    headers = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return json.dumps({name: headers.get(header, "") for name, header in _SEEN.items()}).encode()


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Backend, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
