"""Two routing configs differ in what they mean, and in nothing else."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from gateway.core.config.differences import Change, FieldChange, differences, view
from gateway.core.routing.backends.settings import (
    BackendSettings,
    HealthSettings,
    QueueSettings,
    ResolveSettings,
    TlsSettings,
)
from gateway.core.routing.compile import compile_data
from gateway.core.routing.issuers.settings import ClaimsSettings, IntrospectionSettings, IssuerSettings
from gateway.core.routing.problems import Problems
from gateway.core.routing.settings import (
    CorsSettings,
    DocumentsSettings,
    RouteSettings,
    TenantSettings,
    TimeoutSettings,
    WebSocketSettings,
)

BACKENDS = {"app": {"kind": "http", "addresses": ["http://127.0.0.1:8000"], "concurrency": 9}}
ROUTE = {"name": "shop", "path": "/shop", "target": "app"}


def config(*routes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"version": 1, "backends": BACKENDS, "routes": list(routes), **more}


def fields(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Of the one route that differs."""
    (change,) = differences(config({**ROUTE, **before}), config({**ROUTE, **after}))
    assert (change.kind, change.name, change.action) == ("routes", "shop", "changed")
    return [(one.path, one.before, one.after) for one in change.fields]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"timeouts": {"total": "5s"}}, {"timeouts": {"total": "5000ms"}}),
        ({"timeouts": {"total": 300}}, {}),
        ({"timeouts": {}}, {}),
        ({"body_limit": "10MiB"}, {"body_limit": 10 * 1024 * 1024}),
        ({"body_limit": "10MiB"}, {}),
        ({"methods": ["GET", "POST"]}, {"methods": ["POST", "GET"]}),
        ({"scopes": {"read": ["a", "b"], "write": []}}, {"scopes": {"write": [], "read": ["b", "a"]}}),
        ({"auth": ["jwt", "api_key"]}, {}),
        ({"rate_limit": "60/m"}, {"rate_limit": {"rate": "1/s", "burst": 1}}),
        ({"websocket": True}, {"websocket": {"max_message": "1MiB", "idle": "1m"}}),
        ({"encoded_slash": "refuse"}, {}),
        ({"require": {"plan": "pro"}}, {"require": {"plan": ["pro"]}}),
        (
            {"cors": {"origins": ["https://a.example"]}},
            {"cors": {"origins": ["https://a.example"], "max_age": "10m", "credentials": False}},
        ),
    ],
)
def test_what_means_the_same_is_no_difference(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert differences(config({**ROUTE, **before}), config({**ROUTE, **after})) == []


def test_the_order_of_routes_and_of_keys_is_no_difference() -> None:
    other = {"target": "app", "path": "/other", "name": "other"}
    assert differences(config(ROUTE, other), config(dict(reversed(other.items())), ROUTE)) == []


def test_a_field_is_named_by_its_path_and_shown_as_it_is_written() -> None:
    assert fields({}, {"timeouts": {"total": "9s"}}) == [("timeouts.total", None, "9s")]
    assert fields({"rate_limit": "1/s"}, {"rate_limit": "2/s"}) == [("rate_limit", "1/s", "2/s")]
    cors = {"origins": ["https://a.example"]}
    assert fields({"cors": cors}, {}) == [("cors", cors, None)]
    assert fields({"cors": cors}, {"cors": {**cors, "credentials": True}}) == [
        ("cors.credentials", None, True)
    ]


def test_what_follows_from_another_field_is_not_told_apart() -> None:
    """Of documents the default of encoded_slash is another one, and the burst follows the rate."""
    assert fields({}, {"target": "documents"}) == [("target", "app", "documents")]
    rates = {"rate_limit": {"rate": "1/s"}}, {"rate_limit": {"rate": "9/s"}}
    assert fields(*rates) == [("rate_limit.rate", "1/s", "9/s")]


def test_the_order_of_addresses_is_a_difference() -> None:
    two = ["http://127.0.0.1:1", "http://127.0.0.1:2"]
    one, other = ({"b": {"kind": "asab", "addresses": order}} for order in (two, two[::-1]))
    assert [c.name for c in differences({"backends": one}, {"backends": other})] == ["b"]


def test_objects_are_added_and_removed_with_what_they_say() -> None:
    before, after = config(tenants={"acme": {"weight": 2}}), config(ROUTE, tenants={"globex": {}})
    assert differences(before, after) == [
        Change("tenants", "acme", "removed", (FieldChange("weight", 2, None),)),
        Change("tenants", "globex", "added", (FieldChange("", None, {}),)),
        Change(
            "routes",
            "shop",
            "added",
            (FieldChange("path", None, "/shop"), FieldChange("target", None, "app")),
        ),
    ]


def test_a_renamed_route_is_removed_and_added_with_a_hint() -> None:
    removed_and_added = differences(config(ROUTE), config({**ROUTE, "name": "store"}))
    assert [(c.name, c.action, c.renamed) for c in removed_and_added] == [
        ("shop", "removed", "store"),
        ("store", "added", "shop"),
    ]
    two = differences(config(ROUTE), config({**ROUTE, "name": "a"}, {**ROUTE, "name": "b"}))
    assert {change.renamed for change in two} == {""}  # nobody knows which of them it is


def test_keys_at_the_top_are_settings() -> None:
    after = config(front_page=True, client_limit="5/s", trusted_proxies=[])
    assert differences(config(), after) == [
        Change("settings", "client_limit", "added", (FieldChange("", None, "5/s"),))
    ]
    other = config(client_limit={"rate": "5/s", "burst": 9})
    (change,) = differences(after, other)
    assert change.action == "changed" and change.fields[0].after == {"rate": "5/s", "burst": 9}


def test_the_local_issuer_switched_off_is_a_difference() -> None:
    (change,) = differences(config(), config(issuers={"local": False}))
    assert change == Change("issuers", "local", "added", (FieldChange("", None, False),))


def test_what_is_not_well_formed_is_compared_as_it_is_written() -> None:
    assert fields({"timeout": "5s"}, {"timeout": "5000ms"}) == [("timeout", "5s", "5000ms")]
    assert fields({"public": 1}, {"public": True}) == [("public", 1, True)]
    assert fields({"timeouts": None}, {"timeouts": {"total": "1s"}})
    for broken in ("text", 7, [], {"routes": "none"}, {"routes": [7]}, {"tenants": [1]}, {"routs": []}):
        assert differences(broken, config(ROUTE)), broken
        assert differences(broken, copy.deepcopy(broken)) == []
    assert differences(None, {}) == []


def test_two_routes_of_one_name_hide_no_difference() -> None:
    """Such a config is refused. An editor is all the same told of all that was written."""
    other = {**ROUTE, "path": "/other"}
    assert differences(config(ROUTE, ROUTE), config(ROUTE, other))
    odd = {**ROUTE, "name": "routes[1]"}
    assert len(differences(config(), config(odd, {**ROUTE, "name": 7}))) == 2


def test_a_view_is_bounded_and_shows_no_secret() -> None:
    token = "gwt_" + "a" * 43
    issuer = {"introspection": {"client_secret": "hunter2"}}
    data = config(
        {**ROUTE, "set_host": token, "scopes": {"read": ["x" * 99] * 999, "write": ["y" * 5000]}},
        issuers={"a": issuer},
        front_page={"token": f"Bearer {token}", "deep": {"a": {"b": {"c": {"d": {"e": 1}}}}}},
    )
    shown = json.dumps([view(change) for change in differences({}, data)])
    assert token not in shown and "hunter2" not in shown
    assert len(shown) < 8000 and "and 949 more" in shown


ISSUER = {"issuer": "https://id.example", "audiences": ["a"], "discovery": True, "tenants": ["acme"]}
ASKED = {"url": "https://id.example/ask", "client_id": "a", "client_secret": {"env": "A"}}
PLACES: dict[type[BaseModel], Callable[[dict[str, Any]], dict[str, Any]]] = {  # where each is written
    HealthSettings: lambda said: {"backends": {"b": {**BACKENDS["app"], "health": said}}},
    TlsSettings: lambda said: {"backends": {"b": {**BACKENDS["app"], "tls": said}}},
    ResolveSettings: lambda said: {"backends": {"b": {**BACKENDS["app"], "resolve": said}}},
    QueueSettings: lambda said: {"backends": {"b": {**BACKENDS["app"], "queue": said}}},
    BackendSettings: lambda said: {"backends": {"b": {**BACKENDS["app"], **said}}},
    TenantSettings: lambda said: {"tenants": {"acme": said}},
    DocumentsSettings: lambda said: {"tenants": {"acme": {"documents": said}}},
    TimeoutSettings: lambda said: config({**ROUTE, "timeouts": said}),
    CorsSettings: lambda said: config({**ROUTE, "cors": {"origins": ["https://a.example"], **said}}),
    WebSocketSettings: lambda said: config({**ROUTE, "websocket": said}),
    RouteSettings: lambda said: config({**ROUTE, **said}),
    IssuerSettings: lambda said: {"issuers": {"id": {**ISSUER, **said}}},
    ClaimsSettings: lambda said: {"issuers": {"id": {**ISSUER, "claims": said}}},
    IntrospectionSettings: lambda said: {"issuers": {"id": {**ISSUER, "introspection": {**ASKED, **said}}}},
}
NO_CONSTANTS = {  # said of them in words: the backend's; with a burst of its own
    (TimeoutSettings, "queue"),
    (WebSocketSettings, "frames"),
    (DocumentsSettings, "max_bytes"),
}


def _documented_defaults() -> Iterator[tuple[type[BaseModel], str, Any]]:
    for kind in PLACES:
        for name, field in kind.model_fields.items():
            found = re.search(r"[Dd]efault:? ([0-9a-z][0-9a-zA-Z-]*)(?=[;,)]|$)", field.description or "")
            if found is not None and found[1] != "any" and (kind, name) not in NO_CONSTANTS:
                words = {"no": False, "false": False}
                yield kind, name, words.get(found[1], int(found[1]) if found[1].isdecimal() else found[1])


def test_every_default_that_is_documented_counts_as_not_written() -> None:
    tried = 0
    for kind, name, value in _documented_defaults():
        one, other = PLACES[kind]({}), PLACES[kind]({name: value})
        assert not differences(one, other), (kind.__name__, name, value)
        tried += 1
    assert tried > 20


# --- properties ------------------------------------------------------------------------------------

_amount = st.sampled_from(["5s", "5000ms", 5, "1m", 60, "300s"])
_scopes = st.lists(st.sampled_from(["a", "b", "c"]), max_size=2)
_route = st.fixed_dictionaries(
    {"path": st.sampled_from(["/a", "/b/{c}", "/d/{e*}"]), "target": st.sampled_from(["app", "documents"])},
    optional={
        "methods": st.lists(st.sampled_from(["GET", "PUT", "POST"]), min_size=1, max_size=3),
        "scopes": st.fixed_dictionaries({"read": _scopes, "write": _scopes}, optional={"manage": _scopes}),
        "timeouts": st.fixed_dictionaries({}, optional={"total": _amount, "body": _amount, "bad": _amount}),
        "body_limit": st.sampled_from(["10MiB", 10485760, "1KiB", "oops"]),
        "public": st.sampled_from([True, False, 1]),
        "rate_limit": st.sampled_from(["1/s", {"rate": "60/m", "burst": 1}, {"rate": "2/s"}]),
        "websocket": st.sampled_from([True, False, {"idle": "60s"}]),
        "cors": st.fixed_dictionaries(
            {"origins": st.just(["https://a.example"])}, optional={"max_age": _amount}
        ),
        "auth": st.sampled_from([["jwt"], ["jwt", "api_key"], ["api_key"]]),
    },
)
_tenant = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["acme", "Acme"]),
        "weight": st.sampled_from([1, 1.0, 2]),
        "quota": st.sampled_from(["9/day", "9 / day"]),
        "documents": st.fixed_dictionaries({}, optional={"max_feeds": st.sampled_from([100, 7])}),
    },
)
_backend = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["gunicorn", "asab"]),
        "addresses": st.sampled_from([["unix:a"], ["unix:b", "unix:a"]]),
    },
    optional={
        "threads": st.sampled_from([1, 8]),
        "streams": st.sampled_from([0, 2]),
        "queue": st.fixed_dictionaries({}, optional={"length": st.just(1000), "timeout": _amount}),
    },
)


