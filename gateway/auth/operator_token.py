"""The local token: whoever may read this file of the data folder runs the gateway, and is an owner.

The process keeps only its hash. A file that others may read is not used. Delete it for a new one.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from pathlib import Path

from gateway.auth.keys import KeysUnusable
from gateway.core.config.operator import TOKEN_FILE
from gateway.runtime import durable, threads
from gateway.runtime.files import FileUnusable, read_text
from gateway.runtime.os_errors import explain
from gateway.runtime.watch import FileStamp, file_stamp

L = logging.getLogger(__name__)
FILE = TOKEN_FILE
PREFIX = "gwop_"
_BYTES = 32
_MAX_BYTES = 1024
_token = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}").fullmatch


class OperatorToken:
    """The token in this file. All that it changes, it changes on the loop's thread, but for `ensure`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digest: bytes | None = None
        self._seen: FileStamp | None = None

    def ensure(self) -> None:
        """Make the file where there is none, and read it. Raises KeysUnusable. Blocks."""
        self._seen, self._digest = self._read()

    async def refresh(self) -> None:
        """Make it again where it was deleted, read it where it changed; to be called every second. One that
        cannot be used is said once, and until then no token is the local one."""
        stamp = await threads.run(threads.KEYS, file_stamp, self.path)
        if stamp is not None and stamp == self._seen:
            return
        try:
            self._seen, self._digest = await threads.run(threads.KEYS, self._read)
        except KeysUnusable as error:
            if stamp != self._seen or self._digest is not None:
                L.error("The local token of operators is not taken any more: %s", error)
            self._seen, self._digest = stamp, None
            return
        L.info("The local token of operators in %s is a new one", self.path)

    def is_it(self, text: str) -> bool:
        """Whether a credential is the token, in a time that does not tell how much of it is."""
        return self.digest_is(digest(text))

    def digest_is(self, given: bytes) -> bool:
        """Whether the token is still the one with this digest."""
        return self._digest is not None and hmac.compare_digest(given, self._digest)

    def _read(self) -> tuple[FileStamp | None, bytes]:
        """In any thread. Raises KeysUnusable."""
        try:
            if not self.path.exists():
                token = PREFIX + secrets.token_urlsafe(_BYTES)
                durable.create(self.path, f"{token}\n".encode())
            seen = file_stamp(self.path)
            mode = self.path.stat().st_mode & 0o777
            text = read_text(self.path, _MAX_BYTES).strip()
        except FileUnusable as error:
            raise KeysUnusable(f"{error}; or remove it: a new one is made") from None
        except OSError as error:
            raise KeysUnusable(
                f"{self.path}: it cannot be made or read: {'; '.join(explain(error))}"
            ) from None
        if mode & 0o077:
            raise KeysUnusable(
                f"{self.path}: others may read or change the token in it (mode {mode:04o}); remove it,"
                " and a new one is made"
            )
        if not _token(text):
            raise KeysUnusable(
                f"{self.path}: it holds no token of operators; remove it, and a new one is made"
            )
        return seen, digest(text)


def digest(text: str) -> bytes:
    """What is kept of a credential of ours."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
