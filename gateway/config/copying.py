"""From one source of the config to another, as when a gateway's file moves to ZooKeeper."""

from __future__ import annotations

from dataclasses import replace

from gateway.config.parts import ConfigParts
from gateway.config.ports import NOTHING, ConfigRefused, ConfigSource, Found
from gateway.core.config.revision import Draft, Origin
from gateway.core.routing.problems import Problem


def source_of(parts: ConfigParts, kind: str) -> ConfigSource:
    """`file` is that of [gateway] routing; else the source that gateway.conf names. Raises ConfigRefused."""
    if kind == parts.seed.kind:
        return parts.seed
    if kind == parts.source.kind:
        return parts.source
    reason = f"{kind} is not the source here; [config] source = {parts.source.kind}"
    hint = f"copy from or to file or {parts.source.kind}, or name {kind} there, with what it needs"
    raise ConfigRefused(kind, [Problem(("[config]", "source"), reason, hint)])


async def copy(source: ConfigSource, target: ConfigSource, origin: Origin, at: float) -> Found:
    """Replace what the target has by what the source has; both are started. The text is not checked: a
    gateway refuses a bad one. Nothing is written where the target has it already. origin: who does it. at:
    seconds since the epoch. Raises ConfigRefused, SourceChanged."""
    found = await source.read()
    try:
        over = await target.read()
    except ConfigRefused as refused:
        if refused.transient:
            raise
        over = NOTHING
    if over != NOTHING and over.text == found.text:
        return over
    reason = origin.reason or f"copied from {source.name}"
    return await target.write(Draft(found.text, replace(origin, reason=reason), at), over)
