"""What a log quotes is no order to a terminal, and no record of its own."""

from __future__ import annotations

import pytest

from gateway.core.redact import escape_controls


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
