"""A worker follows the config of its master: each text once, in the order in which they were told."""

from __future__ import annotations

import asyncio

from gateway.call import Snapshot
from gateway.config.compilation import Compiler
from gateway.core.config.revision import digest_of
from gateway.planes.followed import FollowedConfig, told
from tests.fakes import NOWHERE

TEXT = "version: 1\nroutes:\n  - { name: NAME, path: /x, target: documents }\n"
COMPILER = Compiler(lambda backend: NOWHERE, "/sockets")


def config(name: str, revision: int) -> dict[str, object]:
    text = TEXT.replace("NAME", name)
    return told(COMPILER.compile(text).made_live(revision, 100.0 + revision, digest_of(text)), text)


async def test_configs_go_live_in_order_and_one_that_is_told_again_is_live_already() -> None:
    applied: list[tuple[int, int | None]] = []

    def note(new: Snapshot, old: Snapshot | None) -> None:
        applied.append((new.revision, old.revision if old is not None else None))

    live = FollowedConfig(COMPILER, note)
    one, two = config("a", 1), config("b", 2)
    assert await asyncio.gather(live.take(one), live.take(two), live.take(two)) == [1, 2, 2]
    assert applied == [(1, None), (2, 1)]
    assert [route.name for route in live.current.table.routes] == ["b"]
    assert (live.current.digest, live.current.loaded_at) == (two["digest"], 102.0)
    assert await live.take(config("a", 1)) == 1, "also back, by whichever clock"
