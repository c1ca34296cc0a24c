"""What differs between two routing configs, by meaning: a default is the same written or not, `5s` is
`5000ms`, the order of routes says nothing. What is not well-formed is compared as it is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from gateway.core.config.meaning import as_meant, default_of
from gateway.core.redact import HIDDEN, redact

KINDS = ("settings", "issuers", "backends", "tenants", "routes")
_ABSENT = object()  # in place of what is not written
_NEEDED = frozenset({"name", "path", "target"})  # of a route, which is none without them
_MAX_TEXT = 200  # characters of a value in a view
_MAX_ENTRIES = 50  # of a list or a mapping in a view
_MAX_DEPTH = 4  # of a value in a view
_MORE = "…"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """path: from its object on, with dots, `timeouts.total`; "" for all of the object. before, after: as
    written, None for what is not written."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Change:
    """One object that differs.

    kind: `routes`, `backends`, `tenants`, `issuers`, or `settings` for a key at the top, which is its name
    then. action: `added`, `removed`, `changed`. fields: what differs; of an object that was added or removed
    what it says, key by key. renamed: of a route that was removed or added, the name of the one that says the
    same on the other side, "" without exactly one.
    """

    kind: str
    name: str
    action: str
    fields: tuple[FieldChange, ...]
    renamed: str = ""


def differences(before: Any, after: Any) -> list[Change]:
    """Every object that differs, by kind and name. before, after: plain data as YAML gives it, also of a
    config that does not compile."""
    old, new = _objects(before), _objects(after)
    found: list[Change] = []
    for kind in KINDS:
        changes = []
        for name in sorted(old[kind].keys() | new[kind].keys()):
            change = _compare(kind, name, old[kind].get(name, _ABSENT), new[kind].get(name, _ABSENT))
            if change is not None:
                changes.append(change)
        found += _with_renamed(changes) if kind == "routes" else changes
    return found


def _objects(data: Any) -> dict[str, dict[str, Any]]:
    """What a config consists of: by kind, then by name. A section of the wrong shape is a setting."""
    found: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    if not isinstance(data, Mapping):
        data = {} if data is None else {"": data}
    for key, value in data.items():
        if key == "routes" and isinstance(value, list):
            for position, route in enumerate(value):
                found[key][_route_name(route, position, found[key])] = route
        elif key in ("backends", "tenants", "issuers") and isinstance(value, Mapping):
            found[key] = dict(value)
        else:
            found["settings"][key] = value
    return found


def _route_name(route: Any, position: int, taken: Mapping[str, Any]) -> str:
    """The name of a route; its place in the list where it has none of its own."""
    name = route.get("name") if isinstance(route, Mapping) else None
    if not isinstance(name, str) or name in taken:
        name = f"routes[{position}]"
    while name in taken:
        name += "'"
    return name


def _compare(kind: str, name: str, old: Any, new: Any) -> Change | None:
    if repr(old) == repr(new):  # most objects of most edits, and far cheaper than what they mean
        return None
    one_sided = old is _ABSENT or new is _ABSENT
    if kind == "settings" or not one_sided:
        fields = tuple(_fields("", *_meanings(kind, name, old, new)))
        if not one_sided or not fields:
            return Change(kind, name, "changed", fields) if fields else None
    action, written = ("added", new) if old is _ABSENT else ("removed", old)
    whole = [("", written)]
    if isinstance(written, Mapping) and written:
        whole = [(key, value) for key, value in written.items() if kind != "routes" or key != "name"]
    if old is _ABSENT:
        return Change(kind, name, action, tuple(FieldChange(path, None, value) for path, value in whole))
    return Change(kind, name, action, tuple(FieldChange(path, value, None) for path, value in whole))


_Side = tuple[Any, Any]  # what it means, and as it is written


def _meanings(kind: str, name: str, old: Any, new: Any) -> tuple[_Side, _Side]:
    """Both by meaning, or both as written where one of them is not well-formed."""
    if kind == "routes":
        old, new = _apart(old, new)
    said = {key for one in (old, new) if isinstance(one, Mapping) for key in one}
    try:
        meant = [
            default_of(name) if one is _ABSENT else as_meant(kind, name, one, said) for one in (old, new)
        ]
    except ValueError:
        meant = [_as_written(one) for one in (old, new)]
    return (meant[0], old), (meant[1], new)


