"""gateway apply | rollback | confirm, against a gateway that runs."""

from __future__ import annotations

import io
import json
import sys
from email.message import Message
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.cli.config import changing
from gateway.cli.config.client import Refused, Reply
from gateway.cli.config.session import Live
from tests.cli.config.conftest import BAD, ROUTING, SLOWER, Operated

pytestmark = pytest.mark.whole


def test_apply_shows_the_change_by_meaning_and_makes_it_live_with_its_reason(operated: Operated) -> None:
    before, _ = operated.live()
    code, out, _ = operated.run("apply", operated.file(SLOWER), "-m", "reports take long")
    assert code == 0
    assert "~ route fast\n    ~ timeouts.total  5s -> 9s\n" in out
    number, text = operated.live()
    assert (number, text) == (before + 1, SLOWER)
    assert f"live  revision {number} (before: {before})" in out
    shown = operated.run("revisions", str(number), "--json").json
    assert (shown["reason"], shown["parent"], shown["source"]) == ("reports take long", before, "api")
    assert operated.routing.read_text() == SLOWER


def test_what_is_live_already_is_not_applied_again(operated: Operated) -> None:
    before, _ = operated.live()
    code, out, _ = operated.run("apply", operated.file(ROUTING))
    assert (code, out) == (0, f"Nothing to do: revision {before} is live, and has this text.\n")
    assert operated.live()[0] == before


def test_a_comment_is_a_change_that_means_nothing(operated: Operated) -> None:
    text = ROUTING.replace("nobody is there", "somebody will be")
    code, out, _ = operated.run("apply", operated.file(text))
    assert code == 0
    assert "Only comments, order or notation differ" in out
    assert operated.live()[1] == text


def test_a_bad_config_is_refused_with_its_problems_by_line_as_check_shows_them(operated: Operated) -> None:
    before = operated.live()
    file = operated.file(BAD)
    code, out, err = operated.run("apply", file)
    assert (code, out) == (1, "")
    assert f"{file}:10  routes[0].target\n" in err and "hint: did you mean fast?" in err
    assert operated.live() == before
    code, out, err = operated.run("apply", file, "--json")
    assert code == 1
    (problem,) = json.loads(out)["problems"]
    assert (problem["line"], problem["path"]) == (10, "routes[0].target")
    assert "routes[0].target" in err


def test_apply_reads_standard_input(operated: Operated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SLOWER.encode())))
    assert operated.run("apply", "-").code == 0
    assert operated.live()[1] == SLOWER
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BAD.encode())))
    code, _, err = operated.run("apply", "-")
    assert code == 1
    assert "(standard input):10" in err


def test_a_program_can_say_on_what_its_change_is_based(operated: Operated) -> None:
    base, _ = operated.live()
    digest = operated.run("revisions", str(base), "--json").json["digest"]
    assert operated.run("apply", operated.file(SLOWER), "-m", "mine", "--if-match", digest).code == 0
    now = operated.live()
    for stale in (str(base), digest):
        code, out, err = operated.run("apply", operated.file(ROUTING), "--if-match", stale)
        assert (code, out) == (1, "")
        assert f"revision {base + 1} is live, and not {stale}; nothing was changed" in err
        assert f"  {base + 1} by local, " in err and "'mine'" in err
    code, _, err = operated.run("apply", operated.file(ROUTING), "--if-match", str(base))
    assert "~ route fast" in err and "timeouts.total  5s -> 9s" in err
    assert operated.live() == now
    assert operated.run("apply", operated.file(ROUTING), "--if-match", str(base + 1)).code == 0


def test_what_would_refuse_requests_that_were_served_needs_a_yes(operated: Operated) -> None:
    served = ROUTING + "  - { name: docs, path: '/docs/{rest*}', target: fast, public: true }\n"
    assert operated.run("apply", operated.file(served)).code == 0
    for _ in range(3):
        operated.request("/docs/a")
    file = operated.file(ROUTING)
    code, out, err = operated.run("apply", file)
    assert code == 1
    assert "  3 would be refused that was served\n" in out and "-> 404 no_route" in out
    assert "3 of the last " in err and "say --yes" in err
    code, out, _ = operated.run("apply", file, "--json")
    asked = json.loads(out)
    assert (code, asked["code"], asked["rehearsal"]["kinds"]["refused"]["count"]) == (1, "not_agreed", 3)
    assert "say --yes" in asked["detail"]
    assert operated.live()[1] == served
    for answer, done, text in (("\n", 1, served), ("y\n", 0, ROUTING)):
        with operated.terminal("apply", file) as terminal:
            terminal.until("Apply it? ")
            terminal.until("[y/N]")
            terminal.type(answer)
            assert terminal.ended() == done
        assert operated.live()[1] == text
    assert operated.run("rollback", "--yes").code == 0
    assert operated.run("apply", file, "--yes", "--json").json["rehearsal"]["kinds"]["refused"]["count"] == 3


def test_a_rollback_restores_the_text_to_the_byte_and_shows_what_it_changes(operated: Operated) -> None:
    base, _ = operated.live()
    assert operated.run("apply", operated.file(SLOWER)).code == 0
    code, out, _ = operated.run("rollback", str(base), "-m", "too slow")
    assert code == 0
    assert f"Back from revision {base + 1} to {base} by local" in out
    assert "~ timeouts.total  9s -> 5s" in out
    assert f"live  revision {base + 2}, the text of {base} (before: {base + 1})" in out
    assert operated.live() == (base + 2, ROUTING)


