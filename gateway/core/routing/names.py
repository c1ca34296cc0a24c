"""Checks of the names in the routing config: of routes, tenants, scopes, methods, headers, hosts, origins and
addresses. Each gives the name back, or raises Wrong with the reason and the nearest name that is accepted."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_network
from typing import Any

from gateway.core.methods import COMMON
from gateway.core.model import TENANT_PATTERN
from gateway.core.routing.problems import Wrong

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
SCOPE = r"[\x21\x23-\x5b\x5d-\x7e]{1,100}"
LINK = r"(https?://|mailto:|/)[\x21\x23-\x3b\x3d\x3f-\x7e]{0,1000}"
METHOD = r"[A-Z][A-Z0-9-]{0,31}"
HEADER_NAME = r"(\*|[A-Za-z0-9!#$%&'*+.^`|~-]+)"
NEVER_SERVED = frozenset({"CONNECT", "TRACE"})  # refused by core/http/request_target.py


def check_name(value: str) -> str:
    """The name of a route or a backend."""
    if not re.fullmatch(NAME, value):
        hint = "1 to 63 letters, digits, dots, underscores and hyphens, a letter or digit first"
        near = re.sub(r"[^A-Za-z0-9._-]+", "-", value).strip("._-")[:63]
        raise Wrong("is not a name", hint, check_name, [near])
    return value


def check_tenant(value: str) -> str:
    """The name of a tenant, as tokens carry it."""
    if not re.fullmatch(TENANT_PATTERN, value):
        hint = "1 to 63 small letters, digits and hyphens, no hyphen first"
        near = re.sub(r"[^a-z0-9-]+", "-", value.lower()).strip("-")[:63]
        raise Wrong("is not a tenant's name", hint, check_tenant, [near])
    return value


def check_scope(value: str) -> str:
    """One scope (RFC 6749 section 3.3)."""
    if not re.fullmatch(SCOPE, value):
        many = len(value.split()) > 1
        hint = "each scope is an entry of its own" if many else "1 to 100 visible ASCII characters, no quotes"
        near = [*value.split(), "".join(re.findall(r"[\x21\x23-\x5b\x5d-\x7e]", value))[:100]]
        raise Wrong("is not one scope", hint, check_scope, near)
    return value


def check_method(value: str) -> str:
    """A method, which is case-sensitive (RFC 9110 section 9.1)."""
    if value in COMMON:
        return value
    upper = value.strip().upper()
    if upper in ("*", "ANY", "ALL"):
        raise Wrong("is not a method", "remove `methods` to take any method, or name each")
    if upper in NEVER_SERVED:
        raise Wrong(f"is not a method that is served: {upper} never is", "remove it, or name another")
    if not re.fullmatch(METHOD, value):
        if len(re.split(r"[\s,|]+", upper)) > 1:
            hint = "each method is an entry of its own"
        else:
            hint = "a method has capital letters"
        raise Wrong("is not a method", hint, check_method, re.split(r"[\s,|]+", upper))
    slip = [m for m in difflib.get_close_matches(value, COMMON, 1, 0.81) if m != value]
    if slip:
        raise Wrong("is not a method that anybody sends", f"did you mean {slip[0]}?", check_method, slip)
    return value


def check_header_name(value: str) -> str:
    """The name of a header (RFC 9110 section 5.1), or * for any."""
    if not re.fullmatch(HEADER_NAME, value):
        near = re.split(r"[:,\s]+", value.strip())
        raise Wrong("is not the name of a header", "one name, without its value", check_header_name, near)
    return value


# --- hosts, origins, addresses ---------------------------------------------------------------------

HOST = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
AUTHORITY = r"([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
ORIGIN = r"(\*|[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?)"
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(?:[^@/?#]*@)?([^/?#]*)(.*)", re.DOTALL)


def is_host(host: str) -> bool:
    """Whether a host can be resolved: labels of 1 to 63 characters (RFC 1035 section 2.3.4), 253 in all, or
    an IPv6 address in brackets."""
    if host.startswith("["):
        try:
            return bool(IPv6Address(host[1:-1]))
        except ValueError:
            return False
    return len(host) <= 253 and all(0 < len(label) <= 63 for label in host.split("."))


def split_authority(value: str) -> tuple[str, str]:
    """The host and the port ("" without one) of host:port."""
    host, colon, port = value.rpartition(":")
    return (host, port) if colon and not port.endswith("]") else (value, "")


def check_host(value: str) -> str:
    """The host of a route, as the Host header of its requests names it."""
    if re.fullmatch(HOST, value) and is_host(value):
        return value
    hint = "one host name in small letters, without scheme and port"
    raise Wrong(f"is not a host: {_host_fault(value)}", hint, check_host, _hosts(value))


def _host_fault(value: str) -> str:
    if "://" in value:
        return "a scheme is no part of it"
    if "*" in value:
        return "it is one name, and * stands for no part of it; a route without `host` takes any host"
    if value.startswith("["):
        return "an IPv6 address is none that a route can have"
    if ":" in value:
        return "the port is no part of it"
    if "/" in value:
        return "a path is no part of it"
    if value.endswith("."):
        return "it is compared without the dot at its end"
    if not value.isascii():
        return "clients send an international name as xn--..."
    if value != value.lower():
        return "it is compared in small letters"
    for character, name in ((" ", "a space"), ("_", "an underscore (_)")):
        if character in value:
            return f"it holds {name}, which no host name does"
    if any(not label for label in value.split(".")) or any(len(label) > 63 for label in value.split(".")):
        return "a part of it is empty or longer than 63 characters"
    return "it has up to 253 letters, digits, dots and hyphens, and no hyphen at its ends"


def _hosts(value: str) -> Iterable[str]:
    found = URL.fullmatch(value)
    host = split_authority(found[2] if found else value.partition("/")[0])[0]
    host = _in_ascii(host.strip().strip(".").lower()).replace("_", "-")
    yield host
    yield re.sub(r"\.{2,}", ".", re.sub(r"^\*", "www", re.sub(r"\.\*$", ".com", host)))


def _in_ascii(host: str) -> str:
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return ""


def check_authority(value: str) -> str:
    """A Host header: host or host:port."""
    host, port = split_authority(value)
    if re.fullmatch(AUTHORITY, value) and is_host(host) and 0 < int(port or 1) < 65536:
        return value
    hint = "host or host:port, with a port from 1 to 65535"
    raise Wrong("is not a host with or without a port", hint, check_authority, _authorities(value))


def _authorities(value: str) -> Iterable[str]:
    found = URL.fullmatch(value)
    written = found[2] if found else value.strip().partition("/")[0]
    host, port = split_authority(written)
    host = _in_ascii(host.strip(".")).replace("_", "-")
    yield f"{host}:{port}" if port else host
    yield host


def check_origin(value: Any) -> str:
    """`*`, or an origin as a browser writes it: they are compared byte for byte."""
    if value == "*":
        return "*"
    hint = "scheme://host or scheme://host:port as a browser writes it, or * for any"
    if value is None or value == "null":
        raise Wrong(
            "is the origin of any sandboxed page, whoever made it", "list origins of your own, or * for any"
        )
    meant = serialized_origin(value) if isinstance(value, str) else None
    if meant is None:
        if "*" in str(value):
            reason = "is no origin: a * stands alone, it is no part of one"
        else:
            reason = f"is no origin{_origin_fault(str(value))}"
        raise Wrong(reason, hint, check_origin, _origins(value))
    if meant != value:
        raise Wrong(
            "is an origin that no browser writes so: it would match no page", hint, check_origin, [meant]
        )
    return meant


def _origin_fault(value: str) -> str:
    found = URL.fullmatch(value.strip())
    if found is None:
        return ": it has no scheme, such as https://"
    if found[1].lower() == "file":
        return ": a browser says null for pages from files, whoever made them; serve the page by http"
    host, port = split_authority(found[2])
    if not host:
        return ": it has no host"
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        return ": its port is none from 1 to 65535"
    return ""


_HTTP = re.compile(r"(https?|wss?)(?::/*|//?)(?=[^/:])", re.IGNORECASE)  # also with a slip behind it
_OTHER = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?![0-9]+(?:/|$))")  # a scheme, no host with a port
_LOCAL = re.compile(r"(localhost|127\.[0-9.]+|\[::1\])(?=[:/]|$)", re.IGNORECASE)


def _origins(value: Any) -> Iterable[str]:
    text = str(value).strip().replace("*", "app")
    if _HTTP.match(text):
        text = _HTTP.sub(r"\1://", text, count=1)
    elif not _OTHER.match(text) and "@" not in text:
        text = f"{'http' if _LOCAL.match(text) else 'https'}://{text}"
    for guess in (text, re.sub(r"(?<=[^/:]):[0-9]+(?=[/?#]|$)", "", text, count=1)):
        meant = serialized_origin(guess)
        if meant is not None:
            yield meant


# The origin of a page (the Fetch standard, section 3.2; RFC 6454 section 6.2).
_origin_parts = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:[^/?#@\s]*@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]*]+)(?::(?P<port>[0-9]{0,5}))?(?:[/?#]\S*)?"
).fullmatch
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_host_name = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?").fullmatch
_DEFAULT_PORTS = {"http": 80, "https": 443, "ftp": 21}
_OF_PAGES = {"ws": "http", "wss": "https"}  # a page is never of these: they are what it opens


def serialized_origin(text: str) -> str | None:
    """The origin that this text means, as a browser sends it: scheme and host in lower case, the host in
    ASCII, no default port, no path. None when it is none: no scheme, no host, a pattern."""
    found = _origin_parts(text)
    if found is None:
        return None
    scheme = found["scheme"].lower()
    scheme = _OF_PAGES.get(scheme, scheme)
    host = _ascii_host(found["host"])
    port = int(found["port"] or 0)
    if host is None or port > 65535 or (found["port"] and not port):
        return None
    return f"{scheme}://{host}" + (f":{port}" if port and port != _DEFAULT_PORTS.get(scheme) else "")


def _ascii_host(host: str) -> str | None:
    try:
        if host.startswith("["):
            return f"[{IPv6Address(host[1:-1])}]"
        text = host.lower() if host.isascii() else host.encode("idna").decode().lower()
    except ValueError:  # no address, or no name that IDNA knows
        return None
    return text if len(text) <= 253 and _host_name(text) else None


def check_link(value: str) -> str:
    """Where a link of the front page leads."""
    if not re.fullmatch(LINK, value):
        hint = "an address with https://, http:// or mailto:, or a path of this gateway"
        text = value.strip()
        if _HTTP.match(text):
            near = [_HTTP.sub(r"\1://", text, count=1)]
        else:
            near = [] if _OTHER.match(text) else [f"mailto:{text}" if "@" in text else f"https://{text}"]
        raise Wrong("is not the address of a link", hint, check_link, near)
    return value


def check_address(value: str) -> str:
    """Where a backend listens: http://host:port, https://host:port, or unix: and a socket."""
    if re.fullmatch(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})/?", value):
        host, port = split_authority(value.partition("://")[2].rstrip("/"))
        if is_host(host) and 0 < int(port) < 65536:
            return value
    elif re.fullmatch(r"unix:(?!//[^/])[^\0\s]{1,255}", value):
        return value
    hint = "http://host:port, https://host:port, or unix:name.sock for a socket of the socket folder"
    raise Wrong(f"is not an address: {_address_fault(value)}", hint, check_address, _addresses(value))


