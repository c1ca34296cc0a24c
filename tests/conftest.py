"""Tests of the wire run on both event loops: the gateway serves on uvloop, whoever embeds it may not. The
others run on asyncio's own, and whole processes choose for themselves."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, settings

# Where a shell says that no bytecode is kept, each worker would rewrite the asserts of all tests in each run,
# and each process that a test starts would compile all of the gateway.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

Loops = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]

# No example fails because the machine is busy. Nothing is remembered in the tree, where others may run too.
# A failure prints what repeats it.
settings.register_profile(
    "gateway", deadline=None, database=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("gateway")

# The tests themselves are a million objects that live to the end. The garbage collector would go through
# them again and again, and so would a test that asks it for all objects.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_asyncio_loop_factories(item: pytest.Item) -> Loops:
    parts = Path(item.path).parts
    if "edge" in parts and "response" not in parts:
        return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
