"""The routing table."""

from __future__ import annotations

import contextlib
import itertools
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.errors import BadRequest, MethodNotAllowed, NoRoute
from gateway.core.model import Route
from gateway.core.routing.table import Clash, PatternError, RoutingTable, build, compile_pattern


def route(name: str, path: str, methods: str = "", host: str = "") -> Route[None, None]:
    return Route(name, path, "t", None, host=host, methods=frozenset(methods.split()))


def table(*routes: Route[None, None]) -> RoutingTable[None, None]:
    built, clashes = build(routes)
    assert not clashes
    return built


def name_of(made: RoutingTable[None, None], path: str, method: str = "GET", host: str = "h") -> str:
    return made.match(method, host, path)[0].name


SPECIFICITY = table(
    route("exact", "/a/b"),
    route("param", "/a/{x}"),
    route("rest", "/a/{x*}"),
    route("deep", "/a/{x}/c/{y*}"),
    route("longer", "/a/b/c/{y*}"),
    route("root", "/{x*}"),
)


@pytest.mark.parametrize(
    ("path", "winner"),
    [
        ("/a/b", "exact"),
        ("/a/z", "param"),
        ("/a/z/q", "rest"),
        ("/a/z/c", "deep"),
        ("/a/z/c/d/e", "deep"),
        ("/a/b/c", "longer"),
        ("/a/b/c/d", "longer"),
        ("/a/b/d", "rest"),
        ("/a/b/", "rest"),
        ("/a", "rest"),
        ("/a/", "rest"),
        ("/", "root"),
        ("/b", "root"),
        ("/ab", "root"),
    ],
)
def test_exact_beats_parameter_beats_rest_and_the_longest_wins(path: str, winner: str) -> None:
    assert name_of(SPECIFICITY, path) == winner


def test_a_dead_end_steps_back_to_a_parameter() -> None:
    made = table(route("literal", "/a/b/c"), route("param", "/a/{x}/d"), route("other", "/{y}/b/e"))
    assert name_of(made, "/a/b/c") == "literal"
    assert name_of(made, "/a/b/d") == "param"
    assert name_of(made, "/a/b/e") == "other"
    with pytest.raises(NoRoute):
        made.match("GET", "h", "/a/b/f")


def test_a_host_of_its_own_beats_any_host_even_where_that_is_more_specific() -> None:
    made = table(route("any", "/a/b"), route("own", "/a/{x*}", host="own.example"), route("other", "/x"))
    assert name_of(made, "/a/b", host="own.example") == "own"
    assert name_of(made, "/a/b", host="else.example") == "any"
    assert name_of(made, "/x", host="own.example") == "other"


def test_parameters_are_decoded_and_the_rest_keeps_its_slashes() -> None:
    made = table(route("r", "/{a}/x/{b}/{c*}"))
    _, params = made.match("GET", "", "/caf%C3%A9/x/a%2Fb/p/q%20r/")
    assert params == {"a": "café", "b": "a/b", "c": "p/q r/"}


def test_a_parameter_fills_one_segment_that_is_not_empty() -> None:
    made = table(route("r", "/a/{x}"))
    for path in ("/a", "/a/", "/a/b/", "/a/b/c"):
        with pytest.raises(NoRoute):
            made.match("GET", "", path)


def test_the_rest_of_a_path_may_be_of_another_charset() -> None:
    made = table(route("r", "/files/{name}/{rest*}"))
    assert made.match("GET", "", "/files/a%20b/K%E4se/%C3%A9")[1] == {"name": "a b", "rest": "K%E4se/%C3%A9"}
    with pytest.raises(BadRequest, match="UTF-8"):
        made.match("GET", "", "/files/K%E4se/x")


def test_a_parameter_that_is_not_utf8_is_400() -> None:
    with pytest.raises(BadRequest, match="UTF-8"):
        table(route("r", "/{x}")).match("GET", "", "/%FF")


def test_the_rest_may_have_zero_segments() -> None:
    made = table(route("r", "/a/{x*}"))
    assert made.match("GET", "", "/a")[1] == {"x": ""}
    assert made.match("GET", "", "/a/")[1] == {"x": ""}
    assert made.match("GET", "", "/a/b")[1] == {"x": "b"}


def test_a_trailing_slash_is_part_of_the_path() -> None:
    made = table(route("bare", "/a"), route("slash", "/b/"))
    assert name_of(made, "/a") == "bare"
    assert name_of(made, "/b/") == "slash"
    for path in ("/a/", "/b"):
        with pytest.raises(NoRoute):
            made.match("GET", "", path)


def test_an_encoded_slash_separates_nothing() -> None:
    made = table(route("one", "/{x}"), route("two", "/{x}/{y}"))
    assert name_of(made, "/a%2Fb") == "one"


def test_a_literal_is_matched_in_canonical_form() -> None:
    assert name_of(table(route("r", "/%7euser/a b")), "/~user/a%20b") == "r"


