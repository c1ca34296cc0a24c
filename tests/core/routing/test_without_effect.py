"""Every setting at every kind of target has an effect, or is refused with the reason and a hint.

The table below names all of them; a field that is new in settings.py is missed until it is decided here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from gateway.core.model import Backend, Route
from gateway.core.routing.backends.settings import (
    BackendSettings,
    HealthSettings,
    QueueSettings,
    ResolveSettings,
    TlsSettings,
)
from gateway.core.routing.compile import compile_data
from gateway.core.routing.problems import Problem, Problems
from gateway.core.routing.settings import (
    CorsSettings,
    RateLimitSettings,
    RouteSettings,
    TimeoutSettings,
    WebSocketSettings,
)

ADDRESSES = {"addresses": ["unix:x.sock"], "identity": "signed"}
BACKENDS: dict[str, dict[str, Any]] = {
    "gunicorn": {"kind": "gunicorn", "threads": 4, **ADDRESSES},
    "uvicorn": {"kind": "uvicorn", **ADDRESSES},
    "asab": {"kind": "asab", **ADDRESSES},
    "http": {"kind": "http", **ADDRESSES},
    "uvicorn with seats": {"kind": "uvicorn", "concurrency": 4, **ADDRESSES},
}
ASYNC = frozenset({"uvicorn", "asab", "http", "uvicorn with seats"})
WITHOUT_SEATS = frozenset({"uvicorn", "asab", "http"})
WITH_SEATS = frozenset({"gunicorn", "uvicorn with seats"})
DOCUMENTS = frozenset({"documents"})
ALL_BACKENDS = frozenset(BACKENDS)
EVERYWHERE = ALL_BACKENDS | DOCUMENTS
SCOPES = {"read": ["r"], "write": ["w"]}

# field -> a value that is not the default, and the targets where it has an effect; elsewhere it is refused.
ROUTE: dict[str, tuple[dict[str, Any], frozenset[str]]] = {
    "host": ({"host": "h.example"}, EVERYWHERE),
    "methods": ({"methods": ["GET", "POST"]}, EVERYWHERE),
    "strip": ({"strip": "/r"}, EVERYWHERE),
    "scopes": ({"scopes": SCOPES}, ALL_BACKENDS),
    "scopes.manage": ({"scopes": {**SCOPES, "manage": ["m"]}}, DOCUMENTS),
    "public": ({"public": True}, ALL_BACKENDS),
    "timeouts.body": ({"timeouts": {"body": 7}}, EVERYWHERE),
    "timeouts.body_rate": ({"timeouts": {"body_rate": 7}}, EVERYWHERE),
    "timeouts.queue": ({"timeouts": {"queue": 7}}, WITH_SEATS),
    "timeouts.connect": ({"timeouts": {"connect": 7}}, ALL_BACKENDS),
    "timeouts.first_byte": ({"timeouts": {"first_byte": 7}}, ALL_BACKENDS),
    "timeouts.idle": ({"timeouts": {"idle": 7}}, EVERYWHERE),
    "timeouts.total": ({"timeouts": {"total": 7}}, EVERYWHERE),
    "body_limit": ({"body_limit": "7KiB"}, EVERYWHERE),
    "cors.origins": ({"cors": {"origins": ["http://a"]}}, EVERYWHERE),
    "cors.methods": ({"cors": {"origins": ["*"], "methods": ["PUT"]}}, EVERYWHERE),
    "cors.headers": ({"cors": {"origins": ["*"], "headers": ["X-A"]}}, EVERYWHERE),
    "cors.expose": ({"cors": {"origins": ["*"], "expose": ["X-A"]}}, EVERYWHERE),
    "cors.credentials": ({"cors": {"origins": ["http://a"], "credentials": True}}, EVERYWHERE),
    "cors.max_age": ({"cors": {"origins": ["*"], "max_age": 7}}, EVERYWHERE),
    "set_host": ({"set_host": "h:1"}, ALL_BACKENDS),
    "forward_authorization": ({"forward_authorization": True}, ALL_BACKENDS),
    "websocket": ({"websocket": True}, ASYNC),
    "websocket.max_message": ({"websocket": {"max_message": 7}}, ASYNC),
    "websocket.frames": ({"websocket": {"frames": "7/s"}}, ASYNC),
    "websocket.idle": ({"websocket": {"idle": 7}}, ASYNC),
    "websocket.origins": ({"websocket": {"origins": ["http://a"]}}, ASYNC),
    "rate_limit.rate": ({"rate_limit": "7/s"}, EVERYWHERE),
    "rate_limit.burst": ({"rate_limit": {"rate": "1/s", "burst": 7}}, EVERYWHERE),
    "retry": ({"retry": "idempotent"}, ALL_BACKENDS),
    "interim": ({"interim": "relay"}, ALL_BACKENDS),
    "auth": ({"auth": ["api_key"]}, EVERYWHERE),
    "issuers": ({"issuers": ["local"]}, EVERYWHERE),
    "require": ({"require": {"plan": ["pro"]}}, EVERYWHERE),
    "bind": ({"bind": "request"}, ALL_BACKENDS),
}
# "pass" is what documents do anyway, and is refused there.
ROUTE["encoded_slash"] = ({"encoded_slash": "refuse"}, DOCUMENTS)
NEEDED = {"name", "path", "target"}

# The same for a backend, by its kind. "+seats": with concurrency beside it.
PROBES = {"path": "/up"}
SECURED = {"addresses": ["https://a:1"]}
BACKEND: dict[str, tuple[dict[str, Any], frozenset[str]]] = {
    "threads": ({"threads": 7}, frozenset({"gunicorn"})),
    "concurrency": ({"concurrency": 7}, ASYNC),
    "streams": ({"streams": 2}, ALL_BACKENDS),
    "reserve": ({"reserve": 2}, WITH_SEATS),
    "reserve: 0": ({"reserve": 0}, WITH_SEATS),
    "queue.length": ({"queue": {"length": 7}}, WITH_SEATS),
    "queue.timeout": ({"queue": {"timeout": 7}}, WITH_SEATS),
    "health.path": ({"health": PROBES}, ALL_BACKENDS),
    "health.host": ({"health": {**PROBES, "host": "h:1"}}, ALL_BACKENDS),
    "health.interval": ({"health": {**PROBES, "interval": 7}}, ALL_BACKENDS),
    "health.timeout": ({"health": {**PROBES, "timeout": 7}}, ALL_BACKENDS),
    "health.rise": ({"health": {**PROBES, "rise": 7}}, ALL_BACKENDS),
    "health.fall": ({"health": {**PROBES, "fall": 7}}, ALL_BACKENDS),
    "health.expect": ({"health": {**PROBES, "expect": "204"}}, ALL_BACKENDS),
    "health.server_errors": ({"health": {"server_errors": True}}, ALL_BACKENDS),
    "identity": ({"identity": "headers"}, ALL_BACKENDS),
    "tls.ca": ({"tls": {"ca": "ca.pem"}, **SECURED}, ALL_BACKENDS),
    "tls.server_name": ({"tls": {"server_name": "b.example"}, **SECURED}, ALL_BACKENDS),
    "tls.verify": ({"tls": {"verify": False}, **SECURED}, ALL_BACKENDS),
    "tls.certificate": ({"tls": {"certificate": "gw.pem"}, **SECURED}, ALL_BACKENDS),
    "tls.key": ({"tls": {"certificate": "gw.pem", "key": "gw.key"}, **SECURED}, ALL_BACKENDS),
    "resolve.each": ({"resolve": {"each": True}, "addresses": ["http://a:1"]}, ALL_BACKENDS),
    "resolve.interval": ({"resolve": {"interval": 7}, "addresses": ["http://a:1"]}, ALL_BACKENDS),
    "slow_start": ({"slow_start": 7, "addresses": ["unix:x.sock", "unix:y.sock"]}, ALL_BACKENDS),
}


def made(target: str, backend: dict[str, Any] | None = None, **written: Any) -> Route[str, None]:
    """The compiled route to a target of this kind. Raises Problems."""
    backends = {} if target == "documents" else {"b": {**BACKENDS[target], **(backend or {})}}
    route = {"name": "r", "path": "/r/{rest*}", "target": "b" if backends else target, **written}
    data = {"version": 1, "backends": backends, "routes": [route]}
    return compile_data(data, lambda backend: "", "/sockets").table.routes[0]


def refused(target: str, **written: Any) -> list[Problem]:
    with pytest.raises(Problems) as caught:
        made(target, **written)
    return caught.value.items


def cells(table: dict[str, tuple[dict[str, Any], frozenset[str]]], kinds: frozenset[str]) -> list[Any]:
    return [
        pytest.param(field, written, kind, kind in where, id=f"{field}-{kind}")
        for field, (written, where) in table.items()
        for kind in sorted(kinds)
    ]


@pytest.mark.parametrize(("field", "written", "kind", "works"), cells(ROUTE, EVERYWHERE))
def test_a_setting_of_a_route_has_an_effect_or_is_refused(
    field: str, written: dict[str, Any], kind: str, works: bool
) -> None:
    if works:
        assert made(kind, **written) != made(kind)
    elif field == "scopes":
        assert {p.where for p in refused(kind, **written)} == {"routes[0].scopes.manage"}  # it lacks one
    elif field == "encoded_slash":
        assert made(kind, **written) == made(kind)  # the default, in words
    else:
        (problem,) = refused(kind, **written)
        assert problem.where == f"routes[0].{'websocket' if field.startswith('websocket') else field}"
        assert problem.reason
        assert problem.hint


def test_documents_are_not_told_to_pass_the_slashes_that_they_pass_anyway() -> None:
    (problem,) = refused("documents", encoded_slash="pass")
    assert (problem.where, problem.hint) == ("routes[0].encoded_slash", "remove it")
    for kind in ALL_BACKENDS:
        assert made(kind, encoded_slash="pass").encoded_slash


@pytest.mark.parametrize(("field", "written", "kind", "works"), cells(BACKEND, ALL_BACKENDS))
def test_a_setting_of_a_backend_has_an_effect_or_is_refused(
    field: str, written: dict[str, Any], kind: str, works: bool
) -> None:
    if works:
        with_it, without = made(kind, written).backend, made(kind).backend
        assert isinstance(with_it, Backend) and isinstance(without, Backend)
        assert with_it != without
        return
    with pytest.raises(Problems) as caught:
        made(kind, written)
    (problem,) = caught.value.items
    assert problem.where == f"backends.b.{field.partition(':')[0]}"
    assert problem.reason
    assert problem.hint


NESTED: dict[str, type[BaseModel]] = {
    "timeouts": TimeoutSettings,
    "cors": CorsSettings,
    "websocket": WebSocketSettings,
    "rate_limit": RateLimitSettings,
    "health": HealthSettings,
    "queue": QueueSettings,
    "tls": TlsSettings,
    "resolve": ResolveSettings,
}


def fields(model: type[BaseModel]) -> set[str]:
    found = set()
    for name in model.model_fields:
        found |= {f"{name}.{inner}" for inner in NESTED[name].model_fields} if name in NESTED else {name}
    return found


def test_no_setting_is_missing_from_the_tables() -> None:
    assert fields(RouteSettings) - NEEDED <= ROUTE.keys()
    assert fields(BackendSettings) - {"kind", "addresses"} <= BACKEND.keys()


@pytest.mark.parametrize("name", ["retry", "interim", "forward_authorization"])
def test_what_documents_do_anyway_may_be_written(name: str) -> None:
    default = RouteSettings.model_fields[name].default
    assert made("documents", **{name: default}) == made("documents")


@pytest.mark.parametrize(
    ("written", "where", "hint"),
    [
        ({"methods": ["GET"], "scopes": {"read": ["r"], "DELETE": ["d"]}}, "scopes.DELETE", "add DELETE"),
        (
            {"methods": ["GET"], "cors": {"origins": ["*"], "methods": ["GET", "PUT"]}},
            "cors.methods",
            "remove",
        ),
        ({"methods": ["POST"], "websocket": True}, "websocket", "add GET"),
        ({"methods": ["POST", "PATCH"], "retry": "idempotent"}, "retry", "remove"),
    ],
)
def test_what_is_about_methods_that_the_route_never_takes_is_refused(
    written: dict[str, Any], where: str, hint: str
) -> None:
    (problem,) = refused("uvicorn", **written)
    assert problem.where == f"routes[0].{where}"
    assert hint in problem.hint


def test_head_comes_with_get_and_a_bulk_asks_for_the_scopes_of_what_it_does() -> None:
    scopes = {"read": ["r"], "HEAD": ["h"]}
    assert made("uvicorn", methods=["GET"], scopes=scopes).scopes_for("HEAD") == {"h"}
    cors = {"origins": ["*"], "methods": ["HEAD"]}
    assert made("uvicorn", methods=["GET"], cors=cors).cors is not None
    bulk = {"methods": ["POST"], "scopes": {**SCOPES, "DELETE": ["d"]}}
    assert made("documents", **bulk).scopes_for("DELETE") == {"d"}


def test_a_route_to_a_broken_backend_is_not_said_to_have_no_wait() -> None:
    backends = {"b": {"kind": "gunicorn", "threads": 4, "addresses": ["nowhere"]}}
    route = {"name": "r", "path": "/r", "target": "b", "timeouts": {"queue": 1}}
    with pytest.raises(Problems) as caught:
        compile_data({"version": 1, "backends": backends, "routes": [route]}, lambda backend: "", "/s")
    assert [problem.where for problem in caught.value.items] == ["backends.b.addresses[0]"]


def test_routes_are_compared_by_what_they_hold() -> None:
    assert made("http") == made("http")
    assert made("http") != replace(made("http"), body_limit=1)


@pytest.mark.parametrize(
    ("written", "where"),
    [
        ({"slow_start": "30s"}, "backends.b.slow_start"),
        ({"tls": {"verify": False}}, "backends.b.tls"),
        ({"tls": {"verify": False, "ca": "a.pem"}, **SECURED}, "backends.b.tls.ca"),
        ({"tls": {"key": "a.key"}, **SECURED}, "backends.b.tls.key"),
        ({"resolve": {"each": True}}, "backends.b.resolve"),
        ({"resolve": {"each": True}, "addresses": ["http://10.0.0.1:1"]}, "backends.b.resolve"),
        ({"addresses": [{"address": "unix:x.sock", "weight": 3}]}, "backends.b.addresses[0].weight"),
    ],
)
def test_what_cannot_have_an_effect_is_refused(written: dict[str, Any], where: str) -> None:
    with pytest.raises(Problems) as caught:
        made("asab", written)
    assert [problem.where for problem in caught.value.items] == [where]
