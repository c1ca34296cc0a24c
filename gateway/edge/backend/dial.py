"""Opens a connection to a backend's address: every address of its name is tried within the time there is.

As RFC 8305 has it (Happy Eyeballs): when one does not accept at once, the next one is tried beside it. A
connection that comes second is closed: to a threaded server it would cost a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from gateway.core.model import Address
from gateway.edge.backend import faults
from gateway.edge.backend.resolver import Names
from gateway.edge.backend.tls import TlsContexts
from gateway.edge.reading import PausableReader

_NEXT = 0.25  # seconds until the next address is tried beside the one before (RFC 8305 section 5)

P = TypeVar("P", bound=PausableReader)


async def dial(
    address: Address,
    names: Names,
    make: Callable[[], P],
    timeout: float,
    contexts: TlsContexts | None = None,
) -> P:
    """A connection within `timeout` seconds; contexts: for an address with TLS, whose handshake is over then.
    Raises BackendUnavailable (nothing was sent), and BackendSaturated when this process has no descriptor for
    it: that is no fault of the backend's."""
    loop = asyncio.get_running_loop()
    resolved = False
    try:
        async with asyncio.timeout(timeout):
            if address.path:
                return (await loop.create_unix_connection(make, address.path))[1]
            found = await names.find(address.host)
            resolved = True
            secured: Mapping[str, Any] = {}
            if address.tls is not None and contexts is not None:
                secured = await contexts.of(address.tls, address.host)
            return await _first(found, address, names, make, secured)
    except OSError as error:  # TimeoutError and Unresolved among them
        resolved = resolved or bool(address.path)
        secure = address.tls is not None
        raise faults.while_connecting(error, resolved=resolved, secured=secure) from None


async def _first(
    found: tuple[str, ...],
    address: Address,
    names: Names,
    make: Callable[[], P],
    secured: Mapping[str, Any],
) -> P:
    """The first connection that one of the addresses takes. secured: arguments for TLS. Raises the OSError of
    the last one."""
    loop = asyncio.get_running_loop()
    if len(found) == 1:
        return (await loop.create_connection(make, found[0], address.port, **secured))[1]
    left, tries = list(reversed(found)), dict[asyncio.Task[P], str]()

    async def connect(host: str) -> P:
        return (await loop.create_connection(make, host, address.port, **secured))[1]

    failure: BaseException | None = None
    try:
        while left or tries:
            if left:
                host = left.pop()
                tries[loop.create_task(connect(host))] = host
            done, _ = await asyncio.wait(
                tries, timeout=_NEXT if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                failure = task.exception()
                if failure is None:
                    names.prefer(address.host, tries.pop(task))
                    return task.result()
                del tries[task]
        assert failure is not None
        raise failure
    finally:
        for task in tries:
            task.add_done_callback(_too_late)
            task.cancel()


def _too_late(task: asyncio.Task[P]) -> None:
    """Another one was first."""
    if not task.cancelled() and task.exception() is None:
        transport = task.result().transport
        if transport is not None:
            transport.abort()
