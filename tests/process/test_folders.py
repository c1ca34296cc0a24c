"""Folders: what is ours alone, and what keeps its mode."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from gateway.process import folders
from gateway.process.folders import FolderUnusable, data_folder, private_folder, socket_folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("make", [data_folder, private_folder])
def test_a_new_folder_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path, make) -> None:
    before = os.umask(0)
    try:
        made = make(tmp_path / "a" / ".." / "b" / "c")
    finally:
        os.umask(before)
    assert (made, mode(made)) == (tmp_path / "b" / "c", 0o700)


@pytest.mark.parametrize("given", [0o755, 0o770, 0o777, 0o700])
def test_a_folder_that_was_there_keeps_its_mode_for_data_and_loses_it_to_be_private(
    tmp_path: Path, given: int
) -> None:
    tmp_path.chmod(given)
    assert mode(data_folder(tmp_path)) == given
    assert mode(private_folder(tmp_path)) == 0o700


def test_a_link_is_no_private_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FolderUnusable, match="not a folder of this user; remove it"):
        private_folder(tmp_path / "link")
    assert mode(tmp_path / "elsewhere") == 0o755


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("make", [data_folder, private_folder])
def test_somebody_elses_folder_is_refused(tmp_path: Path, make) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 65534, 65534)
    with pytest.raises(FolderUnusable, match="user"):
        make(tmp_path / "theirs")


@pytest.mark.parametrize("make", [data_folder, private_folder])
def test_a_file_is_no_folder(tmp_path: Path, make) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FolderUnusable, match=f"cannot make the folder {path}: "):
            make(path)


def test_each_data_folder_has_sockets_of_its_own_in_a_short_place(tmp_path: Path) -> None:
    one, two = socket_folder(str(tmp_path)), socket_folder(str(tmp_path / "x"))
    assert one != two
    assert len(one) == len(two)
    assert one == socket_folder(str(tmp_path / "x" / ".."))


def test_sockets_are_in_a_short_place_also_where_temporary_files_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (long := tmp_path / ("x" * 60)).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert len(socket_folder("var")) + len("/twenty-letters-each.sock") <= 107


def test_a_temporary_folder_with_less_room_than_the_spool_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("TMPDIR", raising=False)
    assert not list(folders.temporary_folder_problems(1))
    (problem,) = folders.temporary_folder_problems(1 << 60)
    assert str(tmp_path) in problem
    assert "[gateway] spool" in problem


def test_a_tmpdir_that_is_passed_over_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "away"))
    (problem,) = folders.temporary_folder_problems(1)
    assert f"TMPDIR={tmp_path / 'away'}" in problem
    assert f"{tmp_path} is used instead" in problem
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert not list(folders.temporary_folder_problems(1))


def test_without_any_temporary_folder_the_hint_names_tmpdir(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(folders.FolderUnusable) as caught:
        folders.socket_folder("var")
    assert "TMPDIR" in str(caught.value)
    assert "Errno" not in str(caught.value)
