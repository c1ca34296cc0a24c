"""Keys on disk, and the cache of verified tokens."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.auth import keys as service
from gateway.auth.keys import (
    Keys,
    KeysUnusable,
    ensure_secret,
    ensure_signing_key,
    issue,
    load_keys,
    signing_key,
)
from gateway.core.errors import Unauthenticated
from gateway.core.jwt.issuer import local_issuer
from gateway.core.jwt.keys import sign

RULE = local_issuer("")


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Setting:
    """A key file, the service on it, a clock, and what the service counted."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "keys.jwks"
        self.clock = Clock()
        self.results: list[str] = []
        ensure_signing_key(self.path)
        self.keys = Keys(self.path, RULE, self.results.append, self.clock)
        self.keys.load()

    def token(self, **claims: Any) -> str:
        base = {"iss": "gateway", "aud": "gateway", "tenant": "acme", "sub": "a", "exp": self.clock.now + 60}
        return sign({**base, **claims}, signing_key(load_keys(self.path, RULE)))


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


# --- the files -------------------------------------------------------------------------------------


def test_a_new_key_file_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys.jwks"
    before = os.umask(0)
    try:
        assert ensure_signing_key(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [p.name for p in path.parent.iterdir()] == ["keys.jwks"]
    assert signing_key(load_keys(path, RULE)).algorithms[0] == "EdDSA"


def test_a_key_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.jwks"
    ensure_signing_key(path)
    before = path.read_bytes()
    assert not ensure_signing_key(path)
    assert path.read_bytes() == before


def test_processes_that_start_together_agree_on_one_key_file(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from gateway.auth.keys import ensure_signing_key, ensure_secret\n"
        "print('up', flush=True); sys.stdin.readline(); folder = pathlib.Path(sys.argv[1])\n"
        "made = ensure_signing_key(folder / 'keys.jwks'); secret = ensure_secret(folder / 'secret')\n"
        "print(int(made), (folder / 'keys.jwks').read_bytes().hex(), secret.hex())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=30)[0].split() for process in processes]
    assert sorted(made for made, _, _ in answers) == ["0", "0", "0", "1"]
    assert len({content for _, content, _ in answers}) == 1
    assert len({secret for _, _, secret in answers}) == 1


def test_a_secret_stays_the_same(tmp_path: Path) -> None:
    secret = ensure_secret(tmp_path / "s")
    assert len(secret) == 32
    assert ensure_secret(tmp_path / "s") == secret
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"c2hvcnQ=\n", base64.b64encode(b"x" * 31), b"!" * 44, b"\xff" * 44, b"a" * 43],
    ids=["empty", "blank", "short", "31 bytes", "junk", "bytes", "torn"],
)
def test_a_secret_that_is_none_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeysUnusable, match=f"{path}: it holds no secret of 32 bytes; remove it") as caught:
        ensure_secret(path)
    assert not content.strip() or repr(content.strip())[2:-1] not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_secret_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    ensure_secret(tmp_path / "s")
    (tmp_path / "s").chmod(mode)
    with pytest.raises(KeysUnusable, match="others may read or change"):
        ensure_secret(tmp_path / "s")


def test_a_secret_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with pytest.raises(KeysUnusable, match="it is a directory, and no regular file"):
        ensure_secret(tmp_path / "s")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_signing_keys_that_others_may_read_are_refused(setting: Setting, mode: int) -> None:
    setting.path.chmod(mode)
    with pytest.raises(KeysUnusable, match=f"chmod 600 {setting.path}"):
        load_keys(setting.path, RULE)


def test_public_keys_may_be_readable_by_all(setting: Setting) -> None:
    document = json.loads(setting.path.read_text())
    del document["keys"][0]["d"]
    setting.path.write_text(json.dumps(document))
    setting.path.chmod(0o644)
    with pytest.raises(KeysUnusable, match="no key can sign"):
        signing_key(load_keys(setting.path, RULE))


def test_a_key_to_sign_with_may_be_named(setting: Setting) -> None:
    keys = load_keys(setting.path, RULE)
    (key,) = keys
    assert signing_key(keys, key.kid or "") is key
    with pytest.raises(KeysUnusable, match="'other'"):
        signing_key(keys, "other")


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\xfe", b'{"keys": [{"kid": "a"}]}'])
def test_a_bad_key_file_is_named_and_its_content_is_not(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "keys.jwks"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeysUnusable, match=str(path)):
        load_keys(path, RULE)


