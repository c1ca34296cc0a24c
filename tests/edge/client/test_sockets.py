"""Unix sockets of listeners: their file, its mode, and who may take its place."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gateway.core.process.listeners import Listen
from gateway.edge.client.sockets import BoundSocket, ListenError, bind, bind_all, close, listen


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as name:  # a short path
        yield Path(name)


def listening(path: Path, mode: int = 0o660) -> BoundSocket:
    bound = bind(Listen(path=str(path), mode=mode))
    listen(bound, "")
    return bound


def refuses(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except BlockingIOError:
            pass  # its queue is full
    return False


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_its_file_has_the_mode_whatever_the_umask_is(folder: Path, mode: int) -> None:
    before = os.umask(0o077)
    try:
        bound = listening(folder / "g", mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "g").stat().st_mode) == mode
    close(bound)


def test_a_client_is_refused_until_it_listens_and_nothing_is_left_after_it(folder: Path) -> None:
    bound = bind(Listen(path=str(folder / "g")))
    assert refuses(folder / "g")
    listen(bound, "")
    assert not refuses(folder / "g")
    assert [path.name for path in folder.iterdir()] == ["g"]
    close(bound)
    assert list(folder.iterdir()) == []
    close(bind(Listen(path=str(folder / "g"))))
    assert list(folder.iterdir()) == []


def test_what_a_dead_process_left_is_replaced(folder: Path) -> None:
    listening(folder / "g").sock.close()  # as the system does for a killed process
    assert (folder / "g").is_socket()
    bound = listening(folder / "g")
    assert not refuses(folder / "g")
    close(bound)


def test_the_socket_of_a_process_that_serves_is_never_taken_also_while_its_queue_is_full(
    folder: Path,
) -> None:
    late = bind(Listen(path=str(folder / "g")))
    with socket.socket(socket.AF_UNIX) as serves:
        serves.bind(str(folder / "g"))
        serves.listen(0)
        for _ in range(3):
            with pytest.raises(ListenError, match=r"g: another process listens there; stop it.*\(x\)"):
                bind(Listen(path=str(folder / "g")), "x")
        with pytest.raises(ListenError, match="another process listens there"):
            listen(late, "x")
        close(late)
        assert not refuses(folder / "g")


def test_one_that_was_replaced_leaves_the_other_s_file(folder: Path) -> None:
    first = listening(folder / "g")
    (folder / "g").unlink()
    second = listening(folder / "g")
    close(first)
    assert not refuses(folder / "g")
    close(second)


def test_one_that_was_inherited_is_not_removed(folder: Path) -> None:
    made = listening(folder / "g")
    close(BoundSocket(made.listen, made.sock.dup()))
    assert not refuses(folder / "g")
    close(made)


def test_a_file_that_is_no_socket_stays_and_a_folder_that_is_missing_is_named(folder: Path) -> None:
    (folder / "file").write_text("mine")
    (folder / "link").symlink_to("file")
    listens = [Listen(path=str(folder / name)) for name in ("file", "link", "none/g", "fine")]
    with pytest.raises(ListenError) as caught:
        bind_all(listens, "[gateway] listen")
    first, second, third = str(caught.value).splitlines()
    assert "file: a file is there that is no socket; move it away" in first
    assert "link: a file is there that is no socket" in second
    assert f"its folder is not there; make {folder}/none for the gateway's user ([gateway] listen)" in third
    assert sorted(path.name for path in folder.iterdir()) == ["file", "link"]
