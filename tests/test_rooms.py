"""The house's laws hold, and each law notices its breach."""

from __future__ import annotations

import re
import sys

import pytest

from tests import rooms

MARKER = re.compile(rb"^(<{7}|>{7}) ", re.MULTILINE)
STDLIB = frozenset(sys.stdlib_module_names)
LAWS = {
    "a room imports only itself and the rooms below": rooms.layers,
    "no import cycles": rooms.cycles,
    "third-party libraries stay in their rooms": rooms.third_party,
    "core is pure": lambda modules: rooms.purity(modules, STDLIB),
    "one error boundary of requests, in life.py": rooms.broad_excepts,
    "a file gets its name where its folder is synced": rooms.naming,
    "private attributes stay in their module": rooms.private,
    "attributes are set by their owner": rooms.foreign,
}


@pytest.fixture(scope="module")
def gateway() -> list[rooms.Module]:
    return rooms.read("gateway")


@pytest.fixture(scope="module")
def tests() -> list[rooms.Module]:
    return rooms.read("tests")


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
def test_gateway_keeps_the_law(law, gateway: list[rooms.Module]) -> None:
    assert not (breaches := list(law(gateway))), "\n" + "\n".join(breaches)


def test_files_and_functions_are_of_a_size_that_fits() -> None:
    breaches = list(rooms.sizes(rooms.read("gateway", "backends")))
    assert not breaches, "\n" + "\n".join(breaches)


def test_no_folder_holds_more_files_than_one_looks_through(gateway: list[rooms.Module]) -> None:
    assert not (breaches := list(rooms.crowded(gateway))), "\n" + "\n".join(breaches)


def test_no_text_holds_what_a_merge_left() -> None:
    kinds = {".md", ".js", ".css", ".html", ".conf", ".toml", ".yaml", ".json", ".sh"}
    folders = (rooms.ROOT / name for name in ("gateway", "backends", "config", "tests", ".ci"))
    found = [*rooms.ROOT.glob("*"), *(path for folder in folders for path in folder.rglob("*"))]
    marked = [path for path in found if path.suffix in kinds and MARKER.search(path.read_bytes())]
    assert not marked


def test_gateway_and_backends_do_not_import_each_other() -> None:
    breaches = list(rooms.separate(rooms.read("gateway", "backends")))
    assert not breaches, "\n" + "\n".join(breaches)


def test_tests_use_no_mocks(tests: list[rooms.Module]) -> None:
    assert not (breaches := list(rooms.mocks(tests))), "\n" + "\n".join(breaches)


def test_tests_wait_for_what_must_come_true(tests: list[rooms.Module]) -> None:
    assert not (breaches := list(rooms.waits(tests))), "\n" + "\n".join(breaches)


def test_every_module_was_read(gateway: list[rooms.Module]) -> None:
    names = {module.name for module in gateway}
    assert {"gateway.core.routing.table", "gateway.life", "gateway.app", "gateway.config.live"} <= names


def module(name: str, text: str) -> rooms.Module:
    return rooms.parse(name, name.replace(".", "/") + ".py", text)


HIDDEN = "def f():\n    from gateway.auth.keys import Keys\n"
TWO_EXCEPTS = "try:\n    f()\nexcept Exception:\n    g()\n" * 2
SUPPRESSES = "class A:\n    def __exit__(self, kind, error, trace):\n        return {}\n"
SUPPRESSES_LATER = SUPPRESSES.format("True").replace("def __", "async def __a")
TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from gateway.app import Gateway\n"


