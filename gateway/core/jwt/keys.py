"""Key sets (RFC 7517), read as the issuers of the world publish them.

A set also holds keys that are not for us: for encryption, of a type, curve or algorithm that is not used
here, weak ones. Each of them is left out and named with the reason; the set is not refused for its sake
(section 5). What a key may verify is decided here, before there is a token: the algorithms that its type and
curve can do, of those that are pinned, and of these the one that its own `alg` says. A secret never verifies
what is signed with a private key, nor a public key what is signed with a secret (RFC 8725 section 2.1).
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

import jwt
from jwt import PyJWK
from jwt.algorithms import Algorithm, HMACAlgorithm
from jwt.utils import base64url_decode

from gateway.core.jwt.algorithms import ALGORITHMS, CAN, OFFERED

_LIBRARY_NAMES = {"Ed25519": "EdDSA"}
_OTHER_NAME = {"Ed25519": "EdDSA", "EdDSA": "Ed25519"}  # whoever pins or writes one of them means both
_TYPES = frozenset(kty for kty, _ in CAN)
_NEEDED = {"oct": ("k",), "RSA": ("n", "e"), "EC": ("x", "y"), "OKP": ("x",)}  # RFC 7518 section 6, RFC 8037
_COORDINATE = {"P-256": 32, "P-384": 48, "P-521": 66}  # bytes
_MIN_SECRET = {"HS256": 32, "HS384": 48, "HS512": 64}  # bytes; RFC 7518 section 3.2
_MIN_RSA = 2048  # bits; RFC 7518 section 3.3
# What makes a signature slow to verify is refused: other issuers' clients would wait for it.
_MAX_RSA, _MAX_EXPONENT = 8192, 64  # bits
_PRIVATE = ("d", "k")  # a member that makes an entry one for its owner alone
# Of our own keys: when one begins to sign, and when it is over; seconds since the epoch.
USE_AFTER, RETIRE_AFTER = "gw_use_after", "gw_retire_after"
MAX_ENTRIES = 500  # of a set that are read: each that is left out is a line in the log
MAX_TRIES = 16  # keys that one token is tried with, where its `kid` does not say which
# What may be quoted of an entry in a message: never long enough to be a secret.
_quotable = re.compile(r"[A-Za-z0-9+._-]{1,24}", re.ASCII).fullmatch
_base64url = re.compile(r"[A-Za-z0-9_-]+={0,2}", re.ASCII).fullmatch  # many issuers pad


class KeySetError(ValueError):
    """A key set that cannot be used; the text says which key, why and what to do, never its value."""


class _Unusable(Exception):
    """Why a key is left out."""


class _ForEncryption(_Unusable):
    """It is not odd: many issuers publish such a key beside those that sign."""


@dataclass(frozen=True, slots=True)
class Key:
    """One verification key. Its value is never part of its repr.

    kid: None when it has none. algorithms: what it may verify, the one that it signs with first.
    """

    kid: str | None
    algorithms: tuple[str, ...]
    material: Any = field(repr=False)
    jwk: Mapping[str, Any] = field(repr=False)

    @property
    def can_sign(self) -> bool:
        """Whether the private half is here, and is meant for it."""
        private = "k" if self.jwk["kty"] == "oct" else "d"
        return private in self.jwk and "sign" in (self.jwk.get("key_ops") or ("sign",))

    @property
    def use_after(self) -> float:
        """When it begins to sign, in seconds since the epoch; 0.0 where it does not say."""
        moment = self.jwk.get(USE_AFTER)
        return moment if isinstance(moment, float) else 0.0

    @property
    def retires(self) -> float:
        """When the time of one of our own is over (see auth/signing_keys.py), in seconds since the epoch;
        infinite where it does not say."""
        moment = self.jwk.get(RETIRE_AFTER)
        return moment if isinstance(moment, float) else inf

    def is_retired(self, now: float) -> bool:
        """Whether its time is over. now: seconds since the epoch."""
        return self.retires <= now

    def verifies(self, algorithm: str, message: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's. algorithm: one of `algorithms`."""
        # OpenSSL also takes a PSS signature without its leading zero bytes; RFC 8017 section 8.1.2 does not.
        if self.jwk["kty"] == "RSA" and len(signature) != (self.material.key_size + 7) // 8:
            return False
        return bool(_library[algorithm].verify(message, self.material, signature))


class KeySet:
    """The usable keys of a set, in its order. warnings: a sentence for each key that is left out, and for
    each `kid` that is there again. notes: one for each that is left out as it is for encryption. private:
    whether any entry is for its owner alone, and so the file."""

    __slots__ = ("_named", "_nameless", "keys", "notes", "private", "warnings")

    def __init__(
        self,
        keys: Sequence[Key],
        warnings: Sequence[str] = (),
        notes: Sequence[str] = (),
        *,
        private: bool = False,
    ) -> None:
        self.keys = tuple(keys)
        self.warnings = tuple(warnings)
        self.notes = tuple(notes)
        self.private = private
        self._named: dict[str, list[Key]] = {}
        for key in keys:
            if key.kid is not None:
                self._named.setdefault(key.kid, []).append(key)
        self._nameless = [key for key in keys if key.kid is None]

    def __iter__(self) -> Iterator[Key]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)

    def candidates(self, kid: str | None, algorithm: str) -> list[Key] | None:
        """The keys that a token with this header may be signed with, at most MAX_TRIES: those of its name;
        all where it has none; those without a name where nobody has its. None when there is no such name,
        and an empty list when the keys of that name do not do the algorithm."""
        named = self.keys if kid is None else self._named.get(kid, self._nameless)
        if not named:
            return None
        return [key for key in named if algorithm in key.algorithms][:MAX_TRIES]


