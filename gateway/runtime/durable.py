"""Files and names that outlive a loss of power.

What is written is on the disk after fsync(2) of the file; that it has its name only after an fsync of its
folder. Everything in the gateway that gives a file a name (a new file, a link, a rename, a folder) does it
here, so that no place can forget the second half. All of it blocks. Errors are OSErrors.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PRIVATE = 0o600
PRIVATE_FOLDER = 0o700
# What file systems without an fsync of folders answer (CIFS, some of FUSE): nothing more can be done there.
_NO_SYNC_OF_FOLDERS = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})


def sync(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk. One that we may not read cannot be asked to."""
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
    """A folder, mode 0700, where there is none; and those above it, as the umask wants them."""
    missing, above = [], path.absolute()
    while not above.is_dir():
        missing.append(above)
        above = above.parent
    for folder in reversed(missing):
        try:
            folder.mkdir(mode=PRIVATE_FOLDER if folder is missing[0] else 0o777)
        except FileExistsError:
            if not folder.is_dir():  # else another process made it meanwhile
                if folder is missing[0]:
                    raise
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
        sync_folder(folder.parent)


def create_empty(path: Path) -> bool:
    """An empty file, mode 0600 from its first moment on. False when something has the name already."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE))
    except FileExistsError:
        return False
    sync_folder(path.absolute().parent)
    return True


def create(path: Path, content: bytes) -> bool:
    """A file (mode 0600) that is there whole or not at all, even for who looks meanwhile. False when
    something has the name already: then that stays, and of two who create at once one is told False."""
    beside = _beside(path)
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
    """Fill an empty file (mode 0600) beside `path`, given by its name, that takes the name when it is whole.
    Where something has the name already, that stays."""
    beside = _beside(path)
    try:
        os.close(os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE))
        yield beside
        sync(beside)
        link(beside, path)
    except FileExistsError:
        return
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file (mode 0600) that takes the name when it is whole; after an error the old one has it."""
    beside = _beside(path)
    with _written(beside, path) as file:
        yield file
    try:
        rename(beside, path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        beside.unlink(missing_ok=True)


def link(source: Path, target: Path) -> None:
    """A second name for a file. Raises FileExistsError."""
    target.hardlink_to(source)
    sync_folder(target.absolute().parent)


def rename(source: Path, target: Path) -> None:
    """Another name for a file; whatever had it is gone. For names in one folder."""
    source.replace(target)
    sync_folder(target.absolute().parent)


def sweep(folder: Path, older_than: float) -> None:
    """Remove what a process that was killed left beside a file that it was making. older_than: seconds since
    the epoch; what was made later may be under way."""
    for path in folder.glob(".*.part"):
        try:
            if path.stat().st_mtime < older_than:
                path.unlink()
        except FileNotFoundError:
            continue


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")


@contextmanager
def _written(beside: Path, path: Path) -> Iterator[BinaryIO]:
    """A new file beside `path`; its content is on the disk at the end, and after an error it is not there."""
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
    except OSError as error:
        error.filename = str(path)  # what was asked for
        raise
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
