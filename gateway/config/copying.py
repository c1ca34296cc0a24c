"""From one source of the config to another, as when a gateway's file moves to ZooKeeper."""

from __future__ import annotations

from dataclasses import replace

from gateway.config.parts import ConfigParts
from gateway.config.ports import NOTHING, ConfigRefused, ConfigSource, Found
from gateway.core.config.revision import Draft, Origin


def source_of(parts: ConfigParts, kind: str, option: str) -> ConfigSource:
    """`file` is that of [gateway] routing; else the source that gateway.conf names. option: that said so, for
    the message. Raises ValueError."""
    for one in (parts.seed, parts.source):
        if kind == one.kind:
            return one
    raise ValueError(
        f"{option} {kind}: gateway.conf says [config] source = {parts.source.kind}; a copy is between the"
        f" file and what that says. Write source = {kind} there first, with what it needs; then copy;"
        " then restart the gateway, which goes on with the old one until then"
    )


async def look(source: ConfigSource, target: ConfigSource) -> tuple[Found, Found]:
    """What the source has, and what the target has, NOTHING where that is empty or cannot be read as a text.
    Both are started. Raises ConfigRefused."""
    found = await source.read()
    try:
        return found, await target.read()
    except ConfigRefused as refused:
        if refused.transient:
            raise
        return found, NOTHING


async def copy(
    source: ConfigSource, found: Found, target: ConfigSource, over: Found, origin: Origin, at: float
) -> Found:
    """Replace what the target has (`over`) by what the source has (`found`), as `look` gave them. The text is
    not checked: a gateway refuses a bad one. Nothing is written where the target has it already; what a file
    had is kept beside it. origin: who does it. at: seconds since the epoch. Raises ConfigRefused,
    SourceChanged."""
    if over != NOTHING and over.text == found.text:
        return over
    reason = origin.reason or f"copied from {source.name}"
    return await target.write(Draft(found.text, replace(origin, reason=reason), at), over, keep=True)