def sign(claims: Mapping[str, Any], key: Key) -> str:
    """A token with these claims, signed. Raises KeySetError when the key has no private half."""
    if not key.can_sign:
        raise KeySetError(f"the key {key.kid!r} has no private half, so it cannot sign")
    algorithm = key.algorithms[0]
    header = {"alg": algorithm, "typ": "JWT"} | ({} if key.kid is None else {"kid": key.kid})
    private = PyJWK(dict(key.jwk), _LIBRARY_NAMES.get(algorithm, algorithm)).key
    message = b".".join(map(base64url, (_json(header), _json(claims))))
    return (message + b"." + base64url(_library[algorithm].sign(message, private))).decode()


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def base64url(raw: bytes) -> bytes:
    """As the parts of a token are (RFC 7515 section 2): without padding."""
    return urlsafe_b64encode(raw).rstrip(b"=")


_library: dict[str, Algorithm] = {
    name: jwt.get_algorithm_by_name(_LIBRARY_NAMES.get(name, name)) for name in OFFERED
}


class _Repeated(dict[str, Any]):
    """An object of JSON with a member that is there twice."""


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    return made if len(made) == len(pairs) else _Repeated(made)


def is_pinned(algorithm: str, pinned: Sequence[str]) -> bool:
    """Whether an algorithm, by any name of it, is one of these."""
    return algorithm in pinned or _OTHER_NAME.get(algorithm) in pinned


def parse_keys(text: str, algorithms: Sequence[str] = ALGORITHMS, *, published: bool = False) -> KeySet:
    """Read a JWK set. algorithms: those that are pinned. published: it comes from a URL, where others read it
    too, so that what signs is left out of it. Raises KeySetError when no key can be used."""
    try:
        # No member that is read here is a number, and others may be larger than Python reads as an int.
        document = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_members, parse_int=float)
        entries = document["keys"]
        if not isinstance(entries, list) or isinstance(document, _Repeated):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise KeySetError('it is not a JWK set: a JSON object {"keys": [...]}') from None
    keys: list[Key] = []
    warnings: list[str] = []
    notes: list[str] = []
    if len(entries) > MAX_ENTRIES:
        warnings.append(f"of its {len(entries):,} keys only the first {MAX_ENTRIES} are read")
    first: dict[str, int] = {}
    for index, given in enumerate(entries[:MAX_ENTRIES]):
        entry = _said(given)
        try:
            if published and isinstance(entry, dict) and _is_private(entry):
                raise _Unusable("what signs is published with it, so its issuer must replace it")
            key = _parse_key(entry, algorithms)
        except _Unusable as reason:
            said = notes if isinstance(reason, _ForEncryption) else warnings
            said.append(f"{_name(index, entry)} is not used: {reason}")
            continue
        keys.append(key)
        if key.kid is not None and first.setdefault(key.kid, index) != index:
            warnings.append(
                f"{_name(index, entry)} has the kid of keys[{first[key.kid]}]; a token that names it is tried"
                f" with each of them (at most {MAX_TRIES}); ask the issuer for a kid of its own"
            )
    if not keys:
        raise KeySetError("; ".join(["it holds no usable key", *[*warnings, *notes][:8]]))
    private = any(isinstance(entry, dict) and _is_private(entry) for entry in map(_said, entries))
    return KeySet(keys, warnings, notes, private=private)


def _said(entry: Any) -> Any:
    """An entry without the members that say nothing: serializers of objects write what is not set as null, as
    an empty text or as an empty list (.NET: `key_ops`, `oth` and `x5c`). An empty `key_ops` may also mean
    what it says: WebCrypto exports the public half of a key agreement so, an EC key without `use` and `alg`.
    """
    if not isinstance(entry, dict) or isinstance(entry, _Repeated):
        return entry
    said = {name: value for name, value in entry.items() if value not in (None, "", [])}
    if entry.get("key_ops") == [] and said.get("kty") != "RSA" and not {"use", "alg"} & said.keys():
        said["key_ops"] = []
    return said


def _is_private(entry: Mapping[str, Any]) -> bool:
    return any(name in entry for name in _PRIVATE)


def _name(index: int, entry: Any) -> str:
    """An entry as a message names it: its index, and its kid."""
    kid = entry.get("kid") if isinstance(entry, dict) else None
    return f"keys[{index}] (kid {kid[:64]!a})" if isinstance(kid, str) else f"keys[{index}] (no kid)"


def _quoted(value: Any) -> str:
    """A value for a message, where it is a short word."""
    return f"`{value}`" if isinstance(value, str) and _quotable(value) else "a value that is not a name"


