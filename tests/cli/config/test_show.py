"""How changes and rehearsals look, without a gateway."""

from __future__ import annotations

from typing import Any

import pytest
from rich.text import Text

from gateway.cli.config import show
from gateway.cli.config.client import problems_of


def field(path: str, before: Any, after: Any) -> dict[str, Any]:
    return {"path": path, "before": before, "after": after}


def change(kind: str, name: str, action: str, *fields: dict[str, Any]) -> dict[str, Any]:
    return {"kind": kind, "name": name, "action": action, "fields": list(fields)}


def lines(*found: dict[str, Any], width: int = 80) -> list[str]:
    return [line.plain for line in show.changes(found, width)]


def test_each_field_has_a_line_with_what_it_was_and_is() -> None:
    changed = change("routes", "a", "changed", field("timeouts.total", "5s", "9s"), field("host", None, "x"))
    assert lines(changed) == ["~ route a", "    ~ timeouts.total  5s -> 9s", "    + host            x"]
    added = change("backends", "b", "added", field("kind", None, "http"))
    assert lines(added) == ["+ backend b", "    + kind  http"]
    setting = change("settings", "trusted_proxies", "changed", field("", ["10.0.0.0/8"], None))
    assert lines(setting) == ["~ setting trusted_proxies", '    - ["10.0.0.0/8"]']


def test_a_renamed_route_says_what_it_was() -> None:
    assert lines({**change("routes", "b", "added"), "renamed": "a"}) == ["+ route b  (as a)"]


def test_a_rename_is_one_change_in_short() -> None:
    gone = {**change("routes", "a", "removed"), "renamed": "b"}
    there = {**change("routes", "b", "added"), "renamed": "a"}
    assert show.in_short([gone, there, change("tenants", "t", "added")]) == "~route a -> b, +tenant t"


def test_in_a_pipe_a_row_is_a_line_that_is_neither_wrapped_nor_filled_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show.listing(("REV", "WHAT"), [("1", "x" * 300), ("12", ""), ("3", Text("[y]"))])
    assert capsys.readouterr().out == f"REV  WHAT\n1    {'x' * 300}\n12\n3    [y]\n"


def test_values_that_do_not_fit_into_a_line_have_one_each() -> None:
    long = change("routes", "a", "changed", field("scopes", ["x" * 40], ["y" * 40]))
    assert lines(long) == [
        "~ route a",
        "    ~ scopes",
        f'        - ["{"x" * 40}"]',
        f'        + ["{"y" * 40}"]',
    ]
    assert len(lines(long, width=160)) == 2


def test_what_others_wrote_cannot_speak_to_the_terminal() -> None:
    evil = "a\x1b[2J\rb\x9b1m\u202e"
    shown = "\n".join(lines(change("tenants", evil, "changed", field(evil, evil, [evil]))))
    shown += show.by_whom({"number": 1, "author": evil, "at": 0.0, "reason": evil})
    (problem,) = problems_of([{"path": evil, "reason": evil, "hint": evil, "line": 1}])
    shown += problem.where + problem.reason + problem.hint
    assert not set(shown) & {"\x1b", "\r", "\x9b", "\u202e"}
    assert "\\x1b[2J" in shown


def side(**said: Any) -> dict[str, Any]:
    keys = ("route", "target", "status", "code", "detail")
    return {**dict.fromkeys(keys), "limits": {}, **said}


def test_a_rehearsal_counts_by_kind_with_examples() -> None:
    example = {
        "method": "GET", "host": "shop.example", "path": "/docs/7", "tenant": "acme", "count": 12,
        "before": side(route="docs", target="fast", status=200, limits={"tenant": "5/s"}),
        "after": side(status=404, code="no_route", detail="No route takes it."),
    }  # fmt: skip
    kinds = {"refused": {"count": 12, "examples": [example]}, "allowed": {"count": 0, "examples": []}}
    outcome = {"requests": 1000, "since": 0.0, "unchanged": 988, "kinds": kinds, "took": 0.1}
    unknown = [{"reason": "a token of another issuer", "count": 3}]
    shown = show.rehearsal({**outcome, "unknown": unknown})
    title, count, request, how, not_known = (line.plain for line in shown)
    assert title.startswith("rehearsal: the last 1,000 requests, since 19")
    assert count == "  12 would be refused that was served"
    assert request == "    GET shop.example/docs/7  tenant acme ×12"
    assert how == "      200 by docs to fast -> 404 no_route (No route takes it.)"
    assert not_known == "  3 not known: a token of another issuer"
    example |= {"after": side(route="docs", target="fast", limits={"tenant": "2/s"})}
    outcome["kinds"] = {"limited": {"count": 12, "examples": [example]}}
    assert "      limit of tenant: 5/s -> 2/s" in [line.plain for line in show.rehearsal(outcome)]
    (alike,) = show.rehearsal({**outcome, "kinds": {}})
    assert alike.plain.endswith("all would be answered as they were")
    (few,) = show.rehearsal({**outcome, "kinds": {}, "requests": 3})
    assert few.plain.startswith("rehearsal: the last 3 requests, since 19")
    assert few.plain.endswith("all would be answered as they were (too few to say much)")
    outcome["kinds"] = {"rerouted": {"count": 2, "examples": [example | {"after": example["before"]}]}}
    assert any(
        line.plain.endswith("(at other addresses, or with another path or Host)")
        for line in show.rehearsal(outcome)
    )
    (none,) = show.rehearsal({**outcome, "requests": 0})
    assert "no request was recorded" in none.plain and "nothing can be said" in none.plain
