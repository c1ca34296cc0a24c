"""The words of the routing config: durations, sizes, rates, names, patterns, each with its JSON Schema."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_network
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.json_schema import WithJsonSchema
from pydantic_core import PydanticCustomError

from gateway.core import origin
from gateway.core.model import TENANT_PATTERN
from gateway.core.table import PatternError, compile_pattern


def wrong(reason: str, mend: str) -> PydanticCustomError:
    """An error for pydantic that carries how to mend it."""
    return PydanticCustomError("gateway", "{reason}", {"reason": reason, "mend": mend})


_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h)?")
_SIZE = re.compile(r"([0-9]{1,15})\s*(B|KiB|MiB|GiB)?")
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*/\s*(s|m|h)")
_STATUSES = re.compile(r"[1-5][0-9]{2}(-[1-5][0-9]{2})?(\s*,\s*[1-5][0-9]{2}(-[1-5][0-9]{2})?)*")
RATE_PATTERN = f"^{_RATE.pattern}$"
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_MAX_RATE = 1_000_000  # per second
_QUOTA = re.compile(r"([1-9][0-9]{0,14})\s*/\s*day")
NEVER_SERVED = frozenset({"CONNECT", "TRACE"})  # target.py refuses them before a route is looked for


def parse_duration(value: Any) -> float:
    """Seconds of `2`, `0.5`, "500ms", "5s", "2m" or "1h"."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        found = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise wrong("it is not a duration", "write seconds as a number, or a text such as 500ms, 5s, 2m")
        seconds = float(found[1]) * _SECONDS[found[2] or "s"]
    if not 0 <= seconds <= 86400:
        raise wrong("a duration lies between 0 and 24 hours", "choose a value in that range")
    return seconds


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise wrong("this time-out cannot be 0", "choose a duration above 0")
    return seconds