@st.composite
def _config(draw: Any) -> dict[str, Any]:
    routes = draw(st.dictionaries(st.sampled_from(["r1", "r2", "r3"]), _route, max_size=3))
    more = st.fixed_dictionaries(
        {},
        optional={
            "client_limit": st.sampled_from(["1/s", {"rate": "1/s", "burst": 1}]),
            "front_page": st.sampled_from([True, False, {}, {"title": "x"}]),
            "tenants": st.dictionaries(st.sampled_from(["acme", "globex"]), _tenant),
            "backends": st.fixed_dictionaries({"app": _backend}),
            "trusted_proxies": st.sampled_from([[], ["10.0.0.0/8"], "10.0.0.0/8"]),
        },
    )
    return {"version": 1, "routes": [{"name": n, **r} for n, r in routes.items()], **draw(more)}


def _applied(changes: list[Change], data: dict[str, Any]) -> dict[str, Any]:
    """The config with the changes made in it."""
    data = json.loads(json.dumps(data))  # which shares no part of it
    routes = {route["name"]: route for route in data["routes"]}
    for change in changes:
        section = {"routes": routes, "settings": data}.get(change.kind)
        section = data.setdefault(change.kind, {}) if section is None else section
        if change.action == "removed":
            del section[change.name]
            continue
        if change.action == "added":
            section[change.name] = {"name": change.name} if change.kind == "routes" else {}
        for one in change.fields:
            place, steps = section, [change.name, *(one.path.split(".") if one.path else [])]
            for step in steps[:-1]:
                place = place.setdefault(step, {})
            if one.after is None:
                del place[steps[-1]]
            else:
                place[steps[-1]] = one.after
    return {**data, "routes": list(routes.values())}


