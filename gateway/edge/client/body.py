"""Reading a client's request body: limits, timeouts, and 100 Continue only once the call is accepted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
from time import monotonic

from gateway.call import Call
from gateway.core.errors import BodyTooLarge, RequestTimeout
from gateway.core.http.head import check_expect
from gateway.core.policy.deadline import BodyAllowance

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def announced_length(call: Call) -> int | None:
    """The body's length by its Content-Length, None when it is chunked; 0 without a body."""
    if call.head.length >= 0:
        return call.head.length
    return None if call.head.codings else 0  # the only coding is chunked


def check(call: Call) -> None:
    """Refuse by the head, before a byte is read, and by what came whole. Raises BodyTooLarge,
    ExpectationFailed."""
    assert call.route is not None
    head = call.head
    if head.expect:
        check_expect(head, old=call.old)
    length = len(call.body) if head.codings and call.content is None else head.length
    if length > call.route.body_limit:
        raise BodyTooLarge(f"The body may hold at most {call.route.body_limit} bytes.", close=True)


async def chunks(call: Call) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises BodyTooLarge, RequestTimeout (between two chunks, or it comes too
    slowly), BadRequest, and ConnectionError when the client left: that is nobody's error, the call ends as
    499. The time in which nobody asks for the next chunk is not the client's."""
    content, route = call.content, call.route
    assert route is not None
    if content is None:
        call.bytes_in = len(call.body)
        if call.body:
            yield call.body
        return
    _continue(call)
    allowance = BodyAllowance(route.timeouts.body, route.timeouts.body_rate)
    while True:
        began = monotonic()
        try:
            async with asyncio.timeout(allowance.left):
                chunk = await content.read()
        except TimeoutError:
            if content.fed > call.bytes_in:  # they came, and it is we who were late to look
                continue
            raise RequestTimeout(allowance.too_slow(), close=True) from None
        if not chunk:
            return
        allowance.came(len(chunk), monotonic() - began)
        call.bytes_in += len(chunk)
        if call.bytes_in > route.body_limit:
            raise BodyTooLarge(f"The body may hold at most {route.body_limit} bytes.", close=True)
        yield chunk


async def read(call: Call) -> bytes:
    """The whole body. Errors as in `chunks`, and where its memory is counted as of Held.grow: before a byte
    is read, if its length is announced."""
    held = call.held
    if call.content is None:
        if held is not None:
            held.grow(len(call.body))
        call.bytes_in = len(call.body)
        return call.body
    announced = announced_length(call)
    if held is not None:
        held.grow(announced or 0)
    whole = BytesIO()  # copied as it comes: joining ten megabytes at the end would hold up the event loop
    async for chunk in chunks(call):
        if held is not None and announced is None:
            held.grow(len(chunk))
        whole.write(chunk)
    return whole.getvalue()


def _continue(call: Call) -> None:
    """RFC 9110 section 10.1.1: the client waits for our word before it sends its body."""
    client = call.client
    if call.waits_for_word and client is not None and client.transport is not None:
        call.continued = True
        client.transport.write(_CONTINUE)
