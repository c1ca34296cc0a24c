"""What a process knows of keys and revocations: in force within a second, whoever changes the file."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.auth.store import NOTHING, AuthStore
from gateway.auth.stored import StoredCredentials
from gateway.core.api_keys import FOREVER, HOUR, ApiKey, KeySecret, compose, split
from gateway.core.errors import Unauthenticated
from gateway.core.model import Identity, TenantId
from gateway.core.revocations import Revocation
from gateway.runtime.sqlite_file import SQLiteUnusable
from tests.eventually import AT_ONCE, eventually

pytestmark = pytest.mark.asyncio
NOW = 1_800_000_000.0
ID = "7Kq0ZmP3xA"
TEXT, SECOND = compose(ID, 1), compose(ID, 2)


def secret(text: str = TEXT, created: float = NOW - 60, until: float = FOREVER) -> KeySecret:
    return KeySecret(split(text)[1], created, until)


def key() -> ApiKey:
    return ApiKey(ID, "acme", "etl", "a b", "nightly", NOW - 60, "alice", (secret(),))


def token(**more: object) -> Identity:
    values = {"issuer": "local", "credential_id": "j1", "issued": NOW - 60, **more}
    return Identity(TenantId("acme"), "alice", frozenset(), NOW + 600, **values)  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def stored(tmp_path: Path) -> AsyncIterator[StoredCredentials]:
    made = StoredCredentials(tmp_path / "auth.sqlite", lambda: NOW)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def command(stored: StoredCredentials) -> AuthStore:
    """Another process with the same file."""
    return AuthStore(stored.store.path)


def identity(stored: StoredCredentials, text: str = TEXT) -> Identity:
    return stored.api_keys.identity(text, NOW)


async def known(stored: StoredCredentials, text: str = TEXT) -> Identity:
    def found() -> Identity | None:
        try:
            return identity(stored, text)
        except Unauthenticated:
            return None

    who = await eventually(found, end=AT_ONCE)
    assert who is not None
    return who


async def test_a_key_works_soon_after_another_process_has_made_it(
    stored: StoredCredentials, command: AuthStore
) -> None:
    with pytest.raises(Unauthenticated, match="not known"):
        identity(stored)
    command.create_key(key())
    who = await known(stored)
    assert not stored.revocations.covers(who) and stored.revocations.expires(who) == FOREVER


async def test_a_change_of_its_own_is_in_force_when_it_is_done(stored: StoredCredentials) -> None:
    await stored.change(stored.store.create_key, key())
    who = identity(stored)
    await stored.change(stored.store.revoke_key, ID, "bob", NOW)
    assert stored.revocations.covers(who)
    with pytest.raises(Unauthenticated, match="was revoked"):
        identity(stored)


async def test_a_revocation_of_another_process_is_told_to_those_who_remember_identities(
    stored: StoredCredentials, command: AuthStore
) -> None:
    told: list[bool] = []
    who = token()
    stored.revocations.on_change(lambda: told.append(stored.revocations.covers(who)))
    number = command.revoke(Revocation(NOW + 60, created=NOW, by="bob", jti="j1"))
    await eventually(lambda: told == [True], end=AT_ONCE)
    assert stored.revocations.expires(who) == 0.0 and not stored.revocations.covers(token(credential_id="j2"))
    command.lift(number, "bob", NOW)
    await eventually(lambda: not stored.revocations.covers(who), end=AT_ONCE)


async def test_nobody_is_told_of_what_ends_no_credential(stored: StoredCredentials) -> None:
    told: list[None] = []
    number = await stored.change(stored.store.revoke, Revocation(NOW + 60, created=NOW, by="bob", jti="j1"))
    stored.revocations.on_change(lambda: told.append(None))
    await stored.change(stored.store.create_key, key())
    await stored.change(stored.store.lift, number, "bob", NOW)
    identity(stored)
    await stored.flush()
    await stored.refresh()
    assert not told


async def test_a_rotation_makes_remembered_identities_old_and_refuses_neither_secret(
    stored: StoredCredentials,
) -> None:
    await stored.change(stored.store.create_key, key())
    before, told = identity(stored), []
    stored.revocations.on_change(lambda: told.append(stored.revocations.covers(before)))
    await stored.change(stored.store.rotate_key, ID, split(SECOND)[1], NOW, 600.0, "bob")
    assert told == [True] and stored.revocations.expires(before) == NOW + 600
    for text, expires in ((TEXT, NOW + 600), (SECOND, FOREVER)):
        who = identity(stored, text)
        assert who.expires == expires and not stored.revocations.covers(who)


async def test_a_tenants_revocation_refuses_its_keys_until_it_is_lifted(stored: StoredCredentials) -> None:
    await stored.change(stored.store.create_key, key())
    who = identity(stored)
    revocation = Revocation(NOW + 60, created=NOW, by="bob", tenant="acme", before=NOW)
    number = await stored.change(stored.store.revoke, revocation)
    assert stored.revocations.covers(who)
    with pytest.raises(Unauthenticated, match="revoked"):
        identity(stored)
    await stored.change(stored.store.lift, number, "bob", NOW)
    assert not stored.revocations.covers(identity(stored))


async def test_when_a_key_was_used_is_written_later_and_to_the_hour(
    stored: StoredCredentials, command: AuthStore
) -> None:
    await stored.change(stored.store.create_key, key())
    identity(stored)
    found = command.read(NOTHING)
    assert found is not None and found.keys[ID].used == 0.0
    await stored.flush()
    found = command.read(NOTHING)
    assert found is not None and found.keys[ID].used == NOW - NOW % HOUR
    command.close()


async def test_a_start_reads_what_is_there_and_none_is_served_without(tmp_path: Path) -> None:
    path = tmp_path / "auth.sqlite"
    for _ in range(2):
        stored = StoredCredentials(path, lambda: NOW)
        await stored.start()
        await stored.close()
    path.write_bytes(b"x")
    with pytest.raises(SQLiteUnusable, match="damaged"):
        await StoredCredentials(path, lambda: NOW).start()


async def test_while_the_file_is_away_what_was_known_stays_in_force_and_the_log_says_so(
    stored: StoredCredentials, command: AuthStore, caplog: pytest.LogCaptureFixture
) -> None:
    await stored.change(stored.store.create_key, key())
    command.revoke(Revocation(NOW + 60, created=NOW, by="bob", jti="j1"))
    await stored.refresh()
    aside = stored.store.path.with_name("aside")
    stored.store.path.rename(aside)
    await eventually(lambda: not stored.available, end=AT_ONCE)
    await stored.refresh()
    assert identity(stored) and stored.revocations.covers(token())
    said = [line.getMessage() for line in caplog.records if line.levelno == logging.ERROR]
    assert len(said) == 1 and str(stored.store.path) in said[0]
    aside.rename(stored.store.path)
    await eventually(lambda: stored.available, end=AT_ONCE)
    with pytest.raises(Unauthenticated):
        await stored.change(command.revoke_key, ID, "bob", NOW)
        identity(stored)


async def test_each_change_is_one_line_of_the_log(
    stored: StoredCredentials, command: AuthStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway")
    command.create_key(key())
    command.revoke_key(ID, "bob", NOW, "it leaked")
    await stored.refresh()
    await stored.refresh()
    assert [line.getMessage() for line in caplog.records if line.name == "gateway.audit"] == [
        f"alice created the API key {ID} of acme/etl, with the scopes 'a b'",
        f"bob revoked the API key {ID} (it leaked)",
    ]
