"""Keys that the gateway signs with: a JWK set in a file of its own, in which they follow each other.

A key is published before it signs, and for as long as what it signed may be shown: so that whoever keeps a
copy of the set has the new key in time, and a rotation refuses nobody. Two members of ours say when (seconds
since the epoch): `gw_use_after`, before which a key does not sign, and `gw_retire_after`, from which on it is
neither used nor published. Others ignore them (RFC 7517 section 4).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from gateway.auth.keys import (
    MAX_BYTES,
    KeysUnusable,
    ensure_signing_key,
    key_set_text,
    new_signing_key,
    read_keys,
    signing_key,
)
from gateway.core.jwt.algorithms import ALGORITHMS
from gateway.core.jwt.keys import RETIRE_AFTER, USE_AFTER, Key, KeySet
from gateway.runtime import durable, threads
from gateway.runtime.files import FileUnusable, read_text
from gateway.runtime.watch import FileStamp, file_stamp

L = logging.getLogger(__name__)
# What everybody may see of a key, by its type (RFC 7518 section 6, RFC 8037). A secret has no such half.
_PUBLIC = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}


class Rotation(NamedTuple):
    """What a rotation did, by kids. kid: the new key. before: those that go on until they retire. replaced:
    those that were to sign later than the new one, and are gone: nothing is signed with them."""

    kid: str
    before: tuple[str, ...]
    replaced: tuple[str, ...]


class SigningKeys:
    """The signing keys of one file. algorithms: that they may sign with."""

    def __init__(self, path: Path, algorithms: Sequence[str] = ALGORITHMS) -> None:
        self.path = path
        self._algorithms = algorithms
        self._keys: KeySet | None = None
        self._seen: FileStamp | None = None

    def ensure(self) -> None:
        """Make the file with one new Ed25519 key where there is none, and read it. Raises KeysUnusable.
        Blocks."""
        ensure_signing_key(self.path)
        self.load()

    def load(self) -> None:
        """Read the file. Raises KeysUnusable; then the keys stay as they were. Blocks."""
        self._seen, self._keys = self._read()

    def _read(self) -> tuple[FileStamp | None, KeySet]:
        seen = file_stamp(self.path)
        return seen, read_keys(self.path, self._algorithms)

    async def reload_if_changed(self) -> bool:
        """Read the file again when it changed; a bad one is logged once and the last good keys stay. Gives
        whether there are new keys."""
        stamp = await threads.run(threads.KEYS, file_stamp, self.path)
        if stamp == self._seen:
            return False
        try:
            self._seen, self._keys = await threads.run(threads.KEYS, self._read)
        except KeysUnusable as error:
            self._seen = stamp
            L.error("The last good signing keys stay in use: %s", error)
            return False
        L.info("The signing keys in %s were loaded again", self.path)
        return True

    def current(self, now: float) -> Key:
        """The key to sign with: of those that may, the one that began last; of several, the first in the
        file. Raises KeysUnusable."""
        try:
            return signing_key(self._live(now), now=now)
        except KeysUnusable:
            hint = "add one with `gw_use_after` past"
            raise KeysUnusable(f"{self.path}: none of its keys can sign now; {hint}") from None

    def signs(self, now: float) -> bool:
        """Whether there is a key to sign with."""
        return any(key.can_sign for key in self._live(now))

    @property
    def holds_secrets(self) -> bool:
        """Whether some key is a secret, which whoever verifies has too: none of these is rotated."""
        return any(key.jwk["kty"] not in _PUBLIC for key in self._keys or ())

    def public(self, now: float) -> list[dict[str, Any]]:
        """The public halves as JWKs, also of keys that do not sign yet; no retired ones, and no secrets."""
        return [
            {
                "kty": key.jwk["kty"],
                **({} if key.kid is None else {"kid": key.kid}),
                "use": "sig",
                "alg": key.algorithms[0],
                **{name: key.jwk[name] for name in _PUBLIC[key.jwk["kty"]]},
            }
            for key in self._live(now)
            if key.can_sign and key.jwk["kty"] in _PUBLIC
        ]

    def rotate(self, now: float, overlap: float, keep: float | None = None) -> Rotation:
        """Add a new Ed25519 key. It is published at once and signs in `overlap` seconds; the others retire
        `keep` seconds after that (None: as many again). So `overlap` is to be the longest that others keep
        the set, and `keep` the longest that a token lives. Removes what has retired, and what would begin
        after the new key: that would sign on until it retires, and tokens of its last day would be refused.
        Raises KeysUnusable, OSError. Blocks."""
        with durable.alone(self.path.absolute().parent):
            return self._rotate(now, overlap, keep)

    def _rotate(self, now: float, overlap: float, keep: float | None) -> Rotation:
        self.load()  # whatever cannot be used is not written again
        try:
            document = json.loads(read_text(self.path, MAX_BYTES))
        except FileUnusable as error:
            raise KeysUnusable(str(error)) from None
        retires = ceil(now + overlap + (overlap if keep is None else keep))
        new = {**new_signing_key(), USE_AFTER: ceil(now + overlap)}
        ours = [entry for entry in document["keys"] if isinstance(entry, dict) and "d" in entry]
        replaced = [entry for entry in ours if _begins(entry) > new[USE_AFTER]]
        before = _kids(one for one in ours if not (one in replaced or _is_over(one, now)))
        for entry in ours:  # a secret, or a public half, is somebody else's too
            ends = entry.get(RETIRE_AFTER)
            entry[RETIRE_AFTER] = min(retires, ends) if isinstance(ends, int | float) else retires
        kept = [entry for entry in document["keys"] if not (entry in replaced or _is_over(entry, now))]
        with durable.replacing(self.path) as file:
            file.write(key_set_text([*kept, new]))
        self.load()
        return Rotation(new["kid"], before, _kids(replaced))

    def _live(self, now: float) -> list[Key]:
        if self._keys is None:
            self.load()
        return [key for key in self._keys or () if not key.is_retired(now)]


def _kids(entries: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(entry.get("kid", "(without `kid`)")) for entry in entries)


def _begins(entry: dict[str, Any]) -> float:
    begins = entry.get(USE_AFTER)
    return begins if isinstance(begins, int | float) else 0.0


def _is_over(entry: Any, now: float) -> bool:
    retires = entry.get(RETIRE_AFTER) if isinstance(entry, dict) else None
    return isinstance(retires, int | float) and retires <= now
