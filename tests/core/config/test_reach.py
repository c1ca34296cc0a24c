"""An editor's routes reach only what is theirs: no backend and no request of another's."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.config.differences import differences
from gateway.core.config.operator import Operator, Role
from gateway.core.config.reach import overreaches
from gateway.core.errors import MethodNotAllowed, NoRoute
from gateway.core.model import Route
from gateway.core.routing.table import RoutingTable, build

BOB = Operator("bob", Role.EDITOR, (("routes", ("shop-*",)), ("backends", ("shop-*",))))
BACKENDS: dict[str, Any] = {"pay": {}, "common": {}, "shop-new": {}}
PAY: dict[str, Any] = {"name": "pay", "path": "/payments/{rest*}", "target": "pay"}
OURS: dict[str, Any] = {"name": "shop-a", "path": "/shop/{rest*}", "target": "common"}
OF_HOST = {**PAY, "name": "host", "path": "/h/{rest*}", "host": "h.example"}
ONLY_GET = {**PAY, "name": "get", "path": "/g/{id}/x", "methods": ["GET"]}
BY_TENANT = {**PAY, "name": "cards", "path": "/{tenant}/cards"}
FOREIGN = [PAY, OF_HOST, ONLY_GET, BY_TENANT]


def config(*routes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"version": 1, "backends": BACKENDS, "routes": list(routes), **more}


def reasons(before: dict[str, Any], after: dict[str, Any], operator: Operator = BOB) -> list[str]:
    return [one.reason for one in overreaches(operator, before, after, differences(before, after))]


def added(path: str, target: str = "common", **more: Any) -> list[str]:
    route = {"name": "shop-b", "path": path, "target": target, **more}
    return reasons(config(OURS, *FOREIGN), config(OURS, *FOREIGN, route))


@pytest.mark.parametrize(
    ("target", "theirs"),
    [("common", True), ("shop-new", True), ("pay", False), ("documents", False), ("no-such", True)],
)
def test_a_route_targets_what_is_the_editors_or_had_a_route_of_theirs(target: str, theirs: bool) -> None:
    refused = f"targets {target}, which neither is theirs nor had a route of theirs"
    assert added("/new", target) == ([] if theirs else [refused])
    moved = reasons(config(OURS), config({**OURS, "target": target, "public": True}))
    assert moved == ([] if theirs else [refused])


@pytest.mark.parametrize(
    ("path", "more", "loser"),
    [
        ("/shop/{id}", {}, ""),  # of a route that is theirs
        ("/free/{rest*}", {}, "cards"),  # /free/cards was another's
        ("/free/{id}/more", {}, ""),
        ("/payments/cards/{rest*}", {}, "pay"),
        ("/payments/{a}/{b}", {"methods": ["DELETE"]}, "pay"),
        ("/payments", {}, "pay"),  # a rest may be empty
        ("/payments", {"host": "h.example"}, "pay"),
        ("/{any}/cards", {"host": "other.example"}, "pay|cards"),
        ("/{rest*}", {"host": "other.example", "methods": ["PUT"]}, "get|pay|cards"),
        ("/h/x", {}, ""),  # a host's own routes come first
        ("/h/x", {"host": "h.example"}, "host"),
        ("/g/{id}/x", {"methods": ["POST"]}, ""),
        ("/g/1/x", {"methods": ["HEAD"]}, "get"),
        ("/oauth/{rest*}", {"methods": ["POST"]}, "gateway-token"),
        ("/", {}, "front-page"),
    ],
)
def test_a_route_takes_no_request_that_went_to_a_route_of_others(
    path: str, more: dict[str, Any], loser: str
) -> None:
    found = added(path, **more)
    assert bool(found) == bool(loser), found
    assert not found or any(f"takes requests of the route {one} " in found[0] for one in loser.split("|"))


def test_a_route_that_stays_where_it_is_may_change_and_others_may_move_away() -> None:
    inner = {**OURS, "name": "shop-in", "path": "/payments/shop"}  # an owner made it so
    before = config(OURS, inner, *FOREIGN)
    assert reasons(before, config(OURS, {**inner, "public": True}, *FOREIGN)) == []
    assert reasons(before, config(OURS, {**inner, "name": "shop-too"}, *FOREIGN)) == []
    assert reasons(before, config(OURS, *FOREIGN)) == []
    assert reasons(before, config(OURS, {**inner, "path": "/payments/{x}"}, *FOREIGN)) != []
    assert reasons(before, config(OURS, {**inner, "path": "/shop/in"}, *FOREIGN)) == []


def test_an_owner_reaches_all_and_what_is_not_well_formed_is_left_to_the_compiler() -> None:
    shadow = {**PAY, "name": "shop-b", "path": "/payments/x"}
    assert reasons(config(PAY), config(PAY, shadow), Operator("o", Role.OWNER)) == []
    assert len(reasons(config(PAY), config(PAY, shadow))) == 1
    for broken in ({**shadow, "path": "payments"}, {**shadow, "host": 5}, {"name": "shop-b"}):
        assert reasons(config(PAY), config(PAY, broken)) == []
    assert reasons(config(PAY), {**config(PAY), "routes": 5}) == []
    assert reasons(config(PAY, front_page=False), config(PAY, {**OURS, "path": "/"}, front_page=False)) != []


PARTS = st.lists(st.sampled_from(["a", "b", "{p%d}"]), max_size=3)
PATHS = st.builds(
    lambda parts, end: (
        "/s" + "".join(f"/{part}".replace("%d", str(at)) for at, part in enumerate(parts)) + end
    ),
    PARTS,
    st.sampled_from(["", "", "/", "/{r*}"]),
)
ROUTES = st.tuples(PATHS, st.sampled_from([[], [], ["GET"], ["POST", "HEAD"]]), st.sampled_from(["", "h"]))
ALL_PATHS = [
    "/s",
    "/s/",
    *(
        f"/s/{'/'.join(parts)}{end}"
        for n in range(1, 4)
        for parts in product("abc", repeat=n)
        for end in ("", "/")
    ),
]
ASKED = list(product(["GET", "HEAD", "PUT"], ["h", "other"], ALL_PATHS))


def table_of(made: list[Any]) -> RoutingTable[None, None]:
    return build(Route(str(at), path, "", None, None, host, frozenset(methods))
                 for at, (path, methods, host) in enumerate(made))[0]  # fmt: skip


def taker(table: RoutingTable[None, None], asked: tuple[str, str, str]) -> str:
    try:
        return table.match(*asked)[0].name
    except (NoRoute, MethodNotAllowed):
        return ""


@settings(max_examples=60)
@given(st.lists(ROUTES, min_size=2, max_size=4))
def test_exactly_what_takes_some_request_of_others_is_refused(made: list[Any]) -> None:
    last = len(made) - 1
    written = [
        {"name": f"shop-{at}" if at == last else f"r{at}", "path": path, "target": "shop-new"}
        | ({"methods": methods} if methods else {})
        | ({"host": host} if host else {})
        for at, (path, methods, host) in enumerate(made)
    ]
    before, after = table_of(made[:-1]), table_of(made)
    taken = any(taker(after, asked) == str(last) and taker(before, asked) for asked in ASKED)
    assert bool(reasons(config(*written[:-1]), config(*written))) == taken