@pytest.mark.parametrize(
    ("law", "name", "text", "line"),
    [
        (rooms.layers, "gateway.core.x", "import gateway.call\n", 1),
        (rooms.layers, "gateway.edge.x", "from gateway.store import port\n", 1),
        (rooms.layers, "gateway.life", HIDDEN, 2),
        (rooms.layers, "gateway.proxy.x", HIDDEN, 2),
        (rooms.layers, "gateway.admin.x", TYPES, 3),
        (rooms.layers, "gateway.limits.x", "from ..proxy import target\n", 1),
        (rooms.layers, "gateway.attic.x", "from gateway.core import table\n", 1),
        (rooms.third_party, "gateway.edge.x", "import asab.web\n", 1),
        (rooms.third_party, "gateway.limits.x", "from aiohttp import web\n", 1),
        (rooms.third_party, "gateway.store.sqlite.engine", "import motor\n", 1),
        (rooms.third_party, "gateway.store.mongo.write.plan", "from bson import encode\n", 1),
        (rooms.third_party, "gateway.config.sources.zookeeper", "import kazoo.client\n", 1),
        (rooms.third_party, "gateway.shared.exchange", "import redis.asyncio\n", 1),
        (rooms.third_party, "gateway.cli.main", "from pydantic import BaseModel\n", 1),
        (LAWS["core is pure"], "gateway.core.x", "def f():\n    import time\n", 2),
        (LAWS["core is pure"], "gateway.core.x", "import yaml\n", 1),
        (LAWS["core is pure"], "gateway.core.x", "async def f():\n    pass\n", 1),
        (LAWS["core is pure"], "gateway.core.x", "print(1)\n", 1),
        (rooms.broad_excepts, "gateway.edge.x", "try:\n    f()\nexcept Exception:\n    pass\n", 3),
        (rooms.broad_excepts, "gateway.edge.x", "try:\n    f()\nexcept (OSError, Exception):\n    f()\n", 3),
        (rooms.broad_excepts, "gateway.edge.x", "try:\n    f()\nexcept:\n    return_()\n", 3),
        (rooms.broad_excepts, "gateway.edge.x", "with suppress(BaseException):\n    f()\n", 1),
        (rooms.broad_excepts, "gateway.runtime.periodic", TWO_EXCEPTS, 7),
        (rooms.broad_excepts, "gateway.edge.x", SUPPRESSES.format("True"), 2),
        (rooms.broad_excepts, "gateway.edge.x", SUPPRESSES.format("self.failed(error)"), 2),
        (rooms.broad_excepts, "gateway.edge.x", SUPPRESSES_LATER, 2),
        (rooms.broad_excepts, "gateway.life", SUPPRESSES.format("True") * 2, 5),
        (rooms.broad_excepts, "gateway.runtime.periodic", SUPPRESSES.format("True") + TWO_EXCEPTS[:38], 6),
        (rooms.naming, "gateway.limits.x", "path.rename(other)\n", 1),
        (rooms.naming, "gateway.limits.x", "beside.replace(path)\n", 1),
        (rooms.naming, "gateway.limits.x", "os.replace(beside, path)\n", 1),
        (rooms.naming, "gateway.limits.x", "os.link(beside, path)\n", 1),
        (rooms.naming, "gateway.limits.x", "path.hardlink_to(beside)\n", 1),
        (rooms.private, "gateway.edge.x", "def f(pool):\n    return pool._idle\n", 2),
        (rooms.private, "gateway.edge.x", "pool.client._exchange = None\n", 1),
        (rooms.private, "gateway.edge.x", "from gateway.edge.y import _helper\n", 1),
        (rooms.foreign, "gateway.edge.x", "def f(pool):\n    pool.idle = None\n", 2),
        (rooms.foreign, "gateway.edge.x", "class A:\n    def f(self):\n        self.pool.idle += 1\n", 3),
        (rooms.foreign, "gateway.edge.x", "pool.idle, idle = 0, 1\n", 1),
        (rooms.foreign, "gateway.edge.x", "del pool.idle\n", 1),
        (rooms.separate, "gateway.edge.x", "from backends import data\n", 1),
        (rooms.separate, "backends.x", "import gateway.core.model\n", 1),
        (rooms.mocks, "tests.x", "from unittest.mock import patch\n", 1),
        (rooms.mocks, "tests.x", "from unittest import mock\n", 1),
        (rooms.waits, "tests.x", "await asyncio.sleep(0.1)\n", 1),
        (rooms.waits, "tests.x", "def f():\n    time.sleep(pause)\n", 2),
        (rooms.waits, "tests.x", "async with asyncio.timeout(3):\n    pass\n", 1),
        (rooms.waits, "tests.x", "await asyncio.wait_for(f(), 2.5)\n", 1),
        (rooms.waits, "tests.x", "assert process.wait(5) == 0\n", 1),
        (rooms.waits, "tests.x", "subprocess.run(command, timeout=10)\n", 1),
        (rooms.waits, "tests.x", "await eventually(f, end=1)\n", 1),
        (rooms.waits, "tests.x", "assert time.monotonic() - began < 2\n", 1),
        (rooms.waits, "tests.x", "assert 0.1 <= perf_counter() - began <= 1.5\n", 1),
        (rooms.waits, "tests.x", "assert 3 > loop.time() - began\n", 1),
        (rooms.sizes, "gateway.x", "x = 1\n" * 501, 1),
        (rooms.sizes, "gateway.x", "def f():\n" + "    x = 1\n" * 60, 1),
    ],
)
def test_a_breach_is_named_with_its_file_and_line(law, name: str, text: str, line: int) -> None:
    (breach,) = law([module(name, text)])
    assert breach.startswith(f"{name.replace('.', '/')}.py:{line}: ")
    assert breach.endswith(")")


