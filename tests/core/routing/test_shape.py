"""What is told of a value that is not accepted: the value, the place, and one that is accepted."""

from __future__ import annotations

import copy
import itertools
import math
import re
import typing
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from gateway.config.strict_yaml import parse as parse_yaml
from gateway.core.redact import redact
from gateway.core.routing.problems import Path, Problem, Problems
from gateway.core.routing.settings import Settings, json_schema, parse
from gateway.core.routing.shape import Slot, bare, flow, shown

BASE: dict[str, Any] = {
    "version": 1,
    "backends": {"b": {"kind": "uvicorn", "addresses": ["http://127.0.0.1:1"]}},
    "tenants": {"acme": {}},
    "routes": [{"name": "r", "path": "/r/{rest*}", "target": "b"}],
}
NAMES = {
    "backends": "b", "tenants": "acme", "scopes": "read", "links": "Help", "issuers": "idp",
    "require": "plan", "certificates": "tills",
}  # fmt: skip
SECRETS = {"client_secret", "env", "file", "keys"}  # where one may be pasted, so what is there is not shown
# Of the library that validates, of its types, and of ours: none means anything to who edits the file.
FOREIGN = re.compile(
    r"pydantic|[Ii]nput should|\bunion\b|function-|validat|Settings|\bdict|\bstr\b|\bint\b|\bbool\b|\bNone|"
    r"\btuple|\binstance|literal_error|_type\b|\^|\\d|\[A-Z|a-z0-9|\bField|Value error|\{.*'type'"
)
WRONG: list[Any] = [
    "yes", "no", "On", "True", "eight", "8", "010", "0x1F", "1:30", "2024-01-01", "~", "", " ", "a b", "a,b",
    "é.example", "*", "*.example.*", "UPPER", "localhost:9000", "https://h/x/", "x/y", "/x/*", "10MB",
    "5 sec", "100", "2xx", "get", "x" * 300, -1, 0, 3.7, 10**30, 2, math.inf, True, False, None, [], {},
    [None], [["a"]], ["a b"], [1], {"a": 1}, {"zzz": {}}, {"read": "a"}, {"origins": ["x"]}, {"rate": 5},
]  # fmt: skip


def places(slot: Slot, above: Path = ()) -> Iterator[Path]:
    """The path of every field, of every entry of a list and a mapping, with a name for what is named."""
    kind = bare(slot).type
    arguments, origin = typing.get_args(kind), typing.get_origin(kind)
    if above:
        yield above
    if origin is dict:
        yield from places(Slot(arguments[1]), (*above, NAMES[str(above[-1])]))
    elif origin is list:
        yield from places(Slot(arguments[0]), (*above, 0))
    for name, field in getattr(kind, "model_fields", {}).items():
        yield from places(Slot(field.annotation), (*above, name))


SCHEMA = jsonschema.Draft202012Validator(json_schema())
PLACES = list(places(Slot(Settings)))


def put(path: Path, value: Any) -> Any:
    """The base with a value at a place; what is above it is made."""
    data = copy.deepcopy(BASE)
    at: Any = data
    for step, after in itertools.pairwise(path):
        fresh: Any = [] if isinstance(after, int) else {}
        if isinstance(at, list):
            if at and isinstance(at[0], str):  # an address that is to have more
                at[0] = {"address": at[0]}
            at = at[step] if len(at) > int(step) else (at.append(fresh) or at[-1])
        else:
            at = at.setdefault(step, fresh)
    if isinstance(at, list):
        at[int(path[-1]) :] = [value]
    else:
        at[path[-1]] = value
    rate = {"rate": "1/s"}
    introspection = {"url": "https://a", "client_id": "gw", "client_secret": {"env": "SECRET"}}
    issuer: dict[str, Any] = {"issuer": "https://a", "audiences": ["gw"]}
    issuer |= {} if {"jwks_uri", "discovery", "introspection"} & set(path) else {"keys": "a.jwks"}
    issuer |= {} if "tenant" in path[:3] else {"tenants": ["acme"]}
    needed = {
        "cors": {"origins": ["https://a"]}, "rate_limit": rate, "client_limit": rate, "idp": issuer,
        "introspection": introspection, "tills": {"subjects": ["cn:a"], "tenant": "acme"},
    }  # fmt: skip
    for depth, step in enumerate(path[:-1]):
        whole: Any = data
        for one in path[: depth + 1]:
            whole = whole[one]
        for key, example in needed.get(str(step), {}).items():
            whole.setdefault(key, example)
    return data


def problems_of(data: Any) -> list[Problem]:
    try:
        parse(data)
    except Problems as found:
        return found.items
    return []