def test_a_rollback_without_a_number_needs_a_yes_and_goes_on_when_said_again(operated: Operated) -> None:
    texts = [ROUTING.replace("5s", f"{n}s") for n in (11, 12, 13)]
    for text in texts:
        assert operated.run("apply", operated.file(text)).code == 0
    code, _, err = operated.run("rollback")
    assert code == 1
    assert "say --yes" in err
    assert operated.live()[1] == texts[2]
    for text in reversed(texts[:2]):
        assert operated.run("rollback", "--yes").code == 0
        assert operated.live()[1] == text


def test_a_revision_that_is_not_there_is_said_to_be_none(operated: Operated) -> None:
    for words in (("rollback", "99999"), ("revisions", "99999"), ("diff", "99999")):
        code, out, err = operated.run(*words)
        assert (code, out) == (1, "")
        assert err.startswith("error: There is no such revision")


# --- confirmed within ------------------------------------------------------------------------------


def test_what_is_to_be_confirmed_says_how_and_stays_when_it_is(operated: Operated) -> None:
    base, _ = operated.live()
    code, out, err = operated.run("apply", operated.file(SLOWER), "--confirm-within", "50s")
    assert code == 0
    assert f"It goes back to revision {base} in 50 s unless confirmed: " in err
    assert f" confirm {base + 1}\n" in err
    assert "pending" in operated.run("revisions").out
    code, _, err = operated.run("apply", operated.file(SLOWER), "--yes")
    assert code == 1 and f"revision {base + 1} waits for its confirmation until" in err
    assert f" confirm {base + 1}\n" in err and f" rollback {base}; then try again" in err
    code, out, _ = operated.run("confirm")
    assert (code, out) == (0, f"confirmed  revision {base + 1} stays\n")
    assert operated.live() == (base + 1, SLOWER)
    code, _, err = operated.run("confirm")
    assert code == 1
    assert "nothing waits to be confirmed" in err


def test_the_same_text_again_says_how_much_time_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    """Of 60 s, 45 s after it was applied, by the gateway's clock."""
    revision = {"number": 2, "digest": "d", "at": 1000.0, "restores": 0}
    outcome = {"revision": revision, "changes": [], "pending": {"number": 2, "back_to": 1, "due": 1060.0}}
    headers = Message()
    headers["Date"] = formatdate(1045.0, usegmt=True)
    reply = Reply("", headers, json.dumps(outcome).encode())
    client = SimpleNamespace(send_text=lambda *asked: reply)
    arguments = SimpleNamespace(message="", confirm_within=None)
    session: Any = SimpleNamespace(client=client, arguments=arguments, json=False, interactive=False)
    live = Live({"revision": revision, "text": "", "pending": outcome["pending"]})
    assert changing.put(session, changing.Proposal("", "new.yaml", [], None), live) == 0
    assert "It goes back to revision 1 in 15 s unless confirmed: " in capsys.readouterr().err


def test_with_yes_nobody_waits_for_a_rehearsal(capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[Any] = []

    def send_text(method: str, path: str, text: str, query: Any = None) -> Reply:
        asked.append((path.rpartition(":")[2], query))
        if path.endswith("rehearse"):
            raise Refused("It was not done in 3 s.", 503, {})
        return Reply("", Message(), json.dumps({"ok": True, "problems": [], "changes": [{}]}).encode())

    for yes, within in ((True, "3s"), (False, None)):
        arguments = SimpleNamespace(yes=yes)
        session: Any = SimpleNamespace(client=SimpleNamespace(send_text=send_text), arguments=arguments)
        assert changing.propose(session, "", "new.yaml").rehearsal is None
        assert asked[-2:] == [("check", None), ("rehearse", {"within": within})]
        assert "note: no rehearsal: It was not done in 3 s." in capsys.readouterr().err


def test_on_a_terminal_enter_confirms(operated: Operated) -> None:
    base, _ = operated.live()
    with operated.terminal("apply", operated.file(SLOWER), "--confirm-within", "50s") as terminal:
        terminal.until("press Enter to confirm")
        terminal.type("\n")
        terminal.until(f"revision {base + 1} stays")
        assert terminal.ended() == 0
    assert operated.live() == (base + 1, SLOWER)


def test_on_a_terminal_the_end_of_the_countdown_tells_what_is_live_again(operated: Operated) -> None:
    base, _ = operated.live()
    with operated.terminal("apply", operated.file(SLOWER), "--confirm-within", "2s") as terminal:
        terminal.until("press Enter to confirm")
        terminal.until("not confirmed")
        assert terminal.ended() == 1
        assert f"revision {base + 2} is live now" in terminal.shown
    assert operated.live() == (base + 2, ROUTING)


def test_ctrl_c_in_the_countdown_leaves_it_to_the_gateway(operated: Operated) -> None:
    base, _ = operated.live()
    with operated.terminal("apply", operated.file(SLOWER), "--confirm-within", "50s") as terminal:
        terminal.until("press Enter to confirm")
        terminal.type("\x03")
        assert terminal.ended() == 130, terminal.shown
        assert "It still goes back in" in terminal.shown and f"confirm {base + 1}" in terminal.shown
    assert operated.run("confirm", str(base + 1)).code == 0


# --- who may ---------------------------------------------------------------------------------------


def test_without_a_token_one_may_look_and_is_told_how_to_change(operated: Operated) -> None:
    assert operated.run("revisions", "--admin", operated.serving.admin).code == 0
    code, out, err = operated.run("apply", operated.file(SLOWER), "--admin", operated.serving.admin)
    assert (code, out) == (1, "")
    assert "--token-file" in err
    assert operated.live()[1] == ROUTING