@pytest.mark.parametrize(
    ("law", "name", "text"),
    [
        (rooms.layers, "gateway.cli.main", "from gateway.app import run\nfrom gateway import life\n"),
        (rooms.third_party, "gateway.store.mongo.driver", "import asab\nimport motor\n"),
        (rooms.third_party, "gateway.store.mongo.raw", "import bson\n"),
        (rooms.third_party, "gateway.shared.redis.server", "import redis.asyncio\n"),
        (LAWS["core is pure"], "gateway.core.jwt.verify", "import jwt\nimport re\n"),
        (rooms.broad_excepts, "gateway.life", "try:\n    f()\nexcept Exception:\n    g()\n"),
        (rooms.broad_excepts, "gateway.runtime.periodic", "try:\n    f()\nexcept Exception:\n    g()\n"),
        (rooms.broad_excepts, "gateway.edge.x", "try:\n    f()\nexcept BaseException:\n    g()\n    raise\n"),
        (rooms.broad_excepts, "gateway.life", SUPPRESSES.format("True")),
        (rooms.broad_excepts, "gateway.edge.x", SUPPRESSES.format("False")),
        (rooms.broad_excepts, "gateway.edge.x", SUPPRESSES.format("None") + SUPPRESSES.format("")),
        (rooms.naming, "gateway.x", 'durable.rename(a, b)\ntext.replace("a", "b")\nreplace(a, b=1)\n'),
        (rooms.naming, "gateway.runtime.durable", "os.link(a, b)\n"),
        (rooms.private, "gateway.x", "import os\nos._exit(1)\npair._replace(a=1)\nself._x = x.__class__\n"),
        (rooms.private, "gateway.x", "def f(self, other):\n    self._x = other._x\n"),
        (rooms.foreign, "gateway.x", "class A:\n    idle: int\n\ndef f(one):\n    one.idle = 2\n"),
        (rooms.foreign, "gateway.x", "class A:\n    def f(self, other):\n        self.x = other.x = 1\n"),
        (rooms.foreign, "gateway.x", "def f(call, error):\n    call.status = 200\n    error.detail = ''\n"),
        (rooms.foreign, "gateway.telemetry.metrics", "series.sum += 1\n"),
        (rooms.sizes, "gateway.x", "x = 1\n" * 500),
        (rooms.sizes, "gateway.x", "def f():\n" + "    x = 1\n" * 59),
        (
            rooms.waits,
            "tests.x",
            "await asyncio.sleep(0)\nawait event.wait()\nassert process.wait(30) == 0\n",
        ),
        (rooms.waits, "tests.x", "async with asyncio.timeout(30):\n    await takes(0.1)\n"),
        (rooms.waits, "tests.x", "assert time.monotonic() - began > 0.3\nassert clock() - began < 1\n"),
        (rooms.waits, "tests.x", "assert time.process_time() - began < 1\nassert monotonic() - t < END\n"),
        (rooms.waits, "tests.eventually", "await asyncio.sleep(0.1)\n"),
        (rooms.sizes, "backends.x.migrations.0001", "x = 1\n" * 501),
    ],
)
def test_what_is_allowed_is_no_breach(law, name: str, text: str) -> None:
    assert list(law([module(name, text)])) == []


def test_a_cycle_is_found_over_several_steps_and_when_imported_late() -> None:
    found = list(
        rooms.cycles(
            [
                module("gateway.edge.a", "from gateway.edge import b\n"),
                module("gateway.edge.b", "def f():\n    import gateway.edge.c\n"),
                module("gateway.edge.c", "from gateway.edge.a import thing\n"),
            ]
        )
    )
    assert len(found) == 1
    assert "gateway.edge.a -> gateway.edge.b -> gateway.edge.c -> gateway.edge.a" in found[0]
