"""The types of the routing config's fields: how each is read, its JSON Schema, and what all mappings have in
common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, field_validator
from pydantic_core import PydanticCustomError

from gateway.core.model import TENANT_PATTERN
from gateway.core.routing import amounts, names, patterns
from gateway.core.routing.shape import Word

RATE_PATTERN = f"^{amounts.RATE.pattern}$"


class Strict(BaseModel):
    """A mapping of the config: no key that is not known, no value that is something else, none left empty."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _says_something(cls, value: Any) -> Any:
        """A key with a forgotten value must not mean "no limit" or "any host"."""
        if value is None:
            raise PydanticCustomError("empty", "an empty value says nothing")
        return value


def _either(pattern: str, description: str, minimum: int = 0) -> dict[str, Any]:
    return {
        "anyOf": [{"type": "number", "minimum": minimum}, {"type": "string", "pattern": f"^{pattern}$"}],
        "description": description,
    }


def _text(pattern: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^{pattern}$", **more}


_DURATION = amounts.DURATION.pattern

Duration = Annotated[
    float,
    BeforeValidator(amounts.parse_duration),
    AfterValidator(amounts.above_zero),
    Word("a duration", "5s", _either(_DURATION, "seconds, or a text such as 500ms, 5s, 2m")),
]
DurationOrNone = Annotated[
    float,
    BeforeValidator(amounts.parse_duration),
    Word(
        "a duration", "5m", _either(_DURATION, "seconds, or a text such as 500ms, 5s, 2m; 0 means no limit")
    ),
]
WholeSeconds = Annotated[
    int,
    BeforeValidator(amounts.whole_seconds),
    Word(
        "a duration of at least 1 s",
        "10m",
        _either(_DURATION, "seconds (rounded down to whole ones), or a text such as 5s, 2m", minimum=1),
    ),
]
Size = Annotated[
    int,
    BeforeValidator(amounts.parse_size),
    Word("a size", "10MiB", _either(amounts.SIZE.pattern, "bytes, or a text such as 64KiB, 10MiB")),
]
PerSecond = Annotated[
    float,
    BeforeValidator(amounts.parse_rate),
    Word("a rate", "100/s", _text(amounts.RATE.pattern, description="such as 100/s, 600/m")),
]
Quota = Annotated[
    int,
    BeforeValidator(amounts.parse_quota),
    Word("a quota", "100000/day", _text(amounts.QUOTA.pattern, description="such as 100000/day")),
]
Statuses = Annotated[
    tuple[tuple[int, int], ...],
    BeforeValidator(amounts.parse_statuses),
    Word(
        "a list of statuses",
        "200-399",
        {
            "anyOf": [
                {"type": "integer", "minimum": 100, "maximum": 599},
                {"type": "string", "pattern": f"^{amounts.STATUSES.pattern}$"},
            ],
            "description": "such as 200, 200-399 or 200-299,404",
        },
    ),
]
ProbePath = Annotated[
    str,
    AfterValidator(patterns.check_probe_path),
    Word("the path of a probe", "/healthz", _text(patterns.PROBE_PATH)),
]
Name = Annotated[str, AfterValidator(names.check_name), Word("a name", "orders", _text(names.NAME))]
TenantName = Annotated[
    str, AfterValidator(names.check_tenant), Word("a tenant's name", "acme", _text(TENANT_PATTERN))
]
Scope = Annotated[str, AfterValidator(names.check_scope), Word("a scope", "orders:read", _text(names.SCOPE))]
Method = Annotated[
    str,
    AfterValidator(names.check_method),
    Word("a method", "GET", _text(names.METHOD, **{"not": {"enum": sorted(names.NEVER_SERVED)}})),
]
HostName = Annotated[
    str, AfterValidator(names.check_host), Word("a host", "shop.example.com", _text(names.HOST))
]
HostHeader = Annotated[
    str,
    AfterValidator(names.check_authority),
    Word("a host with or without a port", "app.internal:8000", _text(names.AUTHORITY)),
]
PathPattern = Annotated[
    str,
    AfterValidator(patterns.check_path),
    Word("a path", "/orders/{id}/{rest*}", _text(patterns.PATH)),
]
Origin = Annotated[
    str,
    BeforeValidator(names.check_origin),
    Word("an origin", "https://app.example.com", _text(names.ORIGIN)),
]
HeaderName = Annotated[
    str,
    AfterValidator(names.check_header_name),
    Word("the name of a header", "Content-Type", _text(names.HEADER_NAME)),
]
BackendAddress = Annotated[
    str,
    AfterValidator(names.check_address),
    Word("an address", "http://127.0.0.1:8000", _text("(https?://|unix:).+")),
]
Network = Annotated[
    str, AfterValidator(names.check_network), Word("an IP network", "10.0.0.0/8", {"type": "string"})
]
Link = Annotated[
    str,
    AfterValidator(names.check_link),
    Word("the address of a link", "https://help.example.com", _text(names.LINK)),
]