def test_who_answers_get_answers_head_unless_head_has_its_own_route() -> None:
    made = table(route("get", "/a", "GET"), route("both", "/b", "GET"), route("head", "/b", "HEAD"))
    assert name_of(made, "/a", "HEAD") == "get"
    assert name_of(made, "/b", "HEAD") == "head"


def test_405_lists_what_the_path_answers_over_all_routes_that_take_it() -> None:
    made = table(
        route("a", "/a/b", "POST"), route("b", "/a/{x}", "GET"), route("c", "/a/{x*}", "DELETE"),
        route("d", "/a/b", "PATCH", host="own"),
    )  # fmt: skip
    with pytest.raises(MethodNotAllowed) as caught:
        made.match("PUT", "own", "/a/b")
    assert caught.value.headers["Allow"] == "DELETE, GET, HEAD, PATCH, POST"
    with pytest.raises(MethodNotAllowed) as caught:
        made.match("PUT", "h", "/a/b/c")
    assert caught.value.headers["Allow"] == "DELETE"


def test_another_route_for_the_method_is_taken_before_405() -> None:
    made = table(route("post", "/a/b", "POST"), route("get", "/a/{x}", "GET"))
    assert name_of(made, "/a/b", "GET") == "get"


def test_no_route_is_404_and_says_nothing_of_the_path() -> None:
    with pytest.raises(NoRoute) as caught:
        table(route("r", "/a")).match("GET", "h", "/secret")
    assert "secret" not in caught.value.detail


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        (route("a", "/x"), route("b", "/x"), Clash("b", ("a",), ("any method",), True)),
        (route("a", "/{x}"), route("b", "/{y}"), Clash("b", ("a",), ("any method",), True)),
        (route("a", "/x/{r*}"), route("b", "/x/{s*}", ""), Clash("b", ("a",), ("any method",), True)),
        (route("a", "/x", "GET"), route("b", "/x", "GET POST"), Clash("b", ("a",), ("GET",), False)),
        (route("a", "/%61"), route("b", "/a"), Clash("b", ("a",), ("any method",), True)),
        (route("a", "/x", host="h"), route("b", "/x", host="h"), Clash("b", ("a",), ("any method",), True)),
    ],
)
def test_a_route_whose_requests_another_takes_is_a_clash(
    first: Route[None, None], second: Route[None, None], clash: Clash
) -> None:
    made, clashes = build([first, second])
    assert clashes == [clash]
    path = re.sub(r"\{\w+\*?\}", "v", first.path).replace("%61", "a")
    assert name_of(made, path) == "a"


def test_a_rest_that_three_others_take_whole_is_a_clash() -> None:
    taking = [route("a", "/x"), route("b", "/x/"), route("c", "/x/{id}/{r*}")]
    _, clashes = build([route("all", "/x/{r*}"), *taking])
    (clash,) = clashes
    assert (clash.loser, set(clash.winners), clash.whole) == ("all", {"a", "b", "c"}, True)
    for missing in range(3):
        left = [one for index, one in enumerate(taking) if index != missing]
        assert build([route("all", "/x/{r*}"), *left])[1] == []
    deeper = [route("d", "/x/{id}"), route("e", "/x/{id}/"), route("f", "/x/{id}/{part}/{r*}")]
    (clash,) = build([route("all", "/x/{r*}"), *taking[:2], *deeper])[1]
    assert (clash.loser, set(clash.winners), clash.whole) == ("all", {"a", "b", "d", "e", "f"}, True)
    assert build([route("all", "/x/{r*}"), *taking[:2], *deeper[:2]])[1] == []
    _, clashes = build([route("all", "/x/{r*}", "GET PUT"), *taking[:2], route("c", "/x/{id}/{r*}", "PUT")])
    assert [(one.methods, one.whole) for one in clashes] == [(("PUT",), False)]


_SEGMENTS = ("a", "b", "{x}")
_PATHS = ["/" + "/".join(p) for n in range(1, 5) for p in itertools.product(("a", "b", "zz"), repeat=n)]
_PATHS = ["/", *_PATHS, *(path + "/" for path in _PATHS)]


@settings(max_examples=150, deadline=None)
@example({"/", "/{x0}", "/{x0}/", "/{x0}/{x1}/{r*}", "/{r*}"})
@given(
    st.sets(
        st.tuples(st.lists(st.sampled_from(_SEGMENTS), max_size=2), st.sampled_from(["", "/", "/{r*}"])).map(
            lambda made: (
                "/" + "/".join(s if s != "{x}" else f"{{x{i}}}" for i, s in enumerate(made[0])) + made[1]
            ).replace("//", "/")
        ),
        max_size=8,
    )
)
def test_a_route_is_a_clash_when_and_only_when_no_path_leads_to_it(patterns: set[str]) -> None:
    made, clashes = build([route(pattern, pattern) for pattern in sorted(patterns)])
    found = set()
    for path in _PATHS:
        with contextlib.suppress(NoRoute):
            found.add(name_of(made, path))
    assert patterns - found == {clash.loser for clash in clashes if clash.whole}