@settings(max_examples=60, deadline=None)
@given(before=_config(), after=_config())
def test_the_changes_lead_from_one_config_to_the_other_and_back(before: Any, after: Any) -> None:
    assert differences(before, copy.deepcopy(before)) == []
    changes = differences(before, after)
    assert differences(_applied(changes, before), after) == []
    back = differences(after, before)
    swap = {"added": "removed", "removed": "added", "changed": "changed"}
    assert [(c.kind, c.name, swap[c.action]) for c in changes] == [(c.kind, c.name, c.action) for c in back]
    for one, other in zip(changes, back, strict=True):
        assert [(f.path, f.after, f.before) for f in one.fields] == [
            (f.path, f.before, f.after) for f in other.fields
        ]


@settings(max_examples=60, deadline=None)
@given(before=_config(), after=_config())
def test_configs_without_a_difference_compile_to_the_same(before: Any, after: Any) -> None:
    if differences(before, after):
        after = {**before, "routes": before["routes"][::-1]}
    one, other = _compiled(before), _compiled(after)
    assert one == other


def _compiled(data: Any) -> Any:
    try:
        snapshot = compile_data(data, lambda of: None, "/sockets")
    except Problems as problems:
        return len(problems.items) > 0
    routes = {route.name: route for route in snapshot.table.routes}
    return routes, snapshot.backends, snapshot.tenants, snapshot.trusted, snapshot.limits, set(snapshot.own)
