"""What a source has at the start, where it may have nothing yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gateway.config.ports import NOTHING, ConfigRefused, ConfigSource, Found
from gateway.core.config.revision import Draft, Origin


async def read_or_seed(
    source: ConfigSource, seed: ConfigSource | None, checked: Callable[[str, Origin], Draft]
) -> Found:
    """What the source has; where it is empty, what the seed has is written to it. checked: the draft of a
    text; raises ConfigRefused for a bad one. Raises ConfigRefused, SourceChanged."""
    try:
        return await source.read()
    except ConfigRefused as refused:
        if not refused.empty or seed is None:
            raise
    first = await seed.read()
    origin = replace(first.origin, reason=f"the first one, from {seed.name}")
    return await source.write(checked(first.text, origin), NOTHING)
