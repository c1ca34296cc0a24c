"""Plain data to a Snapshot, or every problem at once.

Problems come in two kinds: of shape (settings.py) and of meaning (compile.py). A config with a misspelt
key may also name a backend that is not there; so that one look finds both, the meaning is checked of what
is left when the parts of a wrong shape are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from gateway.core.front_page import FrontPage
from gateway.core.model import Backend
from gateway.core.routing.compile import compile_settings
from gateway.core.routing.problems import Path, Problem, Problems
from gateway.core.routing.settings import parse
from gateway.core.routing.snapshot import Snapshot

T = TypeVar("T")


def compile_data(data: Any, target: Callable[[Backend | FrontPage | None], T], sockets: str) -> Snapshot[T]:
    """As `compile_settings`, from plain data. Raises Problems with all of them."""
    try:
        settings = parse(data)
    except Problems as shape:
        more = _meaning(data, shape.items, sockets) if isinstance(data, Mapping) else []
        raise Problems([*shape.items, *more]) from None
    return compile_settings(settings, target, sockets)


def _meaning(data: Mapping[str, Any], shape: list[Problem], sockets: str) -> list[Problem]:
    """The problems of meaning of the parts whose shape is right."""
    broken = {problem.path for problem in shape}
    named = data.get("backends", {})
    names = named.keys() if isinstance(named, Mapping) else None
    try:
        compile_settings(parse(_well_formed(data, broken)), lambda backend: None, sockets)
    except Problems as found:
        return [p for p in found.items if not _is_doubtful(p, data, names)]
    return []


def _well_formed(data: Mapping[str, Any], broken: set[Path]) -> dict[str, Any]:
    """The backends and routes, with stand-ins where one is broken, so that names and places stay."""
    backends, routes = data.get("backends"), data.get("routes")
    kept: dict[str, Any] = {"version": 1}
    if isinstance(backends, Mapping):
        bad = {path[1] for path in broken if len(path) > 1 and path[0] == "backends"}
        unnamed = {path[1] for path in broken if len(path) == 2 and path[0] == "backends"}
        kept["backends"] = {
            name: _stand_in(index) if name in bad else written
            for index, (name, written) in enumerate(backends.items())
            if name not in unnamed
        }
    if isinstance(routes, list):
        kept["routes"] = [_route(index, written, broken) for index, written in enumerate(routes)]
    return kept


def _stand_in(index: int) -> dict[str, Any]:
    """A backend at an address of its own. With seats, so that what routes say of the wait for one holds."""
    return {"kind": "http", "addresses": [f"http://left-out-{index}.invalid:1"], "concurrency": 1}


def _route(index: int, written: Any, broken: set[Path]) -> Any:
    mine = [path for path in broken if path[:2] == ("routes", index)]
    if not mine:
        return written
    # A host of its own: what is left of a broken route takes no other route's requests.
    alone = {"name": f"left-out-{index}", "host": f"left-out-{index}.invalid"}
    fields = {path[2] for path in mine if len(path) > 2}
    if any(len(path) == 2 for path in mine) or fields & {"path", "target"}:
        return {**alone, "path": "/", "target": "documents"}
    rest = {key: value for key, value in written.items() if key not in fields}
    return {**rest, **({} if "name" in rest else alone), "host": alone["host"]}


def _is_doubtful(problem: Problem, data: Mapping[str, Any], names: Any) -> bool:
    """Whether it may only be there because something was left out: a target whose backend is broken."""
    match problem.path:
        case ("routes", int(index), "target"):
            return names is None or data["routes"][index]["target"] in names
    return False
