"""The names of what tokens may be signed with. Apart from the keys, whose libraries take long to import."""

from __future__ import annotations

ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")  # unless others are pinned
_BITS = ("256", "384", "512")
# By `kty` and `crv`: what such a key can do. Ed25519 is the newer name of what EdDSA means here (RFC 9864).
CAN: dict[tuple[str, str], tuple[str, ...]] = {
    ("oct", ""): tuple(f"HS{bits}" for bits in _BITS),
    ("RSA", ""): (*(f"RS{bits}" for bits in _BITS), *(f"PS{bits}" for bits in _BITS)),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA", "Ed25519"),
}
OFFERED = tuple(sorted(name for names in CAN.values() for name in names))
