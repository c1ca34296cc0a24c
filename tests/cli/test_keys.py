"""gateway keys and gateway revoke: a secret is shown once, and what is done is on the disk."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.auth.keys import read_keys, signing_key
from gateway.auth.store import FILE, AuthStore
from gateway.cli.main import main
from gateway.core.api_keys import PATTERN, split
from gateway.core.jwt.issuer import local_issuer
from gateway.core.jwt.keys import sign
from tests.conf import write_conf

ROUTING = """\
version: 1
tenants: { acme: {}, old: { disabled: true } }
routes:
  - name: own
    path: /d/{rest*}
    strip: /d
    target: documents
    scopes: { read: [documents:read], write: [w], manage: [m] }
"""
CREATE = ("keys", "create", "--tenant", "acme", "--subject", "etl", "--scopes", "documents:read")


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return write_conf(tmp_path, ROUTING)


class Shell:
    """Runs commands with the config of the test. err: what the last one printed to standard error."""

    def __init__(self, conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._conf, self._capsys = conf, capsys
        self.err = ""

    def __call__(self, *words: str, code: int = 0) -> str:
        at = 2 if words[0] == "keys" else 1
        ended = main([*words[:at], "-c", str(self._conf), *words[at:]])
        shown = self._capsys.readouterr()
        self.err = " ".join(shown.err.split())
        assert ended == code, shown.err
        return shown.out

    def key(self, *more: str) -> str:
        return self(*CREATE, *more).strip()

    def listed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self("keys", "list", "--json"))
        return found

    def revocations(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self("revoke", "--list", "--json"))
        return found


@pytest.fixture
def shell(conf: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(conf, capsys)


def test_a_new_key_is_alone_on_standard_output_and_nowhere_else(shell: Shell, tmp_path: Path) -> None:
    out = shell(*CREATE, "--name", "nightly")
    assert re.fullmatch(f"{PATTERN}\n", out)
    id_, digest = split(out.strip())
    assert f"The API key {id_} of acme/etl is good until" in shell.err
    assert out.strip() not in shell.err and "note" not in shell.err
    raw = (tmp_path / "var" / FILE).read_bytes()
    assert digest in raw and out.strip()[14:].encode() not in raw
    (key,) = shell.listed()
    about = {name: key[name] for name in ("id", "state", "tenant", "subject", "scopes", "name", "used")}
    assert about == {
        "id": id_, "state": "active", "tenant": "acme", "subject": "etl", "scopes": ["documents:read"],
        "name": "nightly", "used": None,
    }  # fmt: skip
    assert key["expires"] - key["created"] == 90 * 86400 and key["by"]


def test_a_key_may_have_no_expiry(shell: Shell) -> None:
    shell.key("--expires", "never")
    assert "is good until it is revoked" in shell.err and shell.listed()[0]["expires"] is None


def test_the_table_shows_what_a_person_asks(shell: Shell) -> None:
    text = shell.key("--expires", "never")
    assert shell("keys", "list").split()[:2] == ["ID", "STATE"]
    assert split(text)[0] in shell("keys", "list") and "never" in shell("keys", "list")


@pytest.mark.parametrize(
    ("more", "note"),
    [
        (["--tenant", "akme"], "no tenant 'akme' (did you mean 'acme'?)"),
        (["--tenant", "old"], "'old' is disabled"),
        (["--scopes", "documents:raed"], "no route asks for the scope 'documents:raed'"),
    ],
)
def test_what_may_be_wrong_with_a_key_is_noted(shell: Shell, more: list[str], note: str) -> None:
    assert re.fullmatch(PATTERN, shell.key(*more)) and note in shell.err


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--tenant", "ACME"], "a tenant's name is"),
        (["--subject", "a b"], "visible ASCII"),
        (["--subject", "a\r\nX-Tenant: globex"], "visible ASCII"),
        (["--scopes", "a  b"], "single spaces"),
        (["--name", "a\nb"], "control character"),
        (["--expires", "0"], "has expired when it is printed"),
        (["--expires", "90 years"], "--expires '90 years' is not a duration"),
        (["--expires", "9999d"], "ten years"),
        (["--expires=-1d"], "is not a duration"),
    ],
)
def test_a_key_that_cannot_be_is_refused(shell: Shell, more: list[str], reason: str) -> None:
    assert not shell(*CREATE, *more[:1], *more[1:], code=1) and reason in shell.err
    assert not shell.listed()


def test_a_rotated_key_has_both_secrets_for_the_overlap(shell: Shell) -> None:
    before = shell.key("--expires", "40d")
    after = shell("keys", "rotate", split(before)[0], "--overlap", "1h").strip()
    assert split(after)[0] == split(before)[0] and after != before
    (key,) = shell.listed()
    assert 3590 < key["overlapping"][0] - time.time() <= 3600
    assert abs(key["expires"] - time.time() - 40 * 86400) < 60
    assert "active, rotating" in shell("keys", "list")


def test_a_key_is_revoked_by_its_id_or_by_the_key_that_leaked_and_that_is_not_repeated(shell: Shell) -> None:
    first, second = shell.key(), shell.key()
    shell("keys", "revoke", split(first)[0])
    shell("keys", "revoke", second, "--reason", "in a repository")
    assert second not in shell.err
    assert [key["state"] for key in shell.listed()] == ["revoked", "revoked"]
    assert [one["reason"] for one in shell.revocations()] == ["its key was revoked", "in a repository"]
    shell("keys", "revoke", second, code=1)
    assert "revoked already" in shell.err and second not in shell.err
    shell("keys", "rotate", second[:40], "--overlap", "1h", code=1)
    shell("keys", "revoke", f"x{second}", code=1)
    assert second not in shell.err and "gateway keys list" in shell.err


def test_a_whole_key_is_read_from_a_file_or_standard_input_and_so_in_no_history(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, file = shell.key(), tmp_path / "key"
    file.write_text(f"{text}\n")
    shell("keys", "rotate", f"@{file}")
    shell("keys", "register", f"@{file}")
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    shell("keys", "revoke", "-")
    assert text not in shell.err and shell.listed()[0]["state"] == "revoked"
    file.write_text("")
    shell("keys", "revoke", f"@{file}", code=1)
    assert f"ID: there is no key in @{file}" in shell.err


def test_of_when_a_key_was_used_the_hour_is_shown(shell: Shell, tmp_path: Path) -> None:
    id_, hour = split(shell.key())[0], 1_800_000_000.0
    AuthStore(tmp_path / "var" / FILE).note_used({id_: hour})
    begins, ends = (time.strftime("%H:%M", time.localtime(at)) for at in (hour, hour + 3600))
    assert f"{begins}-{ends}" in "".join(shell("keys", "list").split())


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--jti", "j1"], {"jti": "j1"}),
        (["--subject", "acme/a/b"], {"tenant": "acme", "subject": "a/b"}),
        (["--tenant", "acme"], {"tenant": "acme"}),
        (["--issuer", "local"], {"issuer": "local"}),
        (["--before", "2026-01-02T03:04:05Z"], {"before": 1767323045.0}),
        (["--tenant", "acme", "--before", "1767323045.5"], {"tenant": "acme", "before": 1767323045.5}),
    ],
)
def test_a_revocation_says_what_is_refused_and_how_to_take_it_back(
    shell: Shell, words: list[str], what: dict[str, Any]
) -> None:
    shell("revoke", *words, "--reason", "why")
    assert "Revocation 1: " in shell.err and "revoke --lift 1" in shell.err
    (one,) = shell.revocations()
    assert abs(one.pop("until") - one["created"] - 30 * 86400) < 1
    assert one.pop("by") and one.pop("created") and one.pop("reason") == "why"
    assert one == {"number": 1, **what}
    assert "why" in shell("revoke", "--list")
    shell("revoke", "--lift", "1")
    assert not shell.revocations()
    shell("revoke", "--lift", "1", code=1)
    assert "there is no revocation 1" in shell.err


@pytest.mark.parametrize("words", [("--tenant", "acmee"), ("--subject", "acmee/alice")])
def test_a_tenant_that_is_not_there_is_noted_and_revoked_all_the_same(
    shell: Shell, words: tuple[str, str]
) -> None:
    shell("revoke", *words)
    assert "note: the routing config has no tenant 'acmee' (did you mean 'acme'?)" in shell.err
    assert shell.revocations()[0]["tenant"] == "acmee"


def test_before_now_is_now(shell: Shell) -> None:
    shell("revoke", "--before", "now", "--for", "1d")
    (one,) = shell.revocations()
    assert one["before"] == one["created"] and one["until"] == one["created"] + 86400


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "say what is revoked"),
        (["--subject", "alice"], "as in acme/alice"),
        (["--subject", "acme/alice", "--tenant", "globex"], "as in acme/alice"),
        (["--tenant", "ACME"], "a tenant's name is"),
        (["--issuer", "nobody"], "the issuers are local"),
        (["--issuer", "locla"], "the issuers are local (did you mean 'local'?)"),
        (["--api-key", "nope"], "gateway keys list"),
        (["--api-key", "0123456789"], "no API key with this id"),
        (["--before", "yesterday"], "is no time"),
        (["--before", "2099-01-01"], "in the future"),
        (["--tenant", "acme", "--for", "0"], "at least a second"),
        (["--lift", "7"], "there is no revocation 7"),
    ],
)
def test_a_revocation_that_cannot_be_meant_is_refused(shell: Shell, words: list[str], reason: str) -> None:
    shell("revoke", *words, code=1)
    assert reason in shell.err and not shell.revocations()


def token(tmp_path: Path, **claims: Any) -> str:
    path = tmp_path / "var" / "keys.jwks"
    now = int(time.time())
    told = {
        "iss": "gateway",
        "aud": "gateway",
        "tenant": "acme",
        "sub": "alice",
        "iat": now,
        "exp": now + 600,
    }
    keys = read_keys(path, local_issuer(str(path)).algorithms)
    return sign({**told, **claims}, signing_key(keys))


def test_a_token_is_revoked_as_it_was_sent_until_it_expires(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shell("token", "--tenant", "acme").strip()
    monkeypatch.setattr("sys.stdin", io.StringIO(f"Authorization: Bearer {text}\n"))
    shell("revoke", "--token", "-")
    (one,) = shell.revocations()
    assert one["issuer"] == "local" and len(one["jti"]) >= 20 and text not in shell.err
    assert 3600 + 60 < one["until"] - time.time() < 3600 + 600  # not before the leeway is over


def test_a_token_without_a_jti_is_answered_with_the_command_that_ends_it(
    shell: Shell, tmp_path: Path
) -> None:
    shell("token", "--tenant", "acme")
    text = token(tmp_path, iat=1000)
    shell("revoke", "--token", text, code=1)
    assert "revoke --subject acme/alice --before 1001" in shell.err and text not in shell.err


def test_a_token_that_is_refused_anyway_is_not_revoked(shell: Shell, tmp_path: Path) -> None:
    shell("token", "--tenant", "acme")
    for claims, reason in (({"iss": "other"}, "none of the issuers"), ({"exp": 1}, "expired")):
        text = token(tmp_path, **claims)
        shell("revoke", "--token", text, code=1)
        assert "refused anyway" in shell.err and reason in shell.err and text not in shell.err


def test_an_api_key_on_standard_input_is_revoked_until_it_is_lifted(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shell.key()
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{text}\n"))
    shell("revoke", "--token", "-")
    assert shell.revocations()[0]["api_key"] == split(text)[0] and text not in shell.err


def test_explain_says_what_revoked_a_credential_and_how_to_take_it_back(shell: Shell) -> None:
    key, text = shell.key(), shell("token", "--tenant", "acme", "--scope", "documents:read").strip()

    def told(credential: str, code: int) -> str:
        rows = json.loads(shell("explain", "GET", "/d/o/1", "--token", credential, "--json", code=code))
        assert credential not in str(rows)
        return str(rows.get("revoked", ""))

    assert (told(key, 0), told(text, 0)) == ("", "")
    shell("revoke", "--tenant", "acme", "--reason", "they left")
    for credential in (key, text):
        said = told(credential, 1)
        assert said.startswith("revocation 1: the tenant acme, since 20") and " by " in said
        assert "(they left); lift it: " in said and said.endswith(" revoke --lift 1")
    shell("revoke", "--lift", "1")
    assert (told(key, 0), told(text, 0)) == ("", "")
    shell("keys", "revoke", split(key)[0], "--reason", "lost")
    said = told(key, 1)
    assert "for good, since " in said and "(lost)" in said and "--lift" not in said


def test_a_damaged_file_is_named_with_what_to_do_and_not_made_anew(shell: Shell, tmp_path: Path) -> None:
    shell.key()
    path = tmp_path / "var" / FILE
    path.write_bytes(b"no database")
    for words in (CREATE, ("keys", "list"), ("revoke", "--list"), ("revoke", "--tenant", "acme")):
        shell(*words, code=1)
        assert f"{path}: it is damaged" in shell.err and "backup" in shell.err
    assert path.read_bytes() == b"no database"


def test_problems_in_the_routing_config_keep_nobody_from_revoking(shell: Shell, conf: Path) -> None:
    (conf.parent / "routing.yaml").write_text("version: 7\n")
    shell("revoke", "--issuer", "local")
    assert "see gateway check" in shell.err and len(shell.revocations()) == 1