_known: dict[tuple[Path, str], tuple[Any, list[Problem]]] = {}  # what several tests ask of each place


def with_value(path: Path, value: Any) -> tuple[Any, list[Problem]]:
    """The base with a value at a place, and its problems. Nobody changes it."""
    key = (path, repr(value))
    if key not in _known:
        data = put(path, value)
        _known[key] = data, problems_of(data)
    return _known[key]


def told(path: Path, value: Any) -> list[tuple[Problem, Any]]:
    """The problems at or below a place, each with the value that it is about."""
    found = []
    for problem in with_value(path, value)[1]:
        if problem.path[: len(path)] == path:
            given = value
            for step in problem.path[len(path) :]:
                try:
                    given = given[step]
                except (KeyError, TypeError, IndexError):
                    given = step
            if "unknown" in problem.reason:
                given = problem.path[-1]
            found.append((problem, given))
    return found


def test_the_places_are_all_there() -> None:
    assert len(PLACES) > 75
    assert {".".join(map(str, path)) for path in PLACES} >= {
        "version", "backends.b.health.expect", "tenants.acme.documents.max_bytes", "routes.0.scopes.read.0",
        "routes.0.websocket.origins.0", "routes.0.rate_limit.burst", "client_limit.rate", "trusted_proxies.0",
    }  # fmt: skip


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)))
def test_each_wrong_value_is_told_with_its_place_and_one_that_is_accepted(path: Path) -> None:
    heard = 0
    for value in WRONG:
        for problem, given in told(path, value):
            heard += 1
            said = f"{problem.where}: {problem.reason} ({problem.hint})"
            assert not FOREIGN.search(said.replace(shown(given), "")), said
            if SECRETS.intersection(problem.path) and "what is written here" in problem.reason:
                assert not isinstance(given, str) or shown(given) not in said, said
            elif "is missing" not in problem.reason:
                assert shown(given) in problem.reason, said
            if "unknown" in problem.reason:
                assert re.search("did you mean|remove it", problem.hint), said
                continue
            found = re.match(r"write (.*?)(; |$)", problem.hint)
            assert found, said
            example = parse_yaml(f"it: {{ {found[1]} }}" if "{" not in found[1] else found[1]).data
            assert example is not None, said
    assert heard, "nothing is refused here"


def corrected(problem: Problem, data: Any) -> Any:
    """The data with the example of a problem put where the problem is."""
    found = re.match(r"write (.*?)(; |$)", problem.hint)
    assert found, problem
    data = copy.deepcopy(data)
    at: Any = data
    for step in problem.path[:-1]:
        at = at[step]
    last = problem.path[-1]
    example = parse_yaml(found[1]).data
    is_key = "name" in problem.reason and isinstance(at, dict) and last in at and isinstance(example, str)
    if isinstance(last, int):
        at[last] = example
    elif is_key and found[1] == flow(example):
        at[example] = at.pop(last)
    else:
        (key,) = example
        assert key == last
        at[last] = example[last]
    return data


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)))
def test_the_example_of_each_hint_is_accepted_where_the_problem_is(path: Path) -> None:
    tried: list[tuple[Any, set[Path]]] = []  # several values are corrected to the same
    for value in WRONG:
        data, problems = with_value(path, value)
        for problem in problems:
            if problem.path[: len(path)] != path or "unknown" in problem.reason:
                continue
            made = corrected(problem, data)
            left = next((left for other, left in tried if other == made), None)
            if left is None:
                left = {other.path for other in problems_of(made)}
                assert left or SCHEMA.is_valid(made), problem
                tried.append((made, left))
            assert problem.path not in left, (problem, left)


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)))
def test_each_problem_has_its_line(path: Path) -> None:
    for value in ("a b", -1, {"zzz": 1}):
        text = yaml.safe_dump(put(path, value), sort_keys=False)
        document = parse_yaml(text)
        for problem in map(document.locate, problems_of(document.data)):
            line = text.splitlines()[problem.line - 1]
            last = problem.path[-2 if "is missing" in problem.reason else -1]
            assert problem.line and (f"{last}:" in line or (isinstance(last, int) and "- " in line)), problem


