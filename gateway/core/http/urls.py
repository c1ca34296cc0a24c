"""URLs that the gateway itself asks: which of them lead over a network in the clear."""

from __future__ import annotations

from urllib.parse import urlsplit

from gateway.core.process.listeners import is_loopback


def in_the_clear(url: str) -> bool:
    """Whether a URL leads without TLS to another host than this one. Raises ValueError when it is none."""
    parts = urlsplit(url)
    return parts.scheme.lower() != "https" and not is_loopback((parts.hostname or "").lower())
