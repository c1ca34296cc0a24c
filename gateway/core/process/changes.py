"""What is different in another gateway.conf, as an operator names it."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from gateway.core.process.settings import ProcessConfig
from gateway.core.process.store_uri import SQLITE

_NAMES = {
    "admin": "[admin] listen",
    "admin_hosts": "[admin] hosts",
    "keys": "[tokens] keys",
    "tokens": "[tokens]",
    "store_uri": "[store] uri",
    "body_memory": "[store] body_memory",
    "access_log": "[log] access",
    "log_query": "[log] query",
    "recent": "[log] recent",
    "commands": "[backend:NAME]",
    "operators": "[operators]",
    "live": "[config]",
    "seed": "[demo] seed",
    "shared": "[shared]",
    "tls": "[tls:NAME]",
}
# What all processes of a host have to agree about: workers of the old and the new one serve side by side.
FIXED = frozenset({"data", "store_uri", "keys", "tokens", "shared"})
# What the master reads as it starts, and workers do not need.
OF_MASTER = frozenset({"admin", "admin_hosts", "routing", "commands", "operators", "live", "seed"})


def changed(before: ProcessConfig, after: ProcessConfig) -> list[str]:
    """The names of the fields that differ as they are written: what lies in the data folder goes with it."""
    found = []
    for name in (field.name for field in fields(after)):
        was, now = getattr(before, name), getattr(after, name)
        if now not in (was, was if name == "data" else _moved(was, before.data, after.data)):
            found.append(name)
    return found


def _moved(value: Any, before: str, after: str) -> Any:
    """A value with its paths below one folder as they are below another."""
    if isinstance(value, str):
        scheme = SQLITE if value.startswith(SQLITE) else ""
        below = value.removeprefix(f"{scheme}{before}/")
        return value if below == value else f"{scheme}{after}/{below}"
    if is_dataclass(value) and not isinstance(value, type):
        moved = {one.name: _moved(getattr(value, one.name), before, after) for one in fields(value)}
        return replace(value, **moved)
    return value


def named(names: list[str]) -> list[str]:
    """The keys of gateway.conf that these fields are read from."""
    return [_NAMES.get(name, f"[gateway] {name}") for name in names]
