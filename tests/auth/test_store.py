"""The file of keys and revocations: it forgets nothing that is acknowledged, and fails closed."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.auth import store as module
from gateway.auth.store import NOTHING, AuthStore, State
from gateway.core.api_keys import FOREVER, ApiKey, KeySecret
from gateway.core.revocations import Revocation
from gateway.runtime.sqlite_file import SQLiteUnusable
from tests.eventually import END, poll

NOW = 1_800_000_000.0
DAY = 86400.0


@pytest.fixture
def store(tmp_path: Path) -> AuthStore:
    made = AuthStore(tmp_path / "auth.sqlite")
    made.ensure()
    return made


def key(id_: str = "k1", *, until: float = NOW + DAY, tenant: str = "acme", created: float = NOW) -> ApiKey:
    secret = KeySecret(f"digest of {id_}".encode(), created, until)
    return ApiKey(id_, tenant, "etl", "a b", "nightly", created, "alice", (secret,))


def state(store: AuthStore) -> State:
    found = AuthStore(store.path).read(NOTHING)
    assert found is not None
    return found


def revoke(store: AuthStore, now: float = NOW, until: float = NOW + 60, **what: str | float) -> int:
    return store.revoke(Revocation(until, created=now, by="alice", **what))  # type: ignore[arg-type]


def test_the_file_is_its_owners_alone_with_all_that_sqlite_puts_beside_it(store: AuthStore) -> None:
    with closing(sqlite3.connect(store.path)) as db:
        store.create_key(key())
        db.execute("SELECT count(*) FROM keys").fetchone()
        files = list(store.path.parent.iterdir())
        assert {file.name for file in files} >= {"auth.sqlite", "auth.sqlite-wal"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_key_is_read_as_it_was_made_and_its_secret_is_nowhere_in_the_file(store: AuthStore) -> None:
    store.create_key(key())
    assert state(store).keys == {"k1": key()}


def test_a_reader_sees_what_another_process_has_changed_and_nothing_twice(store: AuthStore) -> None:
    reader = AuthStore(store.path)
    first = reader.read(NOTHING)
    assert first is not None and reader.read(first) is None
    store.create_key(key())
    second = reader.read(first)
    assert second is not None and list(second.keys) == ["k1"] and reader.read(second) is None
    store.note_used({"k1": NOW})
    assert reader.read(second) is None
    reader.close()


def test_a_reader_follows_the_name_and_not_the_file_that_it_had_once(
    store: AuthStore, tmp_path: Path
) -> None:
    reader = AuthStore(store.path)
    first = reader.read(NOTHING)
    assert first is not None
    other = AuthStore(tmp_path / "other.sqlite")
    other.ensure()
    other.path.replace(store.path)
    second = reader.read(first)
    assert second is not None and second.file != first.file
    store.path.unlink()
    with pytest.raises(SQLiteUnusable, match="not there any more"):
        reader.read(second)
    reader.close()


def test_a_rotation_adds_a_secret_and_bounds_those_before(store: AuthStore) -> None:
    store.create_key(key(until=NOW + DAY))
    rotated = store.rotate_key("k1", b"second", NOW + 10, 60.0, "bob", NOW + 90 * DAY - (NOW + 10))
    assert [(s.digest, s.until) for s in rotated.secrets] == [
        (b"second", NOW + 90 * DAY),
        (b"digest of k1", NOW + 70),
    ]
    at_once = store.rotate_key("k1", b"third", NOW + 20, 0.0, "bob", FOREVER)
    assert [s.until for s in at_once.secrets] == [FOREVER, NOW + 20, NOW + 20]
    assert state(store).keys["k1"] == at_once


def test_a_rotation_under_a_clock_that_was_set_back_is_the_newest_all_the_same(store: AuthStore) -> None:
    store.create_key(key())
    rotated = store.rotate_key("k1", b"second", NOW - 500, 60.0, "bob", NOW + DAY - (NOW - 500))
    assert rotated.secrets[0].digest == b"second" and rotated.secrets[0].created > NOW


def test_a_longer_overlap_gives_a_secret_no_longer_life(store: AuthStore) -> None:
    store.create_key(key(until=NOW + 100))
    rotated = store.rotate_key("k1", b"second", NOW, 7 * DAY, "bob", FOREVER)
    assert rotated.secrets[1].until == NOW + 100


def test_what_is_over_cannot_be_rotated_or_revoked_again(store: AuthStore) -> None:
    store.create_key(key("old", until=NOW + 1))
    store.create_key(key("gone"))
    store.revoke_key("gone", "bob", NOW)
    for id_, what in (("old", "expired"), ("gone", "revoked")):
        with pytest.raises(ValueError, match=f"is {what} already"):
            store.rotate_key(id_, b"x", NOW + 2, 0.0, "bob", FOREVER)
    with pytest.raises(ValueError, match="is revoked already"):
        store.revoke_key("gone", "bob", NOW)
    with pytest.raises(ValueError, match="no API key with this id"):
        store.revoke_key("never", "bob", NOW)
    assert [event.what.split()[0] for event in store.events(0)] == ["created", "created", "revoked"]


def test_a_revoked_key_stays_listed_for_a_while_and_ends_the_tokens_made_with_it(store: AuthStore) -> None:
    store.create_key(key())
    assert store.revoke_key("k1", "bob", NOW, "it leaked").state(NOW) == "revoked"
    (revocation,) = state(store).revocations
    assert (revocation.api_key, revocation.reason) == ("k1", "it leaked")
    revoke(store, NOW + module.EXCHANGED + 1, NOW + 40 * DAY, jti="j")
    assert [one.jti for one in state(store).revocations] == ["j"] and list(state(store).keys) == ["k1"]
    revoke(store, NOW + 31 * DAY, NOW + 40 * DAY, jti="j")
    assert not state(store).keys


def test_a_revocation_of_tokens_is_forgotten_and_one_that_fits_a_key_is_not(store: AuthStore) -> None:
    store.create_key(key(until=FOREVER))
    for what in (
        {"jti": "j"},
        {"tenant": "globex"},
        {"tenant": "acme"},
        {"tenant": "acme", "subject": "etl"},
    ):
        revoke(store, **what)
    revoke(store, before=NOW + 0.5)
    later = NOW + 400 * DAY
    revoke(store, later, later + 60, jti="k")
    kept = [(one.jti, one.tenant, one.subject, one.before) for one in state(store).revocations]
    acme = [("", "acme", "", 0.0), ("", "acme", "etl", 0.0)]
    assert kept == [*acme, ("", "", "", NOW + 0.5), ("k", "", "", 0.0)]


def test_numbers_of_revocations_are_never_used_again(store: AuthStore) -> None:
    first = revoke(store, jti="a")
    assert store.lift(first, "bob", NOW).jti == "a"
    assert revoke(store, jti="b") > first
    with pytest.raises(ValueError, match=f"no revocation {first}"):
        store.lift(first, "bob", NOW)


def test_each_change_says_who_made_it_and_never_a_secret(store: AuthStore) -> None:
    store.create_key(key())
    store.rotate_key("k1", b"second", NOW, 60.0, "bob", FOREVER)
    number = revoke(store, tenant="acme", before=NOW - 5, reason="left the house")
    store.lift(number, "carol", NOW)
    assert [(event.by, event.what) for event in store.events(0)] == [
        ("alice", "created the API key k1 of acme/etl, with the scopes 'a b'"),
        ("bob", "rotated the API key k1; what it was before ends in 60 s"),
        ("alice", "revoked the tenant acme issued before 2027-01-15T07:59:55Z (left the house)"),
        ("carol", f"lifted the revocation {number}"),
    ]


def test_it_is_bounded(store: AuthStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAX_KEYS", "MAX_SECRETS", "MAX_REVOCATIONS", "MAX_EVENTS"):
        monkeypatch.setattr(module, name, 2)
    store.create_key(key("a"))
    store.create_key(key("b"))
    with pytest.raises(ValueError, match="2 API keys already"):
        store.create_key(key("c"))
    store.rotate_key("a", b"1", NOW + 1, DAY, "bob", FOREVER)
    with pytest.raises(ValueError, match="2 secrets that overlap"):
        store.rotate_key("a", b"2", NOW + 2, DAY, "bob", FOREVER)
    revoke(store, jti="a")
    revoke(store, jti="b")
    with pytest.raises(ValueError, match="2 revocations already"):
        revoke(store, jti="c")
    assert len(store.events(0)) == 2


# --- it fails closed -------------------------------------------------------------------------------


def unusable(path: Path) -> str:
    with pytest.raises(SQLiteUnusable) as caught:
        AuthStore(path).ensure()
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "; " in text
    return text


@pytest.mark.parametrize("content", [b"", b"nothing of SQLite's", b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_file_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "auth.sqlite"
    path.write_bytes(content)
    path.chmod(0o600)
    assert "it is damaged" in unusable(path)
    assert path.read_bytes() == content


def test_a_file_with_a_hole_is_refused(store: AuthStore) -> None:
    for number in range(30):
        store.create_key(replace(key(f"k{number}"), scopes="x" * 3000))
    size = store.path.stat().st_size
    with store.path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xa5" * (size // 4))
    assert "it is damaged" in unusable(store.path)


def test_a_file_of_a_later_version_is_refused(store: AuthStore) -> None:
    with closing(sqlite3.connect(store.path)) as db:
        db.execute("PRAGMA user_version = 2")
    assert "it is of version 2" in unusable(store.path)


def test_a_file_that_others_may_read_is_refused_with_the_command_that_helps(store: AuthStore) -> None:
    store.path.chmod(0o640)
    assert f"chmod 600 {store.path}" in unusable(store.path)


def test_a_file_of_another_user_names_that_user(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    path = tmp_path / "auth.sqlite"
    AuthStore(path).ensure()
    os.chown(path, 1, -1)
    assert "sudo -u" in unusable(path)


def test_a_folder_that_is_not_there_and_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    unusable(tmp_path / "file" / "auth.sqlite")


def test_a_file_that_was_removed_is_not_made_anew_by_a_change(store: AuthStore) -> None:
    store.path.unlink()
    with pytest.raises(SQLiteUnusable, match="not there any more"):
        store.create_key(key())
    assert not store.path.exists()


def test_two_that_start_together_agree_on_one_file(tmp_path: Path) -> None:
    path = tmp_path / "var" / "auth.sqlite"
    program = f"from gateway.auth.store import *; AuthStore(Path({str(path)!r})).ensure()"
    both = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [process.wait(END) for process in both] == [0, 0]
    assert [file.name for file in path.parent.iterdir()] == ["auth.sqlite"]


KILLED = """
import sys
from pathlib import Path
from gateway.auth.store import AuthStore
from gateway.core.revocations import Revocation
from gateway.runtime.sqlite_file import SQLiteUnusable
store = AuthStore(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    store.revoke(Revocation(2e9, created=1e9, by="x", jti=f"j{number}"))
    print(number, flush=True)
"""


def test_a_process_that_is_killed_while_it_writes_has_lost_nothing_that_it_acknowledged(
    store: AuthStore, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    for _ in range(3):
        with said.open("w") as out:
            process = subprocess.Popen([sys.executable, "-c", KILLED, str(store.path)], stdout=out)
        poll(lambda: len(said.read_text().splitlines()) > 5)
        process.send_signal(signal.SIGKILL)
        process.wait(END)
        acknowledged = [int(line) for line in said.read_text().splitlines() if line]
        there = {one.jti for one in state(store).revocations}
        assert {f"j{number}" for number in acknowledged[:-1]} <= there
        AuthStore(store.path).ensure()
        for one in state(store).revocations:
            store.lift(one.number, "test", NOW)
