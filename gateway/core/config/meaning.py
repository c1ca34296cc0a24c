"""What an object of the routing config means, in a form in which two can be compared: amounts by value, what
is not written as its default, lists of which the order says nothing as sets."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import fields
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from gateway.core.jwt.issuer import ClaimRules, Introspection
from gateway.core.model import (
    FRESH,
    SMALL_FRAMES,
    Backend,
    CorsRule,
    Route,
    Tenant,
    Timeouts,
    WebSocketRule,
)
from gateway.core.policy.circuit import HealthRule
from gateway.core.routing.backends.compile import compile_backend
from gateway.core.routing.backends.settings import (
    BackendSettings,
    HealthSettings,
    QueueSettings,
    ResolveSettings,
)
from gateway.core.routing.compile_routes import DOCUMENTS
from gateway.core.routing.issuers import settings as issuers
from gateway.core.routing.issuers.callers import DEFAULT_KINDS
from gateway.core.routing.issuers.compile import compile_issuer
from gateway.core.routing.settings import (
    CorsSettings,
    DocumentsSettings,
    RateLimitSettings,
    RouteSettings,
    Settings,
    TenantSettings,
    TimeoutSettings,
    WebSocketSettings,
)

_KINDS: Mapping[str, TypeAdapter[Any]] = {
    "routes": TypeAdapter(RouteSettings),
    "backends": TypeAdapter(BackendSettings),
    "tenants": TypeAdapter(TenantSettings),
    "issuers": TypeAdapter(issuers.IssuerOrOff),
}
_ORDERED = frozenset({"addresses", "algorithms"})  # the lists of which the order says something


def _constants(kind: Any) -> dict[str, Any]:
    """The defaults of a dataclass."""
    return {field.name: field.default for field in fields(kind)}


# By the fields' names: what the compiled config has where a field is None, which is "not written". The
# default of a route's timeouts.queue is its backend's, so it has none here.
_DEFAULTS: Mapping[type[BaseModel], Mapping[str, Any]] = {
    HealthSettings: _constants(HealthRule),
    QueueSettings: {"length": _constants(Backend)["queue_length"], "timeout": _constants(Timeouts)["queue"]},
    ResolveSettings: {"interval": FRESH},
    BackendSettings: {"identity": _constants(Backend)["identity"]},
    DocumentsSettings: {"body_memory": _constants(Tenant)["body_memory"]},
    TimeoutSettings: {**_constants(Timeouts), "queue": None},
    CorsSettings: {"max_age": _constants(CorsRule)["max_age"]},
    WebSocketSettings: {
        **_constants(WebSocketRule),
        "frames": {"rate": SMALL_FRAMES.per_second, "burst": SMALL_FRAMES.burst},
    },
    RouteSettings: {"body_limit": _constants(Route)["body_limit"]},
    issuers.ClaimsSettings: _constants(ClaimRules),
    issuers.IntrospectionSettings: {"keep": _constants(Introspection)["keep"]},
}


def as_meant(kind: str, name: str, written: Any, keys: Container[str]) -> Any:
    """The meaning of an object: dicts, frozensets, tuples and plain values. kind: `routes` and so on, or
    `settings` for a key at the top, which may also be a plain value. keys: of a mapping, those to give, with
    the default of one that is not written. Raises ValueError where it is not well-formed."""
    try:
        if kind == "settings":
            return _meaning(getattr(Settings.model_validate({"version": 1, name: written}), name))
        read = _KINDS[kind].validate_python(written)
    except (ValidationError, AttributeError):
        raise ValueError(f"{name} in {kind} is not well-formed") from None
    meant = _of_model(read, keys) if isinstance(read, BaseModel) else read
    if kind == "tenants" and "name" in meant:
        meant["name"] = meant["name"] or name
    if kind == "routes" and meant.get("auth") == DEFAULT_KINDS:
        meant["auth"] = frozenset()
    return meant


def default_of(setting: str) -> Any:
    """The meaning of a key at the top that is not written. Raises ValueError where there is no such key, or
    it has to be written."""
    try:
        return _meaning(Settings.model_fields[setting].get_default())
    except KeyError:
        raise ValueError(f"there is no {setting}") from None


def _meaning(read: Any, field: str = "") -> Any:
    if isinstance(read, BaseModel):
        return _of_model(read, type(read).model_fields)
    if isinstance(read, dict):
        return {name: _meaning(value) for name, value in read.items()}
    if isinstance(read, list | tuple) and field not in _ORDERED:
        return frozenset(read)
    return tuple(read) if isinstance(read, list) else read


def _of_model(read: BaseModel, keys: Container[str]) -> dict[str, Any]:
    known = {**_DEFAULTS.get(type(read), {}), **_depending(read)}
    return {
        name: _meaning(known.get(name) if value is None else value, name)
        for name, value in vars(read).items()
        if name in keys
    }


def _depending(read: BaseModel) -> dict[str, Any]:
    """The defaults that are not the same for all."""
    match read:
        case RateLimitSettings():
            return {"burst": read.compiled().burst}
        case BackendSettings():
            return {"streams": compile_backend("", read, "").streams}
        case RouteSettings():
            return {"encoded_slash": "pass" if read.target == DOCUMENTS else "refuse"}
        case issuers.IssuerSettings():
            compiled = compile_issuer("", read, "")
            return {"algorithms": compiled.algorithms, "leeway": compiled.leeway}
        case _:
            return {}