def _parse_key(entry: Any, algorithms: Sequence[str]) -> Key:
    """Raises _Unusable."""
    if not isinstance(entry, dict):
        raise _Unusable("a key is a JSON object")
    if isinstance(entry, _Repeated):
        raise _Unusable("a member is there twice, so it can be read in two ways")
    kid = entry.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise _Unusable("its `kid` is not a text")
    _check_use(entry)
    can = _algorithms(entry, algorithms)
    missing = [f"`{name}`" for name in _NEEDED[entry["kty"]] if name not in entry]
    if missing:
        more = "; the certificate in `x5c` is not read for it" if "x5c" in entry else ""
        raise _Unusable(f"it has no {' and no '.join(missing)}{more}")
    for name in _NEEDED[entry["kty"]]:  # the decoder skips what is not of its alphabet, which is another key
        if not isinstance(entry[name], str) or not _base64url(entry[name]):
            raise _Unusable(f"its `{name}` is not base64url")
    try:
        if entry["kty"] == "EC":
            numbers = [name for name in ("x", "y", "d") if name in entry]
            entry = {**entry, **{name: _in_full(entry[name], entry["crv"]) for name in numbers}}
        material = PyJWK(entry, _LIBRARY_NAMES.get(can[0], can[0])).key
        if hasattr(material, "public_key"):
            material = material.public_key()
        if entry["kty"] == "oct":
            HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(material)  # refuses the text of a public key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError):
        raise _Unusable(f"it is not a valid {can[0]} key") from None
    if entry["kty"] == "RSA":
        _check_rsa(material)
    if entry["kty"] == "oct":
        needed = _MIN_SECRET[can[0]]
        can = tuple(name for name in can if len(material) >= _MIN_SECRET[name])
        if not can:
            raise _Unusable(f"its secret has {len(material)} bytes, and needs at least {needed} bytes")
    return Key(kid, can, material, entry)


def _check_rsa(key: Any) -> None:
    """Raises _Unusable."""
    bits, exponent = key.key_size, key.public_numbers().e
    if bits < _MIN_RSA:
        raise _Unusable(f"it has {bits} bits, and an RSA key needs at least {_MIN_RSA} bits")
    if bits > _MAX_RSA or exponent.bit_length() > _MAX_EXPONENT:
        raise _Unusable(f"its size or exponent take too long (at most {_MAX_RSA} and {_MAX_EXPONENT} bits)")


def _in_full(text: str, curve: str) -> str:
    """A coordinate in its full length (RFC 7518 section 6.2.1.2). Issuers that take it for a number leave out
    a zero in front, or put one there (Keycloak before 20, whatever uses Java's BigInteger): a key in 128."""
    number = int.from_bytes(base64url_decode(text))
    return base64url(number.to_bytes(_COORDINATE[curve])).decode()


def _check_use(entry: Mapping[str, Any]) -> None:
    """What the key is for (RFC 7517 sections 4.2 and 4.3). Raises _Unusable."""
    use, operations = entry.get("use"), entry.get("key_ops")
    if use == "enc":
        raise _ForEncryption("its `use` is `enc`: it is for encryption")
    if use is not None and use != "sig":
        raise _Unusable(f"its `use` is {_quoted(use)}, and not `sig`")
    if operations is None:
        return
    # What a private key signs, its public half verifies, whether or not the list says that too.
    wanted = ("verify", "sign") if _is_private(entry) else ("verify",)
    if not isinstance(operations, list) or not any(name in operations for name in wanted):
        raise _Unusable("its `key_ops` do not name `verify`")


def _algorithms(entry: Mapping[str, Any], pinned: Sequence[str]) -> tuple[str, ...]:
    """What an entry may verify, in the order that they are pinned. Raises _Unusable."""
    kty, crv, alg = entry.get("kty"), entry.get("crv"), entry.get("alg")
    if not isinstance(kty, str) or kty not in _TYPES:
        raise _Unusable(f"its `kty` is {_quoted(kty)}, and not one of {', '.join(sorted(_TYPES))}")
    curve = crv if kty in ("EC", "OKP") else ""
    can = CAN.get((kty, curve), ()) if isinstance(curve, str) else ()
    if not can:
        offered = " or ".join(known for of, known in CAN if of == kty)
        raise _Unusable(f"its curve is {_quoted(crv)}, and not {offered}")
    if alg is not None and alg not in OFFERED:
        raise _Unusable(f"its `alg` is {_quoted(alg)}, which signs no token here")
    if alg is not None and alg not in can:
        raise _Unusable(f"its `alg` is `{alg}`, which is none of a key of its type and curve")
    found = tuple(name for name in pinned if name in can and alg in (None, name, _OTHER_NAME.get(name)))
    if not found:
        wanted = f"its `alg` is `{alg}`" if alg is not None else f"it can do {', '.join(can)}"
        raise _Unusable(
            f"{wanted}, and its issuer's `algorithms` are {', '.join(pinned)}; add it there if it is due"
        )
    return found + tuple(_OTHER_NAME[name] for name in found if _OTHER_NAME.get(name, name) not in found)