def _apart(old: Any, new: Any) -> tuple[Any, Any]:
    """Two routes without what they say alike, which need not be read: most edits are of a key or two."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return old, new
    alike = {key for key in old.keys() & new.keys() if repr(old[key]) == repr(new[key])} - _NEEDED
    left = [{key: value for key, value in one.items() if key not in alike} for one in (old, new)]
    return left[0], left[1]


def _as_written(value: Any) -> Any:
    """In a form in which 1, 1.0 and true differ."""
    if isinstance(value, Mapping):
        return {key: _as_written(one) for key, one in value.items()}
    if isinstance(value, list):
        return tuple(_as_written(one) for one in value)
    return type(value), value


def _fields(path: str, old: _Side, new: _Side) -> Iterator[FieldChange]:
    (meant_old, was), (meant_new, now) = old, new
    if meant_old == meant_new:
        return
    inside = all(one is _ABSENT or isinstance(one, Mapping) for one in (was, now))
    if inside and isinstance(meant_old, dict) and isinstance(meant_new, dict):
        for key in sorted(meant_old.keys() | meant_new.keys(), key=str):
            within = f"{path}.{key}" if path else str(key)
            yield from _fields(within, _at(key, old), _at(key, new))
    elif was is not _ABSENT or now is not _ABSENT:  # else it follows from another field
        yield FieldChange(path, None if was is _ABSENT else was, None if now is _ABSENT else now)


def _at(key: str, side: _Side) -> _Side:
    meant, written = side
    return meant.get(key, _ABSENT), _ABSENT if written is _ABSENT else written.get(key, _ABSENT)


def _with_renamed(changes: list[Change]) -> list[Change]:
    """The changes of routes, with a hint at those that were only renamed."""
    sides: dict[str, tuple[list[str], list[str]]] = {}  # by what they say: names of removed and added ones
    for change in changes:
        if change.action != "changed":
            sides.setdefault(_says(change), ([], []))[change.action == "added"].append(change.name)
    other: dict[str, str] = {}
    for removed, added in sides.values():
        if len(removed) == len(added) == 1:
            other |= {removed[0]: added[0], added[0]: removed[0]}
    return [replace(change, renamed=other.get(change.name, "")) for change in changes]


def _says(change: Change) -> str:
    side = "after" if change.action == "added" else "before"
    return repr(sorted((one.path, repr(getattr(one, side))) for one in change.fields))


# --- for people -----------------------------------------------------------------------------------


def view(change: Change) -> dict[str, Any]:
    """The JSON of a change: what is large is cut, and *** stands for what looks like a secret."""
    fields = []
    for one in change.fields:
        before, after = (_shown(value, one.path) for value in (one.before, one.after))
        fields.append({"path": _text(one.path), "before": before, "after": after})
    named = {"kind": change.kind, "name": _text(change.name), "action": change.action, "fields": fields}
    return {**named, "renamed": _text(change.renamed)} if change.renamed else named


def _shown(value: Any, name: str, depth: int = 0) -> Any:
    """A value as it is shown. name: of its key, which may say that it is a secret."""
    if isinstance(value, str):
        return HIDDEN if name.endswith(("secret", "password")) else _text(value)
    if not isinstance(value, Mapping | list) or not value:
        return value
    if depth == _MAX_DEPTH:
        return _MORE
    left = len(value) - _MAX_ENTRIES
    if isinstance(value, list):
        entries = [_shown(one, name, depth + 1) for one in value[:_MAX_ENTRIES]]
        return [*entries, f"{_MORE} and {left} more"] if left > 0 else entries
    shown = {_text(str(k)): _shown(one, str(k), depth + 1) for k, one in islice(value.items(), _MAX_ENTRIES)}
    return {**shown, _MORE: f"and {left} more"} if left > 0 else shown


def _text(text: str) -> str:
    text = redact(text)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}{_MORE}"
