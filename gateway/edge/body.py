"""Reading a client's request body: limits, timeouts, and 100 Continue only once the call is accepted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import ClientPayloadError, http_exceptions, web

from gateway.call import Call
from gateway.core.errors import BadRequest, BodyTooLarge, ExpectationFailed, RequestTimeout

_BROKEN = "The body's framing is broken."


def announced_length(call: Call) -> int | None:
    """The body's length by its Content-Length, None when it is chunked; 0 without a body."""
    if call.head.length >= 0:
        return call.head.length
    return None if call.head.codings else 0  # the only coding is chunked; see Life


def check(call: Call) -> None:
    """Refuse by the head, before a byte is read, and by what came with it. Raises BodyTooLarge,
    ExpectationFailed, BadRequest."""
    assert call.route is not None
    head = call.head
    if head.expect is not None and head.expect.lower() != "100-continue":
        raise ExpectationFailed()
    if head.length > call.route.body_limit:
        raise BodyTooLarge(f"The body may hold at most {call.route.body_limit} bytes.", close=True)
    if call.request is not None and call.request.content.exception() is not None:
        raise BadRequest(_BROKEN, close=True)


async def chunks(call: Call) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises BodyTooLarge, RequestTimeout (between two chunks), BadRequest."""
    request, route = call.request, call.route
    assert route is not None
    if request is None:
        call.bytes_in = len(call.body)
        if call.body:
            yield call.body
        return
    if announced_length(call) == 0:
        return
    await _continue(call, request)
    content = request.content
    while True:
        try:
            async with asyncio.timeout(route.timeouts.body):
                chunk = await content.readany()
        except TimeoutError:
            raise RequestTimeout(
                f"No byte of the body came for {route.timeouts.body:g} s.", close=True
            ) from None
        except (ClientPayloadError, http_exceptions.HttpProcessingError, web.HTTPException):
            raise BadRequest(_BROKEN, close=True) from None
        except ConnectionError:
            raise BadRequest("The client left in the middle of its body.", close=True) from None
        if not chunk:
            return
        call.bytes_in += len(chunk)
        if call.bytes_in > route.body_limit:
            raise BodyTooLarge(f"The body may hold at most {route.body_limit} bytes.", close=True)
        yield chunk


async def read(call: Call) -> bytes:
    """The whole body. Errors as in `chunks`, and where its memory is counted as of Held.grow: before a byte
    is read, if its length is announced."""
    held = call.held
    if call.request is None:
        if held is not None:
            held.grow(len(call.body))
        call.bytes_in = len(call.body)
        return call.body
    if held is None:
        return b"".join([chunk async for chunk in chunks(call)])
    announced = announced_length(call)
    held.grow(announced or 0)
    pieces = []
    async for chunk in chunks(call):
        if announced is None:
            held.grow(len(chunk))
        pieces.append(chunk)
    return b"".join(pieces)


async def _continue(call: Call, request: web.BaseRequest) -> None:
    """RFC 9110 section 10.1.1: the client waits for our word before it sends its body."""
    if call.head.expect is None or call.old or request.content.total_bytes:
        return  # it did not ask, or did not wait
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0
