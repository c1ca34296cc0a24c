"""URLs that the gateway itself asks: which lead over a network in the clear, and how they are shown."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from gateway.core.process.listeners import is_loopback


def in_the_clear(url: str) -> bool:
    """Whether a URL leads without TLS to another host than this one. Raises ValueError when it is none."""
    parts = urlsplit(url)
    return parts.scheme.lower() != "https" and not is_loopback((parts.hostname or "").lower())


def shown(url: str) -> str:
    """A URL for people: without what may be a secret in it."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
