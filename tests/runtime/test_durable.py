"""What is named is on the disk: the content before it gets its name, and the folder after that."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.auth.keys import ensure_secret, ensure_signing_key
from gateway.core.model import TenantId
from gateway.limits.quotas import Quotas
from gateway.process.folders import private_folder
from gateway.runtime import durable
from gateway.store.sqlite.files.connections import open_writer
from gateway.store.sqlite.operator import SQLiteOperator


class Disk:
    """What a loss of power would leave, as far as the calls of the gateway tell: `names` that are not safe
    yet, by folder; and the files whose content was not safe when they got their name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.unsafe_names: dict[str, set[str]] = {}
        self.named_too_early: list[str] = []
        self._synced: set[int] = set()
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self.fsync)
        for call in ("link", "rename", "replace"):
            monkeypatch.setattr(os, call, self._naming(getattr(os, call)))
        monkeypatch.setattr(os, "mkdir", self._making(os.mkdir))

    def fsync(self, descriptor: int) -> None:
        self._fsync(descriptor)
        self._synced.add(os.fstat(descriptor).st_ino)
        self.unsafe_names.pop(os.readlink(f"/proc/self/fd/{descriptor}"), None)

    def _named(self, path: Any) -> None:
        where = Path(path).absolute()
        self.unsafe_names.setdefault(str(where.parent), set()).add(where.name)

    def _naming(self, call: Callable[..., None]) -> Callable[..., None]:
        def named(source: Any, target: Any, **more: Any) -> None:
            if Path(source).stat().st_ino not in self._synced:
                self.named_too_early.append(str(target))
            call(source, target, **more)
            self._named(target)

        return named

    def _making(self, call: Callable[..., None]) -> Callable[..., None]:
        def made(path: Any, *arguments: Any, **more: Any) -> None:
            call(path, *arguments, **more)
            self._named(path)

        return made

    def check(self) -> None:
        assert self.unsafe_names == {}
        assert self.named_too_early == []


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_the_fake_disk_notices_what_is_forgotten(tmp_path: Path, disk: Disk) -> None:
    (tmp_path / "a").write_bytes(b"x")
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "folder").mkdir()
    assert disk.unsafe_names == {str(tmp_path): {"b", "folder"}}
    assert disk.named_too_early == [str(tmp_path / "b")]


def test_new_keys_are_safe_before_the_gateway_starts(tmp_path: Path, disk: Disk) -> None:
    assert ensure_signing_key(tmp_path / "data" / "of" / "keys.jwks")
    disk.check()


def test_the_secret_of_cursors_is_safe_before_a_cursor_is_signed(tmp_path: Path, disk: Disk) -> None:
    ensure_secret(tmp_path / "data" / "cursor.key")
    disk.check()


def test_a_new_folder_is_safe_with_all_above_it(tmp_path: Path, disk: Disk) -> None:
    made = private_folder(tmp_path / "a" / "b" / "c")
    assert made.stat().st_mode & 0o777 == 0o700
    disk.check()


def test_a_backup_and_a_restore_are_safe(tmp_path: Path, disk: Disk) -> None:
    store = tmp_path / "documents"
    durable.make_folder(store)
    open_writer(store / "acme.db", None).close()
    operator = SQLiteOperator(store)
    operator._backup(TenantId("acme"), tmp_path / "acme.db")
    operator._restore(TenantId("other"), tmp_path / "acme.db", False)
    operator._restore(TenantId("acme"), tmp_path / "acme.db", True)
    disk.check()


def test_a_damaged_file_of_quotas_is_put_aside_for_good(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "quotas.sqlite"
    path.write_bytes(b"no database" * 1000)
    durable.sync(path)
    assert Quotas(path, now=lambda: 86400.0)._write(1, {"acme": 1}) is None
    assert [p.name for p in tmp_path.iterdir()] == ["quotas.sqlite.damaged-86400"]
    disk.check()


def test_a_file_that_replaces_another_is_whole_or_the_old_one_stays(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "export.ndjson"
    with durable.replacing(path) as file:
        file.write(b"first")
    disk.check()
    with pytest.raises(KeyError), durable.replacing(path) as file:
        file.write(b"half of the sec")
        raise KeyError
    assert path.read_bytes() == b"first"
    with durable.replacing(path) as file:
        file.write(b"second")
    assert path.read_bytes() == b"second"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    disk.check()


def test_what_is_there_is_not_replaced_by_a_new_file(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "file"
    assert durable.create(path, b"first")
    assert not durable.create(path, b"second")
    assert not durable.create_empty(path)
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]
    disk.check()


@pytest.mark.parametrize("write", [lambda path: durable.create(path, b"x"), lambda path: _replace(path)])
def test_the_file_that_was_asked_for_is_named_when_it_cannot_be_made(tmp_path: Path, write: Any) -> None:
    path = tmp_path / "absent" / "file"
    with pytest.raises(FileNotFoundError) as raised:
        write(path)
    assert raised.value.filename == str(path)


def _replace(path: Path) -> None:
    with durable.replacing(path):
        pass


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_file_system_that_syncs_no_folders_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, errno.EINVAL)
    durable.make_folder(tmp_path / "folder")
    assert durable.create_empty(tmp_path / "folder" / "file")


def test_a_disk_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        durable.create_empty(tmp_path / "file")


def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="file"):
            durable.make_folder(path)


def test_a_tenants_file_is_safe_when_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(os, "fsync", note)
    connection: sqlite3.Connection = open_writer(tmp_path / "acme.db", None)
    connection.close()
    assert synced[-1] == str(tmp_path)


def test_a_folder_that_somebody_else_holds_is_not_waited_for_without_end(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)  # what any user who may read it can do
    with pytest.raises(durable.Held, match=f"another process holds a lock on the folder {tmp_path} "):
        with durable.alone(tmp_path, 0.05):
            pass
    os.close(descriptor)
    with durable.alone(tmp_path, 0.05):
        pass
