"""The objects of the routing config: routes, backends, tenants and issuers, by name. Plain data as
strict_yaml.parse gives it; nothing here changes what it is given, for aliases share parts of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KINDS = ("routes", "backends", "tenants", "issuers")
_ROUTES = "routes"  # a list; the others are mappings


def objects(data: Any, kind: str) -> dict[str, Any]:
    """All objects of a kind by name, in the order of the text."""
    section = data.get(kind) if isinstance(data, Mapping) else None
    if kind == _ROUTES:
        items = section if isinstance(section, list) else []
        return {item["name"]: item for item in items if isinstance(item, dict) and "name" in item}
    return dict(section) if isinstance(section, Mapping) else {}


def with_object(data: Mapping[str, Any] | None, kind: str, name: str, value: Any) -> dict[str, Any]:
    """The data with the object as given. A new one comes last, an object of the same name stays where it
    is."""
    data = data or {}
    section = data.get(kind)
    if kind != _ROUTES:
        return {**data, kind: {**(section or {}), name: value}}
    value = {"name": name, **value}
    routes = list(section or ())
    for index, route in enumerate(routes):
        if route.get("name") == name:
            routes[index] = value
            break
    else:
        routes.append(value)
    return {**data, kind: routes}


def without_object(data: Mapping[str, Any], kind: str, name: str) -> dict[str, Any]:
    """The data without the object."""
    if kind == _ROUTES:
        return {**data, kind: [route for route in data[kind] if route.get("name") != name]}
    return {**data, kind: {key: value for key, value in data[kind].items() if key != name}}
