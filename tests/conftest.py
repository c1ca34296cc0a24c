"""The tests run on the event loop that serves; GATEWAY_TEST_LOOP=asyncio takes Python's own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping

import uvloop

Loops = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]


def pytest_asyncio_loop_factories() -> Loops:
    if os.environ.get("GATEWAY_TEST_LOOP") == "asyncio":
        return {"asyncio": asyncio.new_event_loop}
    return {"uvloop": uvloop.new_event_loop}
