"""Credentials that were verified, and what is left of them when keys change."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.auth.credentials import Credentials
from gateway.auth.issuers import Issuers
from gateway.auth.keys import ensure_signing_key, read_keys, signing_key
from gateway.core.errors import Unauthenticated
from gateway.core.jwt.issuer import LOCAL, local_issuer
from gateway.core.jwt.keys import sign
from gateway.core.model import Identity
from gateway.edge.backend.origin import Origins


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Setting:
    """A key file, the local issuer of it, what is remembered of its tokens, and a clock."""

    def __init__(self, folder: Path, size: int = 10_000) -> None:
        self.path = folder / "keys.jwks"
        self.clock = Clock()
        ensure_signing_key(self.path)
        self.issuer = local_issuer(str(self.path))
        self.credentials = Credentials(self.clock, size)
        self.issuers = Issuers(self.credentials, Origins(), wall=self.clock)
        self.issuers.reconcile(self.issuer, {})
        self.issuers.load(LOCAL)

    def token(self, **claims: Any) -> str:
        base = {"iss": "gateway", "aud": "gateway", "tenant": "acme", "sub": "a", "exp": self.clock.now + 60}
        return sign({**base, **claims}, signing_key(read_keys(self.path, self.issuer.algorithms)))

    def verify(self, token: str) -> Identity:
        identity = self.credentials.known(token)
        if identity is None:
            identity = self.issuers.try_verify(token, lambda name: True)
            assert identity is not None
            self.credentials.remember(token, identity)
        return identity

    @property
    def results(self) -> tuple[int, int, int]:
        """Verified, from memory, and refused."""
        counts = self.credentials.counts(LOCAL)
        return counts["verified"], counts["hits"], counts["refused"]


@pytest.fixture
async def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


async def test_a_token_is_verified_once_and_then_known(setting: Setting) -> None:
    token = setting.token()
    assert setting.verify(token) is setting.verify(token)
    assert setting.results == (1, 1, 0)


async def test_a_cached_token_is_refused_when_it_expires(setting: Setting) -> None:
    token = setting.token()
    setting.verify(token)
    setting.clock.now += 60 + 59.9
    setting.verify(token)
    setting.clock.now += 0.1
    with pytest.raises(Unauthenticated, match="expired"):
        setting.verify(token)
    assert setting.results == (1, 1, 1)


async def test_a_refused_token_is_not_kept(setting: Setting) -> None:
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            setting.verify(setting.token(aud="other"))
    assert setting.results == (0, 0, 2)
    assert not len(setting.credentials)


async def test_the_cache_is_bounded_and_forgets_the_oldest(
    tmp_path: Path,
) -> None:
    setting = Setting(tmp_path, size=3)
    tokens = [setting.token(sub=f"s{index}") for index in range(4)]
    for token in tokens:
        setting.verify(token)
        assert len(setting.credentials) <= 3
    setting.verify(tokens[3])
    setting.verify(tokens[0])
    assert setting.results == (5, 1, 0)


# --- changes of the keys ---


def test_long_credentials_take_no_more_room_than_there_is(setting: Setting) -> None:
    """Each may have 16 KiB, and is kept with its claims: 10,000 of them would take hundreds of megabytes."""
    identity = setting.verify(setting.token())
    kept = Credentials(setting.clock, size=100, length=1000)
    for number in range(20):
        kept.remember(f"{number:0100}", identity)
    assert len(kept) == 10
    assert kept.peek(f"{0:0100}") is None and kept.peek(f"{19:0100}") is identity
    kept.remember(f"{19:0100}", identity)  # known already: it takes no room twice
    assert len(kept) == 10
    assert kept.forget(lambda identity: True)
    for number in range(10):
        kept.remember(f"{number:0100}", identity)
    assert len(kept) == 10
    kept.remember("short", replace(identity, claims={"said by its issuer": "x" * 880}))
    assert len(kept) == 1


async def test_new_keys_empty_the_cache_and_old_tokens_are_refused(setting: Setting) -> None:
    old = setting.token()
    setting.verify(old)
    setting.path.unlink()
    ensure_signing_key(setting.path)
    setting.verify(old)  # not looked at yet
    await setting.issuers.refresh()
    with pytest.raises(Unauthenticated, match="names no key"):
        setting.verify(old)
    setting.verify(setting.token())


async def test_nothing_is_read_when_nothing_changed(setting: Setting) -> None:
    token = setting.token()
    setting.verify(token)
    await setting.issuers.refresh()
    setting.verify(token)
    assert setting.results == (1, 1, 0)


@pytest.mark.parametrize("content", [None, b"{", b'{"keys": []}', b"\xff", b"[" * 100_000])
async def test_a_bad_key_file_keeps_the_last_good_keys_and_is_logged_once(
    setting: Setting, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    token = setting.token()
    setting.verify(token)
    if content is None:
        setting.path.unlink()
    else:
        setting.path.write_bytes(content)
    for _ in range(3):
        await setting.issuers.refresh()
    setting.verify(token)
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert str(setting.path) in record.getMessage()


async def test_a_mended_mode_is_a_change(setting: Setting) -> None:
    token = setting.token()
    setting.path.chmod(0o644)
    await setting.issuers.refresh()
    assert setting.issuers.states()[0]["last_failure"]["over"] is False
    setting.path.chmod(0o600)
    await setting.issuers.refresh()
    assert setting.issuers.states()[0]["last_failure"]["over"] is True
    assert setting.verify(token).subject == "a"