# --- the cache -------------------------------------------------------------------------------------


def test_a_token_is_verified_once_and_then_known(setting: Setting) -> None:
    token = setting.token()
    assert setting.keys.verify(token) is setting.keys.verify(token)
    assert setting.results == ["verified", "cached"]


def test_a_cached_token_is_refused_when_it_expires(setting: Setting) -> None:
    token = setting.token()
    setting.keys.verify(token)
    setting.clock.now += 60 + 59.9
    setting.keys.verify(token)
    setting.clock.now += 0.1
    with pytest.raises(Unauthenticated, match="expired"):
        setting.keys.verify(token)
    assert setting.results == ["verified", "cached", "refused"]


def test_a_refused_token_is_not_kept(setting: Setting) -> None:
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            setting.keys.verify("junk")
    assert setting.results == ["refused", "refused"]
    assert not setting.keys._cache


def test_the_cache_is_bounded_and_forgets_the_oldest(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "CACHE_SIZE", 3)
    tokens = [setting.token(sub=f"s{index}") for index in range(4)]
    for token in tokens:
        setting.keys.verify(token)
        assert len(setting.keys._cache) <= 3
    setting.keys.verify(tokens[3])
    setting.keys.verify(tokens[0])
    assert setting.results == ["verified"] * 4 + ["cached", "verified"]


# --- changes ---------------------------------------------------------------------------------------


def test_new_keys_empty_the_cache_and_old_tokens_are_refused(setting: Setting) -> None:
    old = setting.token()
    setting.keys.verify(old)
    setting.path.unlink()
    ensure_signing_key(setting.path)
    setting.keys.verify(old)  # not looked at yet
    asyncio.run(setting.keys.reload_if_changed())
    with pytest.raises(Unauthenticated, match="names no key"):
        setting.keys.verify(old)
    setting.keys.verify(setting.token())


def test_nothing_is_read_when_nothing_changed(setting: Setting) -> None:
    token = setting.token()
    setting.keys.verify(token)
    asyncio.run(setting.keys.reload_if_changed())
    setting.keys.verify(token)
    assert setting.results == ["verified", "cached"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["FIFO", "directory"])
def test_what_is_no_regular_file_is_named_by_its_kind_and_not_waited_for(
    tmp_path: Path, make: Callable[[Path], None], request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.id
    make(tmp_path / "k")
    with pytest.raises(KeysUnusable, match=f"it is a {kind}"):
        load_keys(tmp_path / "k", RULE)
    with pytest.raises(KeysUnusable, match=f"it is a {kind}"):
        ensure_secret(tmp_path / "k")


@pytest.mark.parametrize("content", [None, b"{", b'{"keys": []}', b"\xff", b"[" * 100_000])
def test_a_bad_key_file_keeps_the_last_good_keys_and_is_logged_once(
    setting: Setting, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    token = setting.token()
    setting.keys.verify(token)
    if content is None:
        setting.path.unlink()
    else:
        setting.path.write_bytes(content)
    for _ in range(3):
        asyncio.run(setting.keys.reload_if_changed())
    setting.keys.verify(token)
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert str(setting.path) in record.getMessage()


def test_a_mended_mode_is_a_change(setting: Setting) -> None:
    token = setting.token()
    setting.path.chmod(0o644)
    asyncio.run(setting.keys.reload_if_changed())
    refused = setting.keys._seen
    setting.path.chmod(0o600)
    asyncio.run(setting.keys.reload_if_changed())
    assert setting.keys._seen != refused
    assert setting.keys.verify(token).subject == "a"


# --- issue -----------------------------------------------------------------------------------------


def test_an_issued_token_verifies(tmp_path: Path) -> None:
    path = tmp_path / "keys.jwks"
    ensure_signing_key(path)
    keys = Keys(path, RULE)
    keys.load()
    who = keys.verify(issue(path, RULE, "acme", "a b", "me", 60))
    assert (who.tenant.value, who.subject, who.scope_text) == ("acme", "me", "a b")


@pytest.mark.parametrize(
    ("tenant", "scope", "subject"), [("Acme", "", "a"), ("acme", "a  b", "a"), ("acme", "", "")]
)
def test_a_token_that_the_gateway_would_refuse_is_not_issued(
    setting: Setting, tenant: str, scope: str, subject: str
) -> None:
    with pytest.raises(Unauthenticated):
        issue(setting.path, RULE, tenant, scope, subject, 60)