# --- what was meant --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "example"),
    [
        ("routes.0.websocket", "yes", "websocket: true"),
        ("routes.0.websocket", "off", "websocket: false"),
        ("routes.0.websocket", 1, "websocket: true"),
        ("routes.0.public", "Yes", "public: true"),
        ("routes.0.public", "false", "public: false"),
        ("backends.b.threads", "eight", "threads: 8"),
        ("backends.b.threads", "16", "threads: 16"),
        ("backends.b.threads", "010", "threads: 10"),
        ("backends.b.threads", 4.0, "threads: 4"),
        ("backends.b.kind", "Gunicorn", "kind: gunicorn"),
        ("backends.b.kind", "guvicorn", "kind: uvicorn"),
        ("backends.b.addresses", "localhost:9000", "addresses: [http://localhost:9000]"),
        ("backends.b.addresses.0", "localhost:9000", "http://localhost:9000"),
        ("backends.b.addresses.0", "localhost", "http://localhost:80"),
        ("backends.b.addresses.0", ":9000", "http://127.0.0.1:9000"),
        ("backends.b.addresses.0", "9000", "http://127.0.0.1:9000"),
        ("backends.b.addresses.0", "https://h", "https://h:443"),
        ("backends.b.addresses.0", "http://h:80/api", "http://h:80"),
        ("backends.b.addresses.0", "unix://app.sock", "unix:app.sock"),
        ("backends.b.addresses.0", "/run/app.sock", "unix:/run/app.sock"),
        ("backends.b.addresses.0", "app.sock", "unix:app.sock"),
        ("backends.b.health.expect", "2xx", 'expect: "200-299"'),
        ("backends.b.health.path", "healthz", "path: /healthz"),
        ("backends.b.health.path", "http://h:1/up?x=1#y", "path: /up?x=1"),
        ("backends.b.health.interval", "5 sec", "interval: 5s"),
        ("tenants.acme", None, "acme: {}"),
        ("tenants.acme.rate_limit", 100, "rate_limit: 100/s"),
        ("tenants.acme.rate_limit", "600 per minute", "rate_limit: 600/m"),
        ("tenants.acme.rate_limit", "5/sec", "rate_limit: 5/s"),
        ("tenants.acme.quota", 1000, "quota: 1000/day"),
        ("tenants.acme.quota", "1000/d", "quota: 1000/day"),
        ("tenants.acme.weight", "2", "weight: 2.0"),
        ("routes.0.timeouts.connect", "2 minutes", "connect: 2m"),
        ("routes.0.timeouts.connect", "250msec", "connect: 250ms"),
        ("routes.0.timeouts.total", "1d", "total: 24h"),
        ("routes.0.body_limit", "10MB", "body_limit: 10MiB"),
        ("routes.0.body_limit", "1.5GiB", "body_limit: 1610612736"),
        ("routes.0.methods", "GET, POST", "methods: [GET, POST]"),
        ("routes.0.methods", "get", "methods: [GET]"),
        ("routes.0.methods.0", "get", "GET"),
        ("routes.0.methods.0", "DELTE", "DELETE"),
        ("routes.0.methods.0", "GET POST", "GET"),
        ("routes.0.scopes.read", "a:b", "read: [a:b]"),
        ("routes.0.scopes.read.0", "a:b c:d", "a:b"),
        ("routes.0.host", "*.example.*", "host: www.example.com"),
        ("routes.0.host", "*.example.com", "host: www.example.com"),
        ("routes.0.host", "Shop.Example.com", "host: shop.example.com"),
        ("routes.0.host", "https://shop.example.com:8443/x", "host: shop.example.com"),
        ("routes.0.host", "shop.example.com.", "host: shop.example.com"),
        ("routes.0.host", "my_shop.example", "host: my-shop.example"),
        ("routes.0.host", "münchen.example", "host: xn--mnchen-3ya.example"),
        ("routes.0.set_host", "http://h:80/", "set_host: h:80"),
        ("routes.0.cors.origins", "https://a.example", "origins: [https://a.example]"),
        ("routes.0.cors.origins.0", "https://a.example/", "https://a.example"),
        ("routes.0.cors.origins.0", "https://A.example:443/path", "https://a.example"),
        ("routes.0.cors.origins.0", "a.example", "https://a.example"),
        ("routes.0.cors.origins.0", "https://*.example.com", "https://app.example.com"),
        ("routes.0.cors.origins.0", "http://localhost:99999", "http://localhost"),
        ("routes.0.cors.origins.0", "https://a.example:0/x", "https://a.example"),
        ("routes.0.cors.origins.0", "localhost:3000", "http://localhost:3000"),
        ("routes.0.cors.origins.0", "http:/a.example", "http://a.example"),
        ("routes.0.cors.origins.0", "https//a.example", "https://a.example"),
        ("routes.0.cors.origins.0", "file://", "https://app.example.com"),
        ("routes.0.cors.origins.0", "file:///a/b.html", "https://app.example.com"),
        ("routes.0.cors.origins.0", "mailto:a@b.example", "https://app.example.com"),
        ("routes.0.cors.origins.0", "https://", "https://app.example.com"),
        ("front_page.links.a", "ftp://a.example/x", "a: https://help.example.com"),
        ("front_page.links.a", "javascript:alert(1)", "a: https://help.example.com"),
        ("front_page.links.a", "http:/a.example", "a: http://a.example"),
        ("front_page.links.a", "a@b.example", 'a: "mailto:a@b.example"'),
        ("front_page.links.a", "a.example:80/x", "a: https://a.example:80/x"),
        ("routes.0.retry", True, "retry: idempotent"),
        ("routes.0.retry", "no", "retry: none"),
        ("routes.0.interim", True, "interim: relay"),
        ("routes.0.interim", False, "interim: drop"),
        ("routes.0.encoded_slash", "yes", "encoded_slash: pass"),
        ("routes.0.encoded_slash", "off", "encoded_slash: refuse"),
        ("rate_limit_headers", True, "rate_limit_headers: draft"),
        ("rate_limit_headers", "off", "rate_limit_headers: none"),
        ("routes.0.cors.headers.0", "X-A: 1", "X-A"),
        ("trusted_proxies.0", "10.0.0.1/8", "10.0.0.0/8"),
        ("trusted_proxies.0", "::ffff:10.0.0.0/8", "10.0.0.0/8"),
        ("trusted_proxies.0", "localhost", "127.0.0.1"),
        ("version", "1", "version: 1"),
        ("version", 1.1, "version: 1"),
        ("routes.0.timeouts", "5s", "timeouts: { body: 5s }"),
        ("backends.b.health", "yes", "health: { path: /healthz }"),
        ("routes.0.cors", "*", "cors: { origins: [https://app.example.com] }"),
    ],
)
def test_the_example_is_what_was_meant_where_that_can_be_told(path: str, value: Any, example: str) -> None:
    steps = tuple(int(step) if step.isdecimal() else step for step in path.split("."))
    problem = next(one for one, _ in told(steps, value))
    assert re.match(r"write (.*?)(; |$)", problem.hint)[1] == example  # type: ignore[index]


