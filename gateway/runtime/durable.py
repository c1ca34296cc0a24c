"""Files and names that survive a loss of power.

The content of a file is durable after fsync(2) of the file; its name only after an fsync of its folder. All
code of the gateway that gives a file a name (a new file, a link, a rename, a folder) does so here, so that
the second fsync is never forgotten. All of it blocks. Errors are OSErrors.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

PRIVATE = 0o600
PRIVATE_FOLDER = 0o700
# Errors of file systems without an fsync of folders (CIFS, some of FUSE), where nothing more can be done.
_NO_SYNC_OF_FOLDERS = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})
_LOCK_AGAIN = 0.02  # seconds


def sync(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk. Does nothing for a folder that may not be read."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NO_SYNC_OF_FOLDERS:
            raise
    finally:
        os.close(folder)


def make_folder(path: Path) -> None:
    """Make a folder of mode 0700 where there is none, and the missing ones above it with the mode of the
    umask."""
    missing, above = [], path.absolute()
    while not above.is_dir():
        missing.append(above)
        above = above.parent
    for folder in reversed(missing):
        try:
            folder.mkdir(mode=PRIVATE_FOLDER if folder is missing[0] else 0o777)
        except FileExistsError:
            if not folder.is_dir():  # else another process has made it meanwhile
                if folder is missing[0]:
                    raise
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
        sync_folder(folder.parent)


def create_empty(path: Path) -> bool:
    """Create an empty file of mode 0600. Returns False when the name exists already."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE))
    except FileExistsError:
        return False
    sync_folder(path.absolute().parent)
    return True


def create(path: Path, content: bytes) -> bool:
    """Create a file (mode 0600) atomically: no reader sees a part of it. Returns False when the name exists
    already, which then stays; of two concurrent calls one returns False."""
    beside = _temporary_path(path)
    with _written(beside, path) as file:
        file.write(content)
    try:
        link(beside, path)
    except FileExistsError:
        return False
    finally:
        beside.unlink(missing_ok=True)
    return True


@contextmanager
def making(path: Path) -> Iterator[Path]:
    """A context manager that yields the path of an empty file (mode 0600) beside `path`, to be filled by
    name. At the end it gets the name `path`, unless that exists already, which then stays."""
    beside = _temporary_path(path)
    try:
        os.close(os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE))
        yield beside
        sync(beside)
        link(beside, path)
    except FileExistsError:
        return
    finally:
        beside.unlink(missing_ok=True)


class Held(OSError):
    """Somebody else has a folder for themselves, for longer than is waited. The text says all."""


@contextmanager
def alone(folder: Path, patience: float = 5.0) -> Iterator[None]:
    """A context manager for who reads a file of this folder and then replaces it: a second one, in any
    process, waits, so that what the first has written is not lost. Raises Held after so many seconds of
    patience: any user who may read the folder may hold it. File systems without locks have none."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + patience
        while not _locked(descriptor):
            if time.monotonic() >= deadline:
                raise Held(f"another process holds a lock on the folder {folder} (lslocks shows which)")
            time.sleep(_LOCK_AGAIN)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    with suppress(OSError):  # no locks here
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@contextmanager
def replacing(path: Path, *, mode: int = PRIVATE, owner: tuple[int, int] | None = None) -> Iterator[BinaryIO]:
    """A context manager that yields a new file, which replaces the one at `path` at the end. After an error
    the old one stays. owner: the ids of the user and the group whose it is to be, None for this process's.
    """
    beside = _temporary_path(path)
    with _written(beside, path) as file:
        yield file
        if owner not in (None, (os.geteuid(), os.getegid())):
            os.fchown(file.fileno(), *owner)
        os.fchmod(file.fileno(), mode)  # after it: a new owner loses the bits of setuid
    try:
        rename(beside, path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        beside.unlink(missing_ok=True)


def link(source: Path, target: Path) -> None:
    """Give a file a second name. Raises FileExistsError."""
    target.hardlink_to(source)
    sync_folder(target.absolute().parent)


def rename(source: Path, target: Path) -> None:
    """Rename a file, in place of one that has the name. Both names must be in one folder."""
    source.replace(target)
    sync_folder(target.absolute().parent)


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    path.unlink(missing_ok=True)
    sync_folder(path.absolute().parent)


def sweep(folder: Path, older_than: float) -> None:
    """Remove the unfinished files that killed processes left in a folder. older_than: seconds since the
    epoch; later ones may still be being written."""
    for path in folder.glob(".*.part"):
        try:
            if path.stat().st_mtime < older_than:
                path.unlink()
        except FileNotFoundError:
            continue


def _temporary_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")


@contextmanager
def _written(beside: Path, path: Path) -> Iterator[BinaryIO]:
    """Opens a new file at `beside`. Its content is durable at the end; after an error the file is removed."""
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
    except OSError as error:
        error.filename = str(path)  # the name that the caller knows
        raise
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
