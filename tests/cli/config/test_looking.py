"""gateway revisions | diff | audit | nodes | console, against a gateway that runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.cli.config import audit
from gateway.core.config.operator import TOKEN_FILE
from tests.cli.config.conftest import BAD, ROUTING, SLOWER, Operated

pytestmark = pytest.mark.whole


def test_revisions_says_which_is_live_who_made_it_and_what_it_changed(operated: Operated) -> None:
    base, _ = operated.live()
    assert operated.run("apply", operated.file(SLOWER), "-m", "reports take long").code == 0
    code, out, _ = operated.run("revisions")
    assert code == 0
    newest, before = (line for line in out.splitlines() if line.split()[0] in (str(base + 1), str(base)))
    assert "local" in newest and "live" in newest and "reports take long" in newest
    assert "live" not in before
    shown = operated.run("revisions", str(base + 1)).out
    assert "~ timeouts.total  5s -> 9s" in shown and "reports take long" in shown


def test_what_a_revision_changed_is_known_however_much_the_audit_has_grown_since(operated: Operated) -> None:
    assert operated.run("apply", operated.file(SLOWER)).code == 0
    number, _ = operated.live()
    for _ in range(6):
        operated.run("revisions", str(number), "--pin")
    assert operated.run("apply", operated.file(ROUTING)).code == 0
    shown = operated.run("revisions", "--before", str(number + 1), "--limit", "1").out
    assert shown.endswith("pinned; ~route fast\n")
    assert operated.run("revisions", str(number), "--unpin").code == 0


def test_the_text_of_a_revision_is_on_standard_output_to_the_byte(operated: Operated) -> None:
    number, _ = operated.live()
    command = [sys.executable, "-m", "gateway", "revisions", str(number), "--text", "-c", str(operated.conf)]
    assert subprocess.run(command, capture_output=True, check=True).stdout == ROUTING.encode()


def test_a_revision_can_be_pinned(operated: Operated) -> None:
    number, _ = operated.live()
    assert "pinned" in operated.run("revisions", str(number), "--pin").out
    assert f"  pinned {number}\n" in operated.run("audit", "--limit", "1").out
    assert operated.run("revisions", str(number), "--json").json["pinned"]
    assert operated.run("revisions", str(number), "--unpin").code == 0
    assert not operated.run("revisions", str(number), "--json").json["pinned"]


# --- diff ------------------------------------------------------------------------------------------


def test_diff_is_0_where_nothing_differs_2_where_something_does_and_1_for_errors(operated: Operated) -> None:
    base, _ = operated.live()
    first, slower, bad = operated.file(ROUTING, "a"), operated.file(SLOWER, "b"), operated.file(BAD, "c")
    assert operated.run("apply", slower).code == 0
    alike = [slower], ["live", slower], [first, first], [str(base), first], ["live", str(base + 1)], []
    for words in alike:
        assert operated.run("diff", *words)[:2] == (0, ""), words
    for words in ([first], ["live", first], [slower, first], [str(base + 1), first], [str(base)]):
        code, out, _ = operated.run("diff", *words)
        assert (code, out) == (2, "~ route fast\n    ~ timeouts.total  9s -> 5s\n"), words
    for words in ([bad], ["/nowhere"], ["99999"], [first, "/nowhere"]):
        code, out, err = operated.run("diff", *words)
        assert (code, out) == (1, "") and err, words


def test_diff_without_words_compares_the_file_of_the_process_config(operated: Operated) -> None:
    assert operated.run("diff").code == 0
    assert "mean the same" in operated.run("diff").err


def test_diff_of_two_files_needs_no_gateway(operated: Operated, tmp_path: Path) -> None:
    a, b = operated.file(ROUTING, "a"), operated.file(SLOWER, "b")
    assert operated.run("diff", a, b, "--admin", "http://127.0.0.1:1").code == 2


def test_what_means_the_same_differs_by_lines_only(operated: Operated) -> None:
    file = operated.file(ROUTING.replace("5s", "5000ms"))
    assert operated.run("diff", file)[:2] == (0, "")
    code, out, _ = operated.run("diff", file, "--text")
    assert code == 2
    assert "-    timeouts: { total: 5s }\n+    timeouts: { total: 5000ms }\n" in out


def test_diff_as_json_has_nothing_else_on_standard_output(operated: Operated) -> None:
    code, out, _ = operated.run("diff", operated.file(SLOWER), "--json")
    assert code == 2
    (change,) = json.loads(out)["changes"]
    assert (change["kind"], change["name"], change["action"]) == ("routes", "fast", "changed")
    assert change["fields"] == [{"path": "timeouts.total", "before": "5s", "after": "9s"}]


# --- audit -----------------------------------------------------------------------------------------


def test_audit_says_who_did_what_and_why_refused_tries_too(operated: Operated) -> None:
    assert operated.run("apply", operated.file(SLOWER), "-m", "reports take long").code == 0
    base, _ = operated.live()
    code, out, _ = operated.run("audit")
    assert code == 0
    assert f"applied {base - 1} -> {base}" in out and "reports take long" in out and "local" in out
    assert operated.run("apply", operated.file(BAD)).code == 1
    (line,) = operated.run("audit", "--json", "--limit", "1").json["lines"]
    assert (line["author"], line["to"], line["reason"]) == ("local", base, "reports take long")


def test_a_refused_line_says_what_was_live_and_not_that_this_was_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = dict.fromkeys(("author", "address", "reason", "detail", "diff"), "") | {"seq": 7, "at": 0.0}
    refused = line | {"action": "refused", "outcome": "refused", "from": 14, "to": 0, "detail": "line 19: no"}
    made = line | {"action": "applied", "outcome": "done", "from": 14, "to": 15}
    page = SimpleNamespace(json=lambda: {"lines": [refused, made]})
    arguments = SimpleNamespace(what=None, limit=2, before=None, author=None, action=None)
    session: Any = SimpleNamespace(
        client=SimpleNamespace(get=lambda *asked: page), arguments=arguments, json=False
    )
    assert audit.run(session) == 0
    out = capsys.readouterr().out
    assert "  refused (live: 14); line 19: no\n" in out and "  applied 14 -> 15\n" in out


def test_audit_verify_finds_a_line_that_was_changed_also_in_a_copy(operated: Operated) -> None:
    assert operated.run("audit", "verify").code == 0
    raw = (operated.data / "audit.log").read_bytes()
    copy = Path(operated.file("", "copy.log"))
    copy.write_bytes(raw)
    offline = ("audit", "verify", str(copy), "--admin", "http://127.0.0.1:1")
    assert operated.run(*offline).code == 0
    copy.write_bytes(raw.replace(b'"author":"local"', b'"author":"loyal"', 1))
    code, out, err = operated.run(*offline)
    assert (code, out) == (1, "")
    assert "it was changed" in err
    lines = raw.splitlines(keepends=True)
    copy.write_bytes(b"".join(lines[:1] + lines[2:]))
    assert "missing" in operated.run(*offline).err
    copy.write_bytes(b"".join(lines[1:]))  # the older ones are in another file
    assert operated.run(*offline).code == 0
    assert operated.run("audit", "verify", str(copy), "--json").json == {"ok": True, "problems": []}


# --- nodes, console --------------------------------------------------------------------------------


def test_nodes_shows_this_process(operated: Operated) -> None:
    number, _ = operated.live()
    code, out, _ = operated.run("nodes")
    assert code == 0
    assert str(number) in out


def test_console_prints_a_url_that_signs_in_once(operated: Operated) -> None:
    code, out, _ = operated.run("console", "--no-browser")
    assert code == 0
    assert out.startswith(f"{operated.serving.admin}/#ticket=")


# --- terminals and pipes ---------------------------------------------------------------------------


def test_a_reader_that_is_gone_is_no_error_of_ours(operated: Operated) -> None:
    number, _ = operated.live()
    command = [sys.executable, "-m", "gateway", "revisions", str(number), "--text", "-c", str(operated.conf)]
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (141, b"")


def test_colours_are_for_terminals_that_want_them(operated: Operated) -> None:
    file = operated.file(SLOWER)
    assert "\x1b[" not in operated.run("diff", file).out
    for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        with operated.terminal("diff", file, **environment) as terminal:
            assert terminal.ended() == 2
            assert ("\x1b[31m" in terminal.shown) == coloured


# --- reload ----------------------------------------------------------------------------------------


def test_reload_says_what_counts_from_a_restart_on_and_what_is_wrong(operated: Operated) -> None:
    text = operated.conf.read_text()
    assert operated.run("reload").code == 0
    try:
        operated.conf.write_text(text.replace("drain = 5", "drain = 6"))
        code, out, err = operated.run("reload")
        assert (code, "without workers" in out, "[gateway] drain" in err) == (0, True, True)
        assert operated.run("reload", "--json").json["restart"] == ["[gateway] drain"]
        operated.conf.write_text(text.replace("drain = 5", "drain = soon"))
        token = str(operated.data / TOKEN_FILE)
        asked = operated.run("reload", "--json", "--admin", operated.serving.admin, "--token-file", token)
        assert "drain" in asked.json["refused"]
        assert asked.code == 1
    finally:
        operated.conf.write_text(text)