@pytest.mark.parametrize("value", [True, "always", None, 5, []])
@pytest.mark.parametrize(
    ("path", "choices"),
    [
        ("routes.0.retry", {"none", "idempotent"}),
        ("routes.0.interim", {"drop", "relay"}),
        ("routes.0.encoded_slash", {"refuse", "pass"}),
        ("rate_limit_headers", {"draft", "legacy", "none"}),
        ("backends.b.kind", {"gunicorn", "uvicorn", "asab", "http"}),
    ],
)
def test_of_a_few_words_all_are_told_and_none_alone(path: str, choices: set[str], value: Any) -> None:
    steps = tuple(int(step) if step.isdecimal() else step for step in path.split("."))
    if value is None and not path.endswith("kind"):
        return  # a key without a value is told in its own words
    problem = next(one for one, _ in told(steps, value))
    assert choices <= set(re.findall(r"[a-z]+", problem.hint)), problem.hint


@pytest.mark.parametrize(
    ("path", "example"),
    [
        ("/x/*", "/x/{rest*}"), ("/x/**", "/x/{rest*}"), ("/x/.*", "/x/{rest*}"), ("/x/.+", "/x/{rest*}"),
        (r"/x/(\d+)", "/x/{id}"), (r"/x/(?P<number>\d+)/y", "/x/{P}/y"), ("/x/[0-9]+", "/x/{id}"),
        ("^/x", "/x"), ("^/x/$", "/x/"), ("/x$", "/x"), ("/x/:id", "/x/{id}"), ("/x/:id/y", "/x/{id}/y"),
        ("/x/<id>", "/x/{id}"), ("/x/<int:id>", "/x/{id}"), ("/x/<path:rest>", "/x/{rest*}"),
        ("/x/{id:int}", "/x/{id}"), ("/x/{rest:path}", "/x/{rest*}"), ("/x/{rest:.*}", "/x/{rest*}"),
        ("/x/{rest...}", "/x/{rest*}"), ("/x/{*rest}", "/x/{rest*}"), ("/x/{{id}}", "/x/{id}"),
        ("/x/{id}.json", "/x/{id}"), ("/x?", "/x"), ("/x?y=1", "/x"), ("/x#frag", "/x"), ("/x ", "/x"),
        ("/ x", "/x"), ("//x", "/x"), ("/x//y", "/x/y"), ("/x/./y", "/x/y"), ("x/y", "/x/y"),
        ("https://h:1/x/*", "/x/{rest*}"), ("/é", "/%C3%A9"), ("/{a}/{a}", "/{a}/{a2}"),
        ("/*/x/*", "/{id}/x/{rest*}"), ("/a|b", "/{a}"), ("/x/...", "/x/{rest*}"), ("/a\\b", "/{a}"),
        ("/{rest*}/x", "/{rest}/x"),
    ],
)  # fmt: skip
def test_a_path_of_another_router_is_refused_with_the_one_that_is_meant(path: str, example: str) -> None:
    ((problem, _),) = told(("routes", 0, "path"), path)
    assert problem.hint.startswith(f"write path: {example};")
    assert SCHEMA.is_valid(put(("routes", 0, "path"), example))
    assert not problems_of(put(("routes", 0, "path"), example))


