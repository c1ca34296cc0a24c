"""The opening handshake of a WebSocket (RFC 6455 section 4), on both sides of the gateway."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from urllib.parse import urlsplit

from gateway.core.errors import BackendMalformed, BadRequest, Forbidden, UpgradeRequired

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_DEFAULT_PORTS = {"http": 80, "https": 443}
VERSION = "13"
# A page can set no header of a handshake, but it can offer subprotocols: this one, and then its token.
BEARER = "gateway.bearer"


def accept(key: str) -> str:
    """The Sec-WebSocket-Accept for a Sec-WebSocket-Key (section 4.2.2, point 5.4)."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()  # noqa: S324 - RFC's choice


def check_key(keys: Sequence[str], versions: Sequence[str]) -> str:
    """The client's key. keys, versions: the values of Sec-WebSocket-Key and Sec-WebSocket-Version. Raises
    UpgradeRequired for another version, BadRequest."""
    if list(versions) != [VERSION]:
        raise UpgradeRequired(
            "Only version 13 of the WebSocket protocol is spoken here.",
            headers={"Sec-WebSocket-Version": VERSION},
        )
    try:
        valid = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == 16
    except (binascii.Error, ValueError):
        valid = False
    if not valid:
        raise BadRequest("Sec-WebSocket-Key must be 16 bytes in base64, once.")
    return keys[0]


def check_origin(origins: Sequence[str], host: str, allowed: Sequence[str]) -> None:
    """Refuse pages of other origins: a browser lets any page open a WebSocket (section 10.2). A request
    without an Origin is no browser's. origins: the values of Origin. host: the public one. allowed: the
    route's origins, `*` for any. Raises Forbidden."""
    if not origins:
        return
    origin = origins[0]
    if len(origins) == 1 and ("*" in allowed or origin in allowed or _same_host(origin, host)):
        return
    raise Forbidden("This route opens no WebSocket for pages of that origin.")


def _same_host(origin: str, host: str) -> bool:
    """Whatever the scheme: TLS may end before us."""
    try:
        given, own = urlsplit(origin), urlsplit(f"//{host}")
        default = _DEFAULT_PORTS.get(given.scheme)
        same_port = (given.port or default) == (own.port or default)
    except ValueError:
        return False
    return default is not None and bool(given.hostname) and given.hostname == own.hostname and same_port


def check_response(raw: bytes, key: str, offered: Sequence[str]) -> None:
    """Check that a backend's 101 is for our key, and chose nothing that was not offered (section 4.1). raw:
    its head. offered: subprotocols. Raises BackendMalformed."""
    found: dict[str, list[str]] = {}
    for line in raw.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        found.setdefault(name.strip().lower(), []).append(value.strip())
    upgrades = [value.lower() for value in found.get("upgrade", ())]
    if upgrades != ["websocket"] or "upgrade" not in tokens(found.get("connection", ())):
        raise BackendMalformed("The backend switched to another protocol than the WebSocket.")
    if found.get("sec-websocket-accept") != [accept(key)]:
        raise BackendMalformed("The backend's Sec-WebSocket-Accept is not right.")
    if "sec-websocket-extensions" in found:
        raise BackendMalformed("The backend uses a WebSocket extension that nobody offered.")
    chosen = found.get("sec-websocket-protocol", [])
    if len(chosen) > 1 or any(name not in offered for name in chosen):
        raise BackendMalformed("The backend chose a subprotocol that nobody offered.")


def tokens(values: Sequence[str]) -> list[str]:
    """The members of a list header in lower case."""
    return [name.lower() for name in names(values)]


def names(values: Sequence[str]) -> list[str]:
    """The members of a list header, as the subprotocols of Sec-WebSocket-Protocol, as written; empty ones are
    none (RFC 9110 section 5.6.1.2)."""
    return [name for value in values for part in value.split(",") if (name := part.strip())]


def bearer_tokens(offered: Sequence[str]) -> list[str]:
    """The tokens among the subprotocols that a client offers: what stands behind BEARER, "" for nothing."""
    following = [*offered[1:], ""]
    return [after for name, after in zip(offered, following, strict=False) if name == BEARER]


def without_bearer(offered: Sequence[str]) -> list[str]:
    """The subprotocols that a client offers, without BEARER and the token behind it."""
    before = ["", *offered[:-1]]
    return [name for name, front in zip(offered, before, strict=False) if BEARER not in (name, front)]