def _size(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise wrong("it is not a size", "write bytes as a whole number, or a text such as 64KiB, 10MiB")
    return int(found[1]) * _BYTES[found[2] or "B"]


def _per_second(value: Any) -> float:
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None or float(found[1]) <= 0:
        raise wrong("it is not a rate", "write requests per second, minute or hour, such as 100/s or 600/m")
    rate = float(found[1]) / _SECONDS[found[2]]
    if not 1 / 86400 <= rate <= _MAX_RATE:
        raise wrong("a rate lies between one in 24 hours and 1000000/s", "choose a value in that range")
    return rate


def _quota(value: Any) -> int:
    found = _QUOTA.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise wrong("it is not a quota", "write requests per day, such as 100000/day")
    return int(found[1])


def _statuses(value: Any) -> tuple[tuple[int, int], ...]:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _STATUSES.fullmatch(text):
        raise wrong("it is no list of statuses", "write such as 200, 200-399 or 200-299,404")
    parts = [part.strip().partition("-") for part in text.split(",")]
    ranges = tuple((int(low), int(high or low)) for low, _, high in parts)
    if any(low > high for low, high in ranges):
        raise wrong("a range of statuses ends before it begins", "write the lower one first")
    return ranges


def _pattern(value: str) -> str:
    try:
        compile_pattern(value)
    except PatternError as error:
        raise wrong(
            f"the path pattern is not valid: {error}", "write it as in /orders/{id}/{rest*}"
        ) from None
    return value


def _network(value: str) -> str:
    if value != "unix":
        try:
            ip_network(value)
        except ValueError:
            raise wrong("it is not an IP network", "write 10.0.0.0/8, ::1/128, or unix") from None
    return value


def _is_host(host: str) -> bool:
    """Whether a host can be looked up: labels of 1 to 63 characters (RFC 1035 section 2.3.4), 253 in all, or
    an IPv6 address in brackets."""
    if host.startswith("["):
        try:
            return bool(IPv6Address(host[1:-1]))
        except ValueError:
            return False
    return len(host) <= 253 and all(0 < len(label) <= 63 for label in host.split("."))


def _host(value: str) -> str:
    if not _is_host(value):
        raise wrong("a part of it is empty or longer than 63 characters", "correct the name")
    return value


def _authority(value: str) -> str:
    host, port = _split_authority(value)
    if not _is_host(host) or not 0 < int(port or 1) < 65536:
        raise wrong("it is not an authority", "write host or host:port, with a port up to 65535")
    return value


def _split_authority(value: str) -> tuple[str, str]:
    """The host and the port ("" without one)."""
    host, colon, port = value.rpartition(":")
    return (host, port) if colon and not port.endswith("]") else (value, "")


def _method(value: str) -> str:
    if value in NEVER_SERVED:
        raise wrong(f"{value} is never served", "remove it")
    return value


def _whole_seconds(value: Any) -> int:
    seconds = int(parse_duration(value))
    if not seconds:
        raise wrong("it is told in whole seconds, so it is at least 1", "choose a longer time, such as 10m")
    return seconds


def _address(value: str) -> str:
    if re.fullmatch(r"http://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})/?", value):
        host, port = _split_authority(value.removeprefix("http://").rstrip("/"))
        if _is_host(host) and 0 < int(port) < 65536:
            return value
    elif re.fullmatch(r"unix:[^\0\s]{1,255}", value):
        return value
    raise wrong("it is not an address", "write http://host:port or unix:name.sock")


def _origin(value: Any) -> str:
    """`*`, or an origin as a browser writes it: they are compared byte for byte."""
    if value == "*":
        return "*"
    if value is None or value == "null":
        raise wrong(
            "null is the origin of any sandboxed page, whoever made it",
            'list origins of your own, or write "*" if every page may',
        )
    meant = origin.serialized(value) if isinstance(value, str) else None
    if meant is None:
        reason = "a * stands alone, it is no part of an origin" if "*" in str(value) else "it is no origin"
        guess = origin.serialized(f"https://{value}") if isinstance(value, str) else None
        raise wrong(reason, f'write such as {guess or "https://app.example"}, or "*" for any')
    if meant != value:
        raise wrong("no browser writes this origin so, and it would match no page", f"write {meant}")
    return meant


def _schema(pattern: str, description: str, minimum: int = 0) -> WithJsonSchema:
    either: dict[str, Any] = {
        "anyOf": [{"type": "number", "minimum": minimum}, {"type": "string", "pattern": f"^{pattern}$"}],
        "description": description,
    }
    return WithJsonSchema(either)


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    AfterValidator(_positive),
    _schema(_DURATION.pattern, "seconds, or a text such as 500ms, 5s, 2m"),
]
DurationOrNone = Annotated[
    float,
    BeforeValidator(parse_duration),
    _schema(_DURATION.pattern, "seconds, or a text such as 500ms, 5s, 2m; 0 means no limit"),
]
WholeSeconds = Annotated[
    int,
    BeforeValidator(_whole_seconds),
    _schema(_DURATION.pattern, "seconds (whole ones are told), or a text such as 5s, 2m", minimum=1),
]
Size = Annotated[int, BeforeValidator(_size), _schema(_SIZE.pattern, "bytes, or a text such as 64KiB, 10MiB")]
PerSecond = Annotated[
    float,
    BeforeValidator(_per_second),
    WithJsonSchema({"type": "string", "pattern": RATE_PATTERN, "description": "such as 100/s, 600/m"}),
]
Quota = Annotated[
    int,
    BeforeValidator(_quota),
    WithJsonSchema({"type": "string", "pattern": f"^{_QUOTA.pattern}$", "description": "such as 100000/day"}),
]
Statuses = Annotated[
    tuple[tuple[int, int], ...],
    BeforeValidator(_statuses),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 100, "maximum": 599},
                {"type": "string", "pattern": f"^{_STATUSES.pattern}$"},
            ],
            "description": "such as 200, 200-399 or 200-299,404",
        }
    ),
]
ProbePath = Annotated[str, Field(pattern=r"^/[\x21\x22\x24-\x7e]{0,1000}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
TenantName = Annotated[str, Field(pattern=f"^{TENANT_PATTERN}$")]
Scope = Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,100}$")]
Method = Annotated[
    str,
    Field(pattern=r"^[A-Z][A-Z0-9-]{0,31}$", json_schema_extra={"not": {"enum": sorted(NEVER_SERVED)}}),
    AfterValidator(_method),
]
HostName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"), AfterValidator(_host)]
HostHeader = Annotated[
    str,
    Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$"),
    AfterValidator(_authority),
]
PathPattern = Annotated[str, AfterValidator(_pattern)]
Origin = Annotated[
    str,
    BeforeValidator(_origin),
    Field(pattern=r"^(\*|[a-z][a-z0-9+.-]*://[^/\s*]+)$"),
]
HeaderName = Annotated[str, Field(pattern=r"^(\*|[A-Za-z0-9!#$%&'*+.^`|~-]+)$")]
BackendAddress = Annotated[str, AfterValidator(_address)]
Network = Annotated[str, AfterValidator(_network)]