def test_a_clash_names_all_who_won() -> None:
    _, clashes = build([route("a", "/x", "GET"), route("b", "/x", "POST"), route("c", "/x", "GET POST")])
    assert clashes == [Clash("c", ("a", "b"), ("GET", "POST"), True)]


@pytest.mark.parametrize(
    "pair",
    [
        (route("a", "/x"), route("b", "/x", host="h")),
        (route("a", "/x", "GET"), route("b", "/x", "POST")),
        (route("a", "/x", "GET"), route("b", "/x")),
        (route("a", "/x"), route("b", "/x/")),
        (route("a", "/x"), route("b", "/{y}")),
        (route("a", "/x/{y}"), route("b", "/x/{y*}")),
    ],
)
def test_routes_that_leave_each_other_requests_do_not_clash(
    pair: tuple[Route[None, None], Route[None, None]],
) -> None:
    assert build(pair)[1] == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "starts with a slash"),
        ("a", "starts with a slash"),
        ("/a//b", "empty segment"),
        ("/{a}/{a}", "twice"),
        ("/{a*}/b", "last segment"),
        ("/x{a}", "whole segment"),
        ("/{a}x", "whole segment"),
        ("/{}", "whole segment"),
        ("/{1a}", "whole segment"),
        ("/a/../b", "dot segment"),
        ("/%zz", "hex digits"),
        ("/é", "percent-encoded"),
    ],
)
def test_a_bad_pattern_says_why(path: str, reason: str) -> None:
    with pytest.raises(PatternError, match=reason):
        compile_pattern(path)


# --- against a reference that looks at every pattern -----------------------------------------------

SEGMENT = st.sampled_from(["a", "b", "{p}"])
PATTERN = st.tuples(st.lists(SEGMENT, max_size=4), st.sampled_from(["", "/", "/{r*}"])).map(
    lambda made: "/".join(
        ["", *(f"{{p{i}}}" if part == "{p}" else part for i, part in enumerate(made[0]))]
    ) + made[1] or "/"
)  # fmt: skip
METHODS = st.sampled_from(["", "GET", "POST", "GET POST", "HEAD"])
ROUTES = st.lists(st.tuples(PATTERN, METHODS, st.sampled_from(["", "h"])), max_size=12)
PATH = st.lists(st.sampled_from(["a", "b", "c"]), max_size=5).flatmap(
    lambda parts: st.sampled_from(["/" + "/".join(parts), "/" + "/".join([*parts, ""])])
)


def _ranks(pattern: str, path: str) -> tuple[int, ...] | None:
    """How specific a pattern takes a path, segment by segment (less is more specific), or None."""
    ranks: list[int] = []
    parts, segments = pattern.split("/")[1:], path.split("/")[1:]
    for index, part in enumerate(parts):
        if part.endswith("*}"):
            return (*ranks, 3)
        if index == len(segments):
            return None
        if part.startswith("{") and segments[index]:
            ranks.append(1)
        elif part == segments[index]:
            ranks.append(0)
        else:
            return None
    return (*ranks, 2) if len(parts) == len(segments) else None


def reference(routes: list[Route[None, None]], method: str, host: str, path: str) -> str | set[str]:
    """The winner's name, or the allowed methods (empty: no route), by looking at all of them."""
    allowed: set[str] = set()
    for wanted_host in (host, ""):
        found: list[tuple[tuple[int, ...], int, int, str]] = []
        for order, candidate in enumerate(routes):
            ranks = _ranks(candidate.path, path)
            if candidate.host != wanted_host or ranks is None:
                continue
            methods = candidate.methods
            if method in methods:
                found.append((ranks, 0, order, candidate.name))
            elif method == "HEAD" and "GET" in methods:
                found.append((ranks, 1, order, candidate.name))
            elif not methods:
                found.append((ranks, 2, order, candidate.name))
            else:
                allowed |= methods | ({"HEAD"} if "GET" in methods else set())
        if found:
            return min(found)[3]
    return allowed


@settings(max_examples=400, deadline=None)
@given(ROUTES, st.sampled_from(["GET", "HEAD", "POST", "PUT"]), st.sampled_from(["h", "g"]), PATH)
def test_the_trie_answers_as_a_scan_of_all_patterns_does(
    written: list[tuple[str, str, str]], method: str, host: str, path: str
) -> None:
    routes = [route(str(i), pattern, methods, at) for i, (pattern, methods, at) in enumerate(written)]
    made, _ = build(routes)
    expected = reference(routes, method, host, path)
    try:
        assert made.match(method, host, path)[0].name == expected
    except MethodNotAllowed as error:
        assert set(error.headers["Allow"].split(", ")) == expected
    except NoRoute:
        assert expected == set()