def _address_fault(value: str) -> str:
    found = URL.fullmatch(value)
    if found is None:
        if value.startswith("unix:"):
            return "it names no socket"
        return "it lacks the scheme: http://, https:// or unix:"
    scheme, authority, rest = found.groups()
    if scheme == "unix":
        return "unix: is followed by the name of the socket, without //"
    if scheme not in ("http", "https"):
        return f"the scheme {scheme} is not spoken"
    if "@" in value.partition("://")[2].partition("/")[0]:
        return "no user stands in it"
    if rest.strip("/"):
        return "a path is no part of it; see `strip` of a route"
    if not split_authority(authority)[1]:
        return "it lacks the port"
    return "its host or its port is not valid"


def _addresses(value: str) -> Iterable[str]:
    text = value.strip()
    if text.startswith("unix:"):
        yield "unix:" + text.removeprefix("unix:").lstrip("/")
        return
    if text.endswith((".sock", ".socket")) or text.startswith("/"):
        yield f"unix:{text}"
        return
    found = URL.fullmatch(text)
    host, port = split_authority(found[2] if found else text.partition("/")[0])
    if not found and text.isdecimal():
        host, port = "", text
    scheme, usual = ("https", "443") if found and found[1].lower() == "https" else ("http", "80")
    yield f"{scheme}://{host or '127.0.0.1'}:{port or usual}"


def check_network(value: str) -> str:
    """An IP network whose forwarding headers count, or unix."""
    if value == "unix":
        return value
    try:
        ip_network(value)
    except ValueError:
        near = _networks(value)
        if difflib.get_close_matches(value.lower(), ["unix"]) or value.lower().startswith(("unix:", "/")):
            raise Wrong("is not an IP network", "did you mean unix? It is every unix socket, without a path",
                        check_network, ["unix"]) from None  # fmt: skip
        fault = ": it has bits behind its prefix" if near and "/" in value else ""
        hint = "or as ::1/128, or unix for those on a unix socket"
        raise Wrong(f"is not an IP network{fault}", hint, check_network, near) from None
    return value


def _networks(value: str) -> list[str]:
    text = value.strip()
    address, _, prefix = text.partition("/")
    if address.lower().startswith("::ffff:") and "." in address and prefix.isdecimal() and int(prefix) <= 32:
        text = text[len("::ffff:") :]  # the prefix is that of the IPv4 network
    try:
        return [str(ip_network(text, strict=False))]
    except ValueError:
        return ["127.0.0.1"] if text.lower() == "localhost" else []
