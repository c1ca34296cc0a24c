"""The URI of a MongoDB server: its default options, its problems, and the part that is no secret."""

from __future__ import annotations

from urllib.parse import unquote

from gateway.core.http import request_target

SRV = "mongodb+srv://"
SCHEMES = ("mongodb://", SRV)
HINT = "write mongodb://user:password@host:27017/database, with name and password percent-encoded"
DATABASE = "gateway"  # where the URI names none

# Unless the operator's URI says otherwise. ASAB sets none: a server that is away would hold each request for
# half a minute. A write is acknowledged when a majority has it in its journal (before MongoDB 5.0 not so).
_DEFAULTS = {
    "serverSelectionTimeoutMS": "3000",
    "connectTimeoutMS": "3000",
    "socketTimeoutMS": "30000",
    "w": "majority",
    "journal": "true",
    "appName": "gateway",
}


def with_defaults(uri: str) -> str:
    """The URI with the options that it does not have."""
    rest, _, options = uri.partition("?")
    known = {option.partition("=")[0].lower() for option in options.split("&")}
    added = [f"{name}={value}" for name, value in _DEFAULTS.items() if name.lower() not in known]
    if "/" not in rest.partition("://")[2]:
        rest += "/"
    return f"{rest}?{'&'.join(([options] if options else []) + added)}"


def database(uri: str) -> str:
    """The name of the database that a URI names, or the default."""
    _, _, after = uri.partition("?")[0].partition("://")
    return unquote(after.partition("/")[2]) or DATABASE


def without_secrets(uri: str) -> str:
    """Scheme, hosts and database of a URI, for messages."""
    scheme, _, after = uri.partition("?")[0].partition("://")
    return f"{scheme}://{after.partition('/')[0].rpartition('@')[2]}/{database(uri)}"


def _is_host(host: str) -> bool:
    """Whether it is host, host:port, or the path of a socket, which is percent-encoded."""
    if "%" in host:
        return True
    where = request_target.authority(host)
    has_port = ":" in host.rpartition("]")[2]
    return where is not None and bool(where[1] or not has_port)


def problem(uri: str) -> str:
    """What is wrong with a URI, without repeating it; "" when nothing is found."""
    _, _, after = uri.partition("?")[0].partition("://")
    authority, _, name = after.partition("/")
    user, at, hosts = authority.rpartition("@")
    if at and ("@" in user or "/" in user or user.count(":") > 1):
        return "the user's name or password is not percent-encoded"
    if not hosts or not all(host.rpartition(":")[0] or host.strip(":") for host in hosts.split(",")):
        return "it names no host"
    if "/" in name or "@" in name or any(c in unquote(name) for c in ' ."$\\\0'):
        return "its database has no valid name, or the password is not percent-encoded"
    if not all(map(_is_host, hosts.split(","))):
        return "one of its hosts or ports is not valid"
    return ""
