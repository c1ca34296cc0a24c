"""What is different in another gateway.conf, as an operator names it."""

from __future__ import annotations

from dataclasses import fields

from gateway.core.process.settings import ProcessConfig

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
    """The names of the fields that differ."""
    return [f.name for f in fields(after) if getattr(after, f.name) != getattr(before, f.name)]


def named(names: list[str]) -> list[str]:
    """The keys of gateway.conf that these fields are read from."""
    return [_NAMES.get(name, f"[gateway] {name}") for name in names]
