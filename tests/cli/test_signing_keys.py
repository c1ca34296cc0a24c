"""gateway keys rotate-signing and register: new keys of our own, and the public ones of machines."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from gateway.auth.keys import new_signing_key
from gateway.auth.store import FILE, AuthStore
from gateway.cli.main import main
from tests.conf import write_conf

ROUTING = {
    "version": 1,
    "tenants": {"acme": {}},
    "routes": [{"name": "own", "path": "/own/{rest*}", "target": "documents", "strip": "/own"}],
}


class Shell:
    """Runs `gateway` with the config of the test."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.conf, self.data = write_conf(folder, ROUTING), folder / "var"
        self._capsys = capsys

    def __call__(self, *words: str, code: int = 0) -> tuple[str, str]:
        at = 2 if words[0] == "keys" else 1
        assert main([*words[:at], "-c", str(self.conf), *words[at:]]) == code
        shown = self._capsys.readouterr()
        return shown.out.strip(), " ".join(shown.err.split())

    def keys(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((self.data / name).read_text())["keys"]
        return found

    def kid(self) -> str:
        """The key that `gateway token` signs with."""
        return str(jwt.get_unverified_header(self("token", "--tenant", "acme")[0])["kid"])


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


def test_new_keys_are_published_first_and_the_old_ones_outlive_their_tokens(shell: Shell) -> None:
    first = shell.kid()
    _, said = shell("keys", "rotate-signing")
    now = time.time()
    for name, least in (("keys.jwks", 86_400), ("identity.jwks", 600)):
        old, new = shell.keys(name)
        assert 590 < new["gw_use_after"] - now < 610 and "gw_retire_after" not in new
        assert old["gw_retire_after"] - new["gw_use_after"] >= least
        assert new["kid"] in said and (shell.data / name).stat().st_mode & 0o777 == 0o600
    assert shell.kid() == first


def test_where_they_leaked_only_new_ones_are_left_within_a_second(shell: Shell) -> None:
    shell("token", "--tenant", "acme")
    shell("keys", "rotate-signing", "--leaked")
    for name in ("keys.jwks", "identity.jwks"):
        old, new = shell.keys(name)
        assert old["gw_retire_after"] == new["gw_use_after"] < time.time() + 1


def test_a_rotation_is_in_the_audit_log_with_its_keys_and_nothing_secret(shell: Shell) -> None:
    shell("token", "--tenant", "acme")
    shell("keys", "rotate-signing")
    files = ("keys.jwks", "identity.jwks")
    before = {name: [key["kid"] for key in shell.keys(name)] for name in files}
    _, said = shell("keys", "rotate-signing", "--leaked")
    events = AuthStore(shell.data / FILE).events(0)
    assert len(events) == 4 and all(event.by for event in events)
    for name, what, event in zip(files, ("tokens", "identities"), events[2:], strict=True):
        old, waiting = before[name]
        new = shell.keys(name)[1]["kid"]
        assert f"rotated the keys that sign {what}" in event.what and f": {new} is new" in event.what
        assert f"ended at once, as they leaked: {old}; removed: {waiting}" in event.what
        assert f"takes the place of {waiting}" in said
        assert not any(key["d"] in event.what for key in shell.keys(name))


def test_an_overlap_below_what_others_keep_is_noted(shell: Shell) -> None:
    assert "for up to 5 minutes" in shell("keys", "rotate-signing", "--overlap", "4m")[1]
    assert "5 minutes" not in shell("keys", "rotate-signing", "--overlap", "5m")[1]


def test_explain_says_that_the_key_which_signed_a_token_was_withdrawn(shell: Shell) -> None:
    token, _ = shell("token", "--tenant", "acme")
    shell("keys", "rotate-signing", "--overlap", "1h")
    rows = json.loads(shell("explain", "GET", "/own/", "--token", token, "--json")[0])
    assert "not used before " in rows["key"] and "ended" not in rows
    shell("keys", "rotate-signing", "--leaked")
    old, new = shell.keys("keys.jwks")
    document = {"keys": [{**old, "gw_retire_after": 1_000_000_000}, new]}
    (shell.data / "keys.jwks").write_text(json.dumps(document))
    rows = json.loads(shell("explain", "GET", "/own/", "--token", token, "--json", code=1)[0])
    kid = old["kid"]
    assert "signature is not valid" in rows["outcome"]
    assert rows["ended"].startswith(
        f"the key that signed it, kid '{kid}', was withdrawn or has retired at 2001-09-09 "
    )
    assert rows["key"].count("ended at ") == 1 and "fetched" not in rows
    forged = token[:-8] + ("A" if token[-8] != "A" else "B") + token[-7:]
    rows = json.loads(shell("explain", "GET", "/own/", "--token", forged, "--json", code=1)[0])
    assert "ended" not in rows


def test_with_an_overlap_of_ones_own(shell: Shell) -> None:
    shell("keys", "rotate-signing", "--overlap", "2h")
    assert 7100 < shell.keys("keys.jwks")[1]["gw_use_after"] - time.time() < 7300
    assert "--overlap" in shell("keys", "rotate-signing", "--overlap", "soon", code=1)[1]


def test_keys_that_others_sign_with_are_theirs_to_rotate(shell: Shell) -> None:
    shell.data.mkdir(mode=0o700)
    public = {name: value for name, value in new_signing_key().items() if name != "d"}
    (shell.data / "keys.jwks").write_text(json.dumps({"keys": [public]}))
    assert "is left as it is" in shell("keys", "rotate-signing")[1]
    assert shell.keys("keys.jwks") == [public] and len(shell.keys("identity.jwks")) == 2


def test_a_machine_registers_its_public_key(shell: Shell, tmp_path: Path) -> None:
    id_ = shell("keys", "create", "--tenant", "acme", "--subject", "etl")[0].split("_")[1]
    private, file = new_signing_key(), tmp_path / "key.jwk"
    public = {name: value for name, value in private.items() if name != "d"}
    for document in (public, {"keys": [public]}):
        file.write_text(json.dumps(document))
        assert f"are now: {public['kid']}" in shell("keys", "register", id_, str(file))[1]
    assert json.loads(shell("keys", "list", "--json")[0])[0]["public_keys"] == [public["kid"]]
    assert "public" in shell("keys", "list")[0]
    assert "are now: none" in shell("keys", "register", id_)[1]
    refused = {
        json.dumps(private): "private key",
        json.dumps({"kty": "oct", "k": "c2VjcmV0" * 8}): "public key",
        "{": "no JSON",
        "[]": "public key",
    }
    for text, reason in refused.items():
        file.write_text(text)
        said = shell("keys", "register", id_, str(file), code=1)[1]
        assert reason in said and str(private["d"]) not in said, said
    assert "no API key" in shell("keys", "register", "0000000000", code=1)[1]
