"""What a log quotes is no order to a terminal, and no record of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.core.api_keys import compose
from gateway.core.redact import HIDDEN, Queries, escape_controls, redact, redact_line, redact_query


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET /ä?x=1", "GET /ä?x=1"),
        ("a\x1b[2Jb\rc\x00", "a\\x1b[2Jb\\x0dc\\x00"),
        ("\x7f\x85\x9b", "\\x7f\\x85\\x9b"),
        ("a\u2028b\u202ec", "a\\u2028b\\u202ec"),
        ("x\ud800", "x\\ud800"),
        ("a\tb", "a\tb"),
        ("one\n2026-01-01 ERROR forged", "one\n    2026-01-01 ERROR forged"),
        ("one\n  two\n\nthree", "one\n  two\n\n    three"),
    ],
)
def test_control_characters_are_shown_and_further_lines_begin_with_a_space(text: str, shown: str) -> None:
    assert escape_controls(text) == shown
    assert escape_controls(shown) == shown


@pytest.mark.parametrize("hide", [redact, redact_line, lambda text: redact_query(text, "yes")])
def test_of_an_api_key_only_its_id_is_shown(hide: Callable[[str], str]) -> None:
    assert hide(f"q={compose('7Kq0ZmP3xA', 2**255)}") == "q=gw_7Kq0ZmP3xA_***"


@pytest.mark.parametrize("queries", ["yes", "all"])
def test_a_ticket_is_never_shown(queries: Queries) -> None:
    ticket = "gwt_" + "a-_9" * 10 + "abc"
    for text in (f"ticket={ticket}&a=1", f"x=1&to=%2Fevents%3Fticket%3D{ticket}&a=1"):
        shown = redact_query(text, queries)
        assert ticket not in shown and HIDDEN in shown and shown.endswith("&a=1")
    assert ticket not in redact(f"GET /events?ticket={ticket}") + redact_line(f"at {ticket}")
