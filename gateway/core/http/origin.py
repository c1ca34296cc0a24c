"""The origin of a page as a browser writes it (the Fetch standard, section 3.2; RFC 6454 section 6.2)."""

from __future__ import annotations

import re
from ipaddress import IPv6Address

_parts = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:[^/?#@\s]*@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]*]+)(?::(?P<port>[0-9]{0,5}))?(?:[/?#]\S*)?"
).fullmatch
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_host = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?").fullmatch
_DEFAULT_PORTS = {"http": 80, "https": 443, "ftp": 21}
_OF_PAGES = {"ws": "http", "wss": "https"}  # a page is never of these: they are what it opens


def serialized(text: str) -> str | None:
    """The origin that this text means, as a browser sends it: scheme and host in lower case, the host in
    ASCII, no default port, no path. None when it is none: no scheme, no host, a pattern."""
    found = _parts(text)
    if found is None:
        return None
    scheme = found["scheme"].lower()
    scheme = _OF_PAGES.get(scheme, scheme)
    host = _ascii(found["host"])
    port = int(found["port"] or 0)
    if host is None or port > 65535 or (found["port"] and not port):
        return None
    return f"{scheme}://{host}" + (f":{port}" if port and port != _DEFAULT_PORTS.get(scheme) else "")


def _ascii(host: str) -> str | None:
    try:
        if host.startswith("["):
            return f"[{IPv6Address(host[1:-1])}]"
        text = host.lower() if host.isascii() else host.encode("idna").decode().lower()
    except ValueError:  # no address, or no name that IDNA knows
        return None
    return text if len(text) <= 253 and _host(text) else None