@pytest.mark.parametrize(
    "path",
    ["/", "/x", "/x/", "/x/{id}", "/{rest*}", "/a b/{r*}", "/%61pi", "/a:b", "/$metadata", "/f(1)", "/a+b",
     "/a,b;c=d", "/@x", "/~x", "/x!", "/it's", "/a.b", "/.well-known/x", "/a%3Fb"],
)  # fmt: skip
def test_a_path_that_a_client_can_send_is_taken(path: str) -> None:
    data = put(("routes", 0, "path"), path)
    assert not problems_of(data)
    assert SCHEMA.is_valid(data)


@pytest.mark.parametrize(
    ("path", "key", "hint"),
    [
        ((), "rotues", "did you mean 'routes'?"),
        ((), "Routes", "did you mean 'routes'?"),
        ((), "threads", "there is backends.NAME.threads"),
        ((), "<<", "not merged"),
        (("routes", 0), "rate-limit", "did you mean 'rate_limit'?"),
        (("routes", 0), "connect", "there is routes.timeouts.connect"),
        (("routes", 0, "timeouts"), "fristbyte", "did you mean 'first_byte'?"),
        (("routes", 0, "websocket"), "max_mesage", "did you mean 'max_message'?"),
        (("tenants", "acme", "rate_limit"), "brust", "did you mean 'burst'?"),
        (("backends", "b", "queue"), "qqq", "known here: length, timeout"),
    ],
)
def test_an_unknown_key_is_told_with_the_nearest_that_is_known(path: Path, key: str, hint: str) -> None:
    (problem,) = [p for p, _ in told((*path, key), 1) if "unknown" in p.reason]
    assert hint in problem.hint


# --- what is shown ---------------------------------------------------------------------------------


def test_a_value_is_shown_in_short_and_without_its_secrets() -> None:
    assert shown("x" * 300) == repr("x" * 59 + "…")
    assert shown(None) == "an empty value"
    assert (shown([]), shown({}), shown([1]), shown({"a": 1, "b": 2})) == (
        "an empty list", "an empty mapping", "a list", "a mapping of 2 keys",
    )  # fmt: skip
    ((problem, _),) = told(("backends", "b", "addresses", 0), "http://user:hunter2@h:1")
    assert "hunter2" not in problem.reason + problem.hint
    assert "http://h:1" in problem.hint


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("a: http://u:hunter2@h/x", "hunter2"),
        ("# token: hunter2", "hunter2"),
        ("a: 1 # my password=hunter2 here", "hunter2"),
        ("x eyJhbGciOiJFZERTQSJ9.eyJhIjoxfQ.c2ln y", "c2ln"),
        ("Authorization: Bearer abcdefgh.ijkl", "abcdefgh"),
        ("-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----", "MC4CAQ"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, hidden: str) -> None:
    assert hidden not in redact(text)
    assert "***" in redact(text)


def test_a_text_without_a_secret_stays_to_the_character() -> None:
    text = 'tenants:\n  token: { name: "Token: a" } # a tenant\n  secret: {}\nb: https://h/a@b\nc: unix:x\n'
    assert redact(text) == text


@pytest.mark.parametrize(
    "value",
    [True, 1, 1.5, "a", "yes", "no", "1", "", "a: b", "x # y", "/{a*}", "*", "10MiB", "5 s", "é",
     {"a": [1, "b"]}, [], {}, "null", "~", "0x1", "100/s", "1e5", "a,b", "- a", "@x", "2024-01-01"],
    ids=str,
)  # fmt: skip
def test_what_is_written_in_yaml_is_read_as_it_was(value: Any) -> None:
    assert parse_yaml(f"a: {flow(value, inside=False)}").data == {"a": value}
    assert parse_yaml(f"a: [{flow(value)}]").data == {"a": [value]}
