"""The routing config: every problem at once, each with its path and the hint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gateway.config import strict_yaml
from gateway.core.front_page import FrontPage
from gateway.core.model import Backend, Timeouts, WebSocketRule
from gateway.core.policy.circuit import HealthRule
from gateway.core.policy.limits import LimitRules, Rate
from gateway.core.routing.backends.settings import BackendSettings
from gateway.core.routing.compile import compile_data
from gateway.core.routing.problems import Problem, Problems
from gateway.core.routing.settings import (
    RouteSettings,
    Settings,
    TenantSettings,
    json_schema,
    parse,
)
from gateway.core.routing.snapshot import Snapshot

CONFIG = Path(__file__).parents[3] / "config"
BACKENDS = {
    "flask": {"kind": "gunicorn", "addresses": ["unix:flask.sock", "http://127.0.0.1:1"], "threads": 4},
    "fast": {"kind": "uvicorn", "addresses": ["http://[::1]:8000/"]},
}


def compiled(data: Any) -> Snapshot[str, None]:
    def target(backend: Backend | FrontPage | None) -> str:
        return backend.name if isinstance(backend, Backend) else "store"

    return compile_data(data, target, "/sockets")


def problems(data: Any) -> dict[str, Problem]:
    with pytest.raises(Problems) as caught:
        compiled(data)
    found = {problem.where: problem for problem in caught.value.items}
    assert len(found) == len(caught.value.items)
    assert all(problem.reason and problem.hint for problem in found.values())
    return found


def config(*routes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"version": 1, "backends": BACKENDS, "tenants": {"acme": {}}, "routes": list(routes), **more}


def ill(**health: Any) -> dict[str, Any]:
    return {"kind": "asab", "addresses": ["unix:x"], "health": health}


def route(**more: Any) -> dict[str, Any]:
    return {"name": "r", "path": "/r/{rest*}", "target": "fast", **more}


# --- what a good one means -------------------------------------------------------------------------


def test_a_whole_config_is_compiled_with_every_name_resolved() -> None:
    made = compiled(
        config(
            route(
                host="h.example", methods=["GET", "PUT", "DELETE"], strip="/r/", body_limit="64KiB",
                set_host="h:1", scopes={"read": ["a"], "write": ["b", "c"], "DELETE": []},
                forward_authorization=True, timeouts={"connect": "500ms", "total": 0, "idle": 2},
                target="flask", cors={"origins": ["http://a"], "max_age": "1h"},
            ),
            tenants={"acme": {"rate_limit": "600/m", "name": "Acme"}, "old": {"disabled": True,
                     "rate_limit": {"rate": "2/s", "burst": 7}}},
            trusted_proxies=["10.0.0.0/8", "unix"],
        )
    )  # fmt: skip
    (only,) = made.table.routes
    assert (only.target, only.target_name, only.strip, only.host) == ("flask", "flask", "/r", "h.example")
    assert only.timeouts == Timeouts(connect=0.5, total=0, idle=2)
    assert (only.body_limit, only.set_host, only.forward_authorization) == (65536, "h:1", True)
    assert only.scopes_for("GET") == {"a"}
    assert only.scopes_for("PUT") == {"b", "c"}
    assert only.scopes_for("DELETE") == set()
    assert only.cors is not None
    assert (only.cors.max_age, only.cors.origins) == (3600, ("http://a",))
    assert only.backend is made.backends["flask"]
    assert [(a.path, a.host, a.port) for a in only.backend.addresses] == [
        ("/sockets/flask.sock", "", 0), ("", "127.0.0.1", 1),
    ]  # fmt: skip
    assert [(a.host, a.port) for a in made.backends["fast"].addresses] == [("::1", 8000)]
    acme, old = made.tenants["acme"], made.tenants["old"]
    assert acme.rate is not None
    assert old.rate is not None
    assert (acme.name, acme.rate.per_second, acme.rate.burst) == ("Acme", 10, 10)
    assert (old.name, old.disabled, old.rate.burst) == ("old", True, 7)
    assert made.trusted.unix
    assert len(made.trusted.networks) == 1


def test_documents_have_scopes_by_collection_and_tenants_quotas() -> None:
    scopes = {"read": ["r"], "write": ["w"], "manage": ["m"]}
    routes = [
        route(target="documents", scopes=scopes),
        route(target="documents", name="s", path="/s", scopes={"read": ["r"], "write": []}, methods=["GET"]),
    ]
    quota = {"max_documents": 5, "max_bytes": "1KiB", "max_feeds": 1, "max_collections": 3}
    tenants = {"acme": {"documents": quota}, "old": {}}
    made = compiled({**config(*routes), "tenants": tenants})
    first, second = made.table.routes
    assert first.by_collection and second.by_collection and first.scopes_for("manage") == {"m"}
    acme, old = made.tenants["acme"], made.tenants["old"]
    assert (acme.max_documents, acme.max_bytes, acme.max_feeds, acme.max_collections) == (5, 1024, 1, 3)
    assert (old.max_documents, old.max_bytes, old.max_feeds, old.max_collections) == (None, None, 100, 10_000)


@pytest.mark.parametrize(
    ("max_age", "seconds"), [(1, 1), ("1s", 1), (2.0, 2), ("1500ms", 1), (2.9, 2), ("1h", 3600)]
)
def test_the_age_of_a_preflight_is_whole_seconds(max_age: Any, seconds: int) -> None:
    cors = compiled(config(route(cors={"origins": ["*"], "max_age": max_age}))).table.routes[0].cors
    assert cors is not None
    assert (cors.max_age, type(cors.max_age)) == (seconds, int)


@pytest.mark.parametrize("host", ["h", "h:1", "H.Example:65535", "[::1]", "[::1]:80", "10.0.0.1:80"])
def test_the_host_that_a_route_sets_is_an_authority(host: str) -> None:
    assert compiled(config(route(set_host=host))).table.routes[0].set_host == host


def test_limits_and_health_are_compiled() -> None:
    made = compiled(
        config(
            route(rate_limit={"rate": "5/s", "burst": 9}),
            tenants={"acme": {"quota": "100000/day"}, "free": {}},
            client_limit="20/s",
            rate_limit_headers="draft",
            backends={
                "fast": ill(
                    path="/up?x=1", host="h:1", interval="1s", timeout="500ms", rise=1, fall=9,
                    expect="200-299,404", server_errors=True,
                ),
                "plain": {"kind": "asab", "addresses": ["unix:y"]},
            },
        )
    )  # fmt: skip
    assert made.table.routes[0].rate == Rate(5, 9)
    assert (made.tenants["acme"].quota, made.tenants["free"].quota) == (100_000, 0)
    assert made.limits == LimitRules(Rate(20, 20), "draft")
    rule = made.backends["fast"].health
    assert rule == HealthRule("/up?x=1", "h:1", 1.0, 0.5, 1, 9, ((200, 299), (404, 404)), True)
    assert [status for status in (199, 200, 299, 300, 404, 405) if rule.expects(status)] == [200, 299, 404]
    assert made.backends["plain"].health == HealthRule()


def test_addresses_at_the_limits_are_taken() -> None:
    label = "a" * 63
    addresses = ["unix:" + "x" * 98, f"http://{label}.{label}:65535", "http://my_service:1"]
    backend = {"b": {"kind": "asab", "addresses": addresses}}
    assert len(compiled(config(backends=backend)).backends["b"].addresses) == 3


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        (False, None),
        (True, WebSocketRule(1024 * 1024, 60.0, ("http://a",))),
        (
            {"max_message": "64KiB", "idle": "5s", "origins": ["http://b"]},
            WebSocketRule(65536, 5.0, ("http://b", "http://a")),
        ),
    ],
)
def test_a_route_opts_in_to_websockets(written: Any, rule: WebSocketRule | None) -> None:
    made = compiled(config(route(websocket=written, cors={"origins": ["http://a"]})))
    assert made.table.routes[0].websocket == rule


def test_a_route_opts_in_to_retries_and_interim_answers() -> None:
    plain, both = compiled(
        config(route(), route(name="b", path="/b", retry="idempotent", interim="relay"))
    ).table.routes
    assert (plain.retry, plain.interim) == (False, False)
    assert (both.retry, both.interim) == (True, True)


def test_documents_is_the_gateways_own_store() -> None:
    (only,) = compiled(config(route(target="documents"))).table.routes
    assert (only.target, only.backend) == ("store", None)


@pytest.mark.parametrize(
    ("path", "strip", "expected"),
    [("/a b/{r*}", "/a b", "/a%20b"), ("/%61pi/{r*}", "/api", "/api"), ("/api/{r*}", "/%61pi/", "/api"),
     ("/x/y", "/x/y", "/x/y"), ("/x", "", ""), ("/x", "/", "")],
)  # fmt: skip
def test_what_is_stripped_is_canonical_as_the_path_of_a_request_is(
    path: str, strip: str, expected: str
) -> None:
    assert compiled(config(route(path=path, strip=strip))).table.routes[0].strip == expected


@pytest.mark.parametrize(
    ("change", "passes"),
    [({}, False), ({"encoded_slash": "refuse"}, False), ({"encoded_slash": "pass"}, True),
     ({"target": "documents"}, True), ({"target": "documents", "encoded_slash": "refuse"}, False)],
)  # fmt: skip
def test_an_encoded_slash_passes_to_a_backend_only_where_the_route_says_so(
    change: dict[str, Any], passes: bool
) -> None:
    assert compiled(config(route(**change))).table.routes[0].encoded_slash is passes


# --- each kind of problem --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "where", "reason", "hint"),
    [
        ({"timeouts": {"conect": 1}}, "timeouts.conect", "unknown", "did you mean 'connect'?"),
        ({"tagret": "x"}, "tagret", "unknown", "did you mean 'target'?"),
        ({"zzz": 1}, "zzz", "unknown", "known here: auth, bind"),
        ({"cors": {"origins": ["*"], "credential": True}}, "cors.credential", "unknown", "'credentials'"),
        ({"timeouts": {"connect": "5 parsecs"}}, "timeouts.connect", "not a duration", "500ms"),
        ({"timeouts": {"connect": True}}, "timeouts.connect", "not a duration", "500ms"),
        ({"timeouts": {"connect": 0}}, "timeouts.connect", "cannot be 0", "above 0"),
        ({"timeouts": {"connect": "25h"}}, "timeouts.connect", "24 hours", "24h"),
        ({"timeouts": {"total": -1}}, "timeouts.total", "-1 is not", "total: 5m"),
        ({"timeouts": {"total": float("nan")}}, "timeouts.total", "24 hours", "total: 5m"),
        ({"body_limit": "10MB"}, "body_limit", "not a size", "10MiB"),
        ({"body_limit": -1}, "body_limit", "not a size", "10MiB"),
        ({"body_limit": "9" * 5000}, "body_limit", "not a size", "10MiB"),
        ({"path": "/{a}/{a}"}, "path", "twice", "write path: /{a}/{a2};"),
        ({"path": "r"}, "path", "starts with a slash", "write path: /r;"),
        ({"path": 7}, "path", "7 is not a path", "write path: /orders/{id}"),
        ({"name": "a b"}, "name", "'a b' is not a name", "write name: a-b"),
        ({"name": "a\n"}, "name", "is not a name", "write name: a;"),
        ({"host": "A.example"}, "host", "small letters", "write host: a.example;"),
        ({"host": "h:80"}, "host", "the port is no part", "write host: h;"),
        ({"methods": ["get"]}, "methods[0]", "'get' is not a method", "write GET;"),
        ({"methods": "GET"}, "methods", "'GET' is not a list", "write methods: [GET]"),
        ({"scopes": {"read": ["a b"]}}, "scopes.read[0]", "'a b' is not one scope", "write a;"),
        ({"scopes": {"read": "a"}}, "scopes.read", "'a' is not a list", "write read: [a]"),
        ({"scopes": {"reed": ["a"]}}, "scopes.reed", "no method", "read, write"),
        ({"scopes": {"DELTE": ["a"]}}, "scopes.DELTE", "no method", "such as DELETE"),
        ({"public": "no"}, "public", "'no' is not true or false", "write public: false;"),
        ({"scopes": {"read": ["a"]}}, "scopes.write", "any valid token could write", "write: []"),
        ({"scopes": {"write": ["a"]}}, "scopes.read", "any valid token could read", "read: []"),
        ({"scopes": {"read": ["a"]}, "methods": ["GET", "PUT"]}, "scopes.write", "could write", "write: []"),
        ({"scopes": {"read": [], "write": []}, "target": "documents"}, "scopes.manage", "delete collections",
         "manage: []"),
        ({"scopes": {"read": [], "write": [], "manage": []}}, "scopes.manage", "no collections", "remove it"),
        ({"public": True, "scopes": {"read": ["a"]}}, "scopes", "public route checks no token", "remove"),
        ({"public": True, "target": "documents"}, "public", "belong to tenants", "remove public"),
        ({"target": "flsk"}, "target", "no backend 'flsk'", "did you mean flask?"),
        ({"scopes": {"Read": ["a"], "write": []}}, "scopes.Read", "no method", "did you mean read?"),
        ({"target": "slow"}, "target", "no backend 'slow'", "known: documents, fast, flask"),
        ({"encoded_slash": "decode"}, "encoded_slash", "one of refuse, pass", "write encoded_slash: refuse"),
        ({"path": "/a%2Fb"}, "path", "holds %2F, which the route refuses", "encoded_slash: pass"),
        ({"strip": "/q"}, "strip", "'/q': the path does not begin with it", "write strip: /r"),
        ({"strip": "/re"}, "strip", "does not begin with it", "leading part"),
        ({"strip": "r"}, "strip", "does not begin with it", "leading part"),
        ({"strip": "/r/{rest*}"}, "strip", "parameter", "literal"),
        ({"name": "none"}, "name", "the metrics mean something else by 'none'", "another name"),
        ({"name": "other"}, "name", "the metrics mean something else by 'other'", "another name"),
        ({"methods": ["GET", "TRACE"]}, "methods[1]", "TRACE never is", "remove it"),
        ({"methods": ["CONNECT"]}, "methods[0]", "CONNECT never is", "remove it"),
        ({"cors": {"origins": ["*"], "methods": ["TRACE"]}}, "cors.methods[0]", "TRACE never is", "remove"),
        ({"host": "a" * 64 + ".example"}, "host", "longer than 63", "write host: shop.example.com;"),
        ({"host": "a..example"}, "host", "empty or longer", "write host: a.example;"),
        ({"host": "a" * 254}, "host", "longer than 63", "shop.example.com"),
        ({"set_host": "h:65536"}, "set_host", "not a host with", "from 1 to 65535"),
        ({"set_host": "h:0"}, "set_host", "not a host with", "host:port"),
        ({"set_host": "[::g]:1"}, "set_host", "not a host with", "app.internal:8000"),
        ({"set_host": "[1::2::3]"}, "set_host", "not a host with", "host:port"),
        ({"set_host": "a" * 64 + ":1"}, "set_host", "not a host with", "host:port"),
        ({"cors": {"origins": ["*"], "max_age": 0}}, "cors.max_age", "whole seconds", "10m"),
        ({"cors": {"origins": ["*"], "max_age": "500ms"}}, "cors.max_age", "whole seconds", "10m"),
        ({"cors": {"origins": ["*"], "max_age": 0.99}}, "cors.max_age", "whole seconds", "10m"),
        ({"cors": {"origins": ["*"], "max_age": "25h"}}, "cors.max_age", "24 hours", "24h"),
        ({"set_host": "a\r\nX-Evil: 1"}, "set_host", "not a host with", "app.internal:8000"),
        ({"cors": {"origins": ["*", "http://a"]}}, "cors.origins", "stands alone", "list the origins"),
        ({"cors": {"origins": ["*"], "credentials": True}}, "cors.origins", "never with credentials", "list"),
        ({"cors": {"origins": []}}, "cors.origins", "at least 1", "[https://app.example.com]"),
        ({"cors": {"origins": ["a.example"]}}, "cors.origins[0]", "no origin", "https://a.example"),
        ({"cors": {"origins": ["http://a/"]}}, "cors.origins[0]", "no browser writes", "write http://a"),
        ({"cors": {"origins": ["https://a:443"]}}, "cors.origins[0]", "no browser writes", "write https://a"),
        ({"cors": {"origins": ["HTTP://A.b:80"]}}, "cors.origins[0]", "no browser writes", "write http://a.b"),
        ({"cors": {"origins": ["https://*.a.example"]}}, "cors.origins[0]", "stands alone", "for any"),
        ({"cors": {"origins": ["null"]}}, "cors.origins[0]", "any sandboxed page", "of your own"),
        ({"cors": {"origins": [None]}}, "cors.origins[0]", "any sandboxed page", "of your own"),
        ({"cors": {"origins": [80]}}, "cors.origins[0]", "no origin", "https://"),
        (
            {"cors": {"origins": ["http://a"], "expose": ["*"], "credentials": True}},
            "cors.expose",
            "takes * for a name",
            "list the headers",
        ),
        (
            {"methods": ["GET"], "cors": {"origins": ["http://a"], "methods": ["HEAD", "PUT"]}},
            "cors.methods",
            "does not take PUT",
            "the route's methods",
        ),
        ({"cors": {"origins": ["*"], "headers": ["a b"]}}, "cors.headers[0]", "name of a header", "write a;"),
        ({"websocket": True, "target": "flask"}, "websocket", "hold a thread", "uvicorn, asab or http"),
        ({"websocket": {}, "target": "documents"}, "websocket", "store has none", "remove it"),
        ({"websocket": "yes"}, "websocket", "'yes' is not true, false", "write websocket: true;"),
        ({"websocket": {"max_mesage": 1}}, "websocket.max_mesage", "unknown", "did you mean 'max_message'?"),
        ({"websocket": {"idle": 0}}, "websocket.idle", "cannot be 0", "above 0"),
        ({"websocket": {"origins": ["a.example"]}}, "websocket.origins[0]", "no origin", "https://a.example"),
        ({"retry": "all"}, "retry", "one of none, idempotent", "write retry: none"),
        ({"retry": "idempotent", "target": "documents"}, "retry", "about backends", "remove it"),
        ({"interim": True}, "interim", "true is not one of drop, relay", "write interim: relay; or drop"),
        ({"interim": "relay", "target": "documents"}, "interim", "about backends", "remove it"),
    ],
)  # fmt: skip
def test_each_problem_of_a_route_has_its_path_reason_and_hint(
    change: dict[str, Any], where: str, reason: str, hint: str
) -> None:
    (problem,) = problems(config(route(name="first", path="/first"), route(**change))).values()
    assert problem.where == f"routes[1].{where}"
    assert reason in problem.reason
    assert hint in problem.hint


@pytest.mark.parametrize(
    ("change", "where", "reason", "hint"),
    [
        ({"version": 2}, "version", "2 is not 1", "write version: 1"),
        ({"rotues": []}, "rotues", "unknown", "did you mean 'routes'?"),
        ({"routes": {}}, "routes", "an empty mapping is not a list", "write routes: ["),
        ({"backends": {"documents": BACKENDS["fast"]}}, "backends.documents", "own store", "another name"),
        ({"backends": {"a b": BACKENDS["fast"]}}, "backends.a b", "is not a name", "write a-b;"),
        ({"backends": {"b": {"kind": "apache", "addresses": ["unix:x"]}}}, "backends.b.kind", "gunicorn", ""),
        ({"backends": {"b": {"kind": "asab", "addresses": []}}}, "backends.b.addresses", "1 to 64", ""),
        ({"backends": {"b": {"kind": "asab", "adresses": ["unix:x"], "addresses": ["unix:x"]}}},
         "backends.b.adresses", "unknown", "did you mean 'addresses'?"),
        ({"backends": {"b": {"kind": "gunicorn", "addresses": ["unix:x"]}}}, "backends.b.threads",
         "needs its number", "--threads"),
        ({"backends": {"b": {"kind": "asab", "addresses": ["unix:x"], "threads": 2}}}, "backends.b.threads",
         "has no threads", "kind: gunicorn"),
        ({"backends": {"b": {"kind": "gunicorn", "addresses": ["unix:x"], "threads": 0}}},
         "backends.b.threads", "0 is not a whole number from 1 to 1000", "write threads: 8"),
        ({"backends": {"b": {**BACKENDS["flask"], "concurrency": 9}}}, "backends.b.concurrency",
         "as many requests as it has threads", "remove it"),
        ({"backends": {"b": {**BACKENDS["flask"], "streams": 4}}}, "backends.b.streams", "all 4 threads",
         "below threads"),
        ({"backends": {"b": {**BACKENDS["flask"], "reserve": 8}}}, "backends.b.reserve", "all 8 seats",
         "below that of all seats"),
        ({"backends": {"b": {"kind": "asab", "addresses": ["unix:x"], "reserve": 1}}}, "backends.b.reserve",
         "no limit", "remove it"),
        ({"backends": {"b": {**BACKENDS["flask"], "queue": {"lenght": 4}}}}, "backends.b.queue.lenght",
         "unknown", "did you mean 'length'?"),
        ({"backends": {"b": {**BACKENDS["flask"], "queue": {"timeout": 0}}}}, "backends.b.queue.timeout",
         "cannot be 0", "above 0"),
        ({"tenants": {"acme": {"weight": 0}}}, "tenants.acme.weight", "0 is not a number from 0.01", ""),
        ({"tenants": {"acme": {"weight": float("nan")}}}, "tenants.acme.weight", "", ""),
        ({"tenants": {"acme": {"concurrency": 0}}}, "tenants.acme.concurrency", "number from 1", ""),
        ({"backends": {"b": {"kind": "asab", "addresses": ["unix:x", "unix:x"]}}}, "backends.b.addresses",
         "there twice", "once"),
        ({"backends": {**BACKENDS, "b": {"kind": "asab", "addresses": ["unix:x",
          "unix:/sockets/flask.sock"]}}}, "backends.b.addresses[1]", "'flask' has this address",
         "one backend"),
        ({"backends": {**BACKENDS, "b": {"kind": "asab", "addresses": ["http://[::1]:8000"]}}},
         "backends.b.addresses[0]", "the backend 'fast' has this address too", "one backend"),
        ({"backends": {"a": {"kind": "asab", "addresses": ["http://H:1"]},
                       "b": {"kind": "asab", "addresses": ["http://h:1/"]}}},
         "backends.b.addresses[0]", "the backend 'a' has this address too", "one backend"),
        ({"backends": {"b": {"kind": "asab", "addresses": ["unix:" + "x" * 99]}}},
         "backends.b.addresses[0]", "has 108 bytes (/sockets/x", "shorter"),
        ({"backends": {"b": {"kind": "asab", "addresses": ["unix:/" + "é" * 54]}}},
         "backends.b.addresses[0]", "has 109 bytes", "shorter"),
        ({"tenants": {"Acme": {}}}, "tenants.Acme", "not a tenant's name", "write acme;"),
        ({"tenants": {"acme": {"rate_limit": "fast"}}}, "tenants.acme.rate_limit", "not a rate", "100/s"),
        ({"tenants": {"acme": {"rate_limit": "0/s"}}}, "tenants.acme.rate_limit", "not a rate", "100/s"),
        ({"tenants": {"acme": {"rate_limit": "9" * 400 + "/s"}}}, "tenants.acme.rate_limit", "between", ""),
        ({"tenants": {"acme": {"rate_limit": {"rate": "1/s", "brust": 2}}}}, "tenants.acme.rate_limit.brust",
         "unknown", "did you mean 'burst'?"),
        ({"tenants": {"acme": {"disabled": "yes"}}}, "tenants.acme.disabled", "true or false", "true;"),
        ({"tenants": {"acme": {"quota": "100/h"}}}, "tenants.acme.quota", "not a quota", "100000/day"),
        ({"tenants": {"acme": {"quota": "0/day"}}}, "tenants.acme.quota", "not a quota", "100000/day"),
        ({"tenants": {"acme": {"documents": {"body_memory": "1MiB"}}}}, "tenants.acme.documents.body_memory",
         "2MiB at a time", "2MiB or more"),
        ({"tenants": {"acme": {"quota": 5}}}, "tenants.acme.quota", "not a quota", "100000/day"),
        ({"client_limit": "many"}, "client_limit", "not a rate", "100/s"),
        ({"client_limit": {"rate": "1/s", "brust": 2}}, "client_limit.brust", "unknown", "'burst'"),
        ({"rate_limit_headers": "on"}, "rate_limit_headers", "draft, legacy, none", ""),
        ({"backends": {"b": ill(path="healthz")}}, "backends.b.health.path", "path of a probe", "/healthz;"),
        ({"backends": {"b": ill(interval="1s")}}, "backends.b.health", "no probes", "add path"),
        ({"backends": {"b": ill(path="/", fal=1)}}, "backends.b.health.fal", "unknown", "'fall'"),
        ({"backends": {"b": ill(path="/", fall=0)}}, "backends.b.health.fall", "number from 1 to 100", ""),
        ({"backends": {"b": ill(path="/", interval=0)}}, "backends.b.health.interval", "cannot be 0", ""),
        ({"backends": {"b": ill(path="/", expect="2xx")}}, "backends.b.health.expect", "statuses", "200-399"),
        ({"backends": {"b": ill(path="/", expect="399-200")}}, "backends.b.health.expect", "ends before",
         "lower"),
        ({"trusted_proxies": ["10.0.0.0/33"]}, "trusted_proxies[0]", "not an IP network", "10.0.0.0/8"),
    ],
)  # fmt: skip
def test_each_problem_outside_the_routes_too(
    change: dict[str, Any], where: str, reason: str, hint: str
) -> None:
    (problem,) = problems({**config(), **change}).values()
    assert problem.where == where
    assert reason in problem.reason
    assert hint in problem.hint


def test_seats_as_written_or_by_default() -> None:
    written = {"streams": 2, "reserve": 1, "queue": {"length": 7, "timeout": "2s"}}
    made = compiled(
        config(
            route(target="all"),
            route(name="own", path="/own", target="all", timeouts={"queue": "9s"}),
            backends={
                "none": {"kind": "gunicorn", "addresses": ["unix:a"], "threads": 8},
                "one": {"kind": "gunicorn", "addresses": ["unix:b"], "threads": 1},
                "async": {"kind": "uvicorn", "addresses": ["unix:c"]},
                "all": {"kind": "uvicorn", "addresses": ["unix:d"], "concurrency": 50, **written},
            },
            tenants={"acme": {"weight": 3, "concurrency": 20}, "globex": {}},
        )
    )
    seats = {
        name: (b.threads, b.concurrency, b.streams, b.reserve, b.queue_length)
        for name, b in made.backends.items()
    }
    assert seats == {
        "none": (8, 0, 2, None, 1000),
        "one": (1, 0, 0, None, 1000),
        "async": (0, 0, None, None, 1000),
        "all": (0, 50, 2, 1, 7),
    }
    assert {r.name: r.timeouts.queue for r in made.table.routes}["own"] == 9
    assert {r.timeouts.queue for r in made.table.routes} == {2, 9}
    assert [(t.weight, t.concurrency) for t in made.tenants.values()] == [(3, 20), (1, 0)]


@pytest.mark.parametrize(
    "address",
    ["", "127.0.0.1:80", "https://h", "http://h", "http://h:0", "http://h:65536", "http://h:1/x", "http://u@h:1",
     "http://::1:80", "http://[1::2::3]:1", "http://a..b:1", "http://" + "a" * 64 + ":1",
     "http://" + "a." * 126 + "aa:1", "unix:", "unix:a b", "unix:a\0", "unix:" + "a" * 256],
)  # fmt: skip
def test_what_is_no_address(address: str) -> None:
    found = problems(config(backends={"b": {"kind": "asab", "addresses": [address]}}))
    assert "not an address" in found["backends.b.addresses[0]"].reason


def fields_that_may_be_left_out() -> Iterator[tuple[str, ...]]:
    for model, above in (
        (Settings, ()),
        (RouteSettings, ("routes",)),
        (BackendSettings, ("backends",)),
        (TenantSettings, ("tenants",)),
    ):
        yield from ((*above, name) for name, field in model.model_fields.items() if not field.is_required())


@pytest.mark.parametrize("place", list(fields_that_may_be_left_out()), ids=".".join)
def test_a_value_that_was_forgotten_never_means_no_limit_or_any(place: tuple[str, ...]) -> None:
    *above, key = place
    data: dict[str, Any] = {
        "version": 1,
        "backends": {"b": {"kind": "http", "addresses": ["http://b:1"]}},
        "tenants": {"t": {}},
        "routes": [{"name": "r", "path": "/r", "target": "b"}],
    }
    parse(data)
    inner: Any = data
    if above:
        inner = data["routes"][0] if above == ["routes"] else next(iter(data[above[0]].values()))
    inner[key] = None
    with pytest.raises(Problems) as caught:
        parse(data)
    (problem,) = caught.value.items
    assert problem.path[-1] == key
    assert "an empty value" in problem.reason
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(data)


def test_a_list_of_no_methods_is_not_any_method() -> None:
    assert list(problems(config(route(methods=[])))) == ["routes[0].methods"]


@pytest.mark.parametrize("given", ["${BACKEND}", "http://${HOST}:80", "$(BACKEND)"])
def test_variables_are_said_not_to_be_filled_in(given: str) -> None:
    (problem,) = problems(config(backends={"b": {"kind": "http", "addresses": [given]}})).values()
    assert "not filled in" in problem.hint


@pytest.mark.parametrize("data", [None, [], "text", 7])
def test_what_is_no_mapping_is_no_config(data: Any) -> None:
    assert problems(data)["(the whole file)"].hint == "start the file with version: 1"


def test_a_missing_key_is_named() -> None:
    found = problems({"version": 1, "routes": [{"name": "r"}], "backends": {"b": {"kind": "asab"}}})
    assert set(found) == {"routes[0].path", "routes[0].target", "backends.b.addresses"}
    assert "version" in problems({})


def test_a_name_that_is_taken_and_requests_that_are_taken() -> None:
    found = problems(
        config(
            route(name="a", path="/x"), route(name="a", path="/y"), route(name="b", path="/x"),
            route(name="c", path="/z", methods=["GET"]), route(name="d", path="/z", methods=["GET", "PUT"]),
        )
    )  # fmt: skip
    assert set(found) == {"routes[1].name", "routes[2]", "routes[4]"}
    assert "'a' is taken by routes[0]" in found["routes[1].name"].reason
    assert found["routes[2]"].reason == "the route 'b' never matches: a took its requests before"
    assert found["routes[4]"].reason == "the route 'd' never matches GET: c took its requests before"


def test_problems_of_shape_and_of_meaning_are_all_there_at_once() -> None:
    found = problems(
        {
            "version": 3,
            "backends": {"flask": {"kind": "gunicorn", "addresses": ["unix:a"]}, "bad": {"kind": "x"}},
            "tenants": {"Acme": {}},
            "routes": [
                route(name="a", target="nobody", tiemouts={}),
                route(name="b", target="bad", public=True, scopes={"read": ["s"]}),
                route(name="c", target="flask", path="/x"),
                route(name="d", target="flask", path="/x", strip="/q"),
                route(name="e", target="flask", path="//"),
                route(name="c", target="flask", path="/y", methods=["get"]),
                7,
            ],
            "trusted_proxies": ["x"],
        }
    )  # fmt: skip
    assert set(found) == {
        "version", "backends.flask.threads", "backends.bad.kind", "backends.bad.addresses", "tenants.Acme",
        "routes[0].tiemouts", "routes[0].target", "routes[1].scopes", "routes[3]", "routes[3].strip",
        "routes[4].path", "routes[5].methods[0]", "routes[5].name", "routes[6]", "trusted_proxies[0]",
    }  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        {**config(route()), "backends": {"fast": {"kind": "uvicorn", "addresses": ["x"]}}},
        {**config(route(target="a b")), "backends": {"a b": BACKENDS["fast"]}},
        {**config(route()), "backends": ["fast"]},
        config(route(name="a", methods=["GET"], path="/x"), route(name="b", path="/x", method=["PUT"])),
        config(route(name="a", path="/x", host="Q"), route(name="b", path="/x")),
    ],
)
def test_one_mistake_is_not_reported_as_two(data: dict[str, Any]) -> None:
    assert len(problems(data)) == 1


def test_two_broken_backends_are_not_said_to_share_an_address() -> None:
    broken = {name: {"kind": "asab", "addresses": []} for name in ("a", "b")}
    found = problems(
        {**config(route(target="a"), route(name="s", path="/s", target="b")), "backends": broken}
    )
    assert set(found) == {"backends.a.addresses", "backends.b.addresses"}


# --- the JSON Schema --------------------------------------------------------------------------------

SCHEMA = json_schema()


def valid(data: Any) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(data)


def test_the_schema_in_the_repository_is_the_one_that_is_exported() -> None:
    assert json.loads((CONFIG / "routing.schema.json").read_text()) == SCHEMA


def test_the_schema_is_a_schema_and_takes_the_config_of_the_repository() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    text = (CONFIG / "routing.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=routing.schema.json\n")
    data = strict_yaml.parse(text).data
    assert valid(data)
    compiled(data)


@pytest.mark.parametrize(
    "data",
    [
        config(zzz=1),
        config(route(zzz=1)),
        config(route(timeouts={"zzz": 1})),
        config(route(cors={"origins": ["*"], "zzz": 1})),
        config(tenants={"acme": {"zzz": 1}}),
        config(backends={"b": {"kind": "asab", "addresses": ["unix:x"], "zzz": 1}}),
        config(route(timeouts={"connect": "5 parsecs"})),
        config(route(body_limit="10MB")),
        config(tenants={"acme": {"rate_limit": "fast"}}),
        config(tenants={"Acme": {}}),
        config(route(methods=["get"])),
        config(route(methods=["TRACE"])),
        config(route(encoded_slash="decode")),
        config(route(websocket="yes")),
        config(route(websocket={"zzz": 1})),
        config(route(cors={"origins": ["*"], "max_age": 0.5})),
        config(tenants={"acme": {"quota": "100/hour"}}),
        config(backends={"b": ill(path="healthz")}),
        config(backends={"b": ill(path="/", expect="ok")}),
        config(rate_limit_headers="yes"),
        {"routes": []},
        {"version": 2},
    ],
)
def test_the_schema_refuses_what_the_gateway_refuses(data: Any) -> None:
    assert not valid(data)
    problems(data)


@pytest.mark.parametrize(
    "data",
    [
        {"version": 1},
        config(route(timeouts={"total": 0, "connect": "500ms", "idle": "1.5 s"}, body_limit="1 GiB")),
        config(tenants={"acme": {"rate_limit": "1.5/h"}, "b": {"rate_limit": {"rate": "2/s", "burst": 1}}}),
        config(route(cors={"origins": ["*"], "headers": ["*"]})),
        config(route(rate_limit="5/s"), client_limit="20/s", rate_limit_headers="legacy"),
        config(tenants={"acme": {"quota": "100000/day"}}),
        config(backends={"b": ill(path="/healthz", expect=204)}),
        config(backends={"b": ill(server_errors=True)}),
        config(route(websocket=True)),
        config(route(websocket=False, target="flask")),
        config(route(websocket={"max_message": "1MiB", "idle": "60s", "origins": ["https://a"]})),
    ],
)
def test_the_schema_takes_what_the_gateway_takes(data: Any) -> None:
    assert valid(data)
    compiled(data)
