"""Key sets: what of them is used, what is left out and why, and what each key may verify."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from gateway.core.errors import Unauthenticated
from gateway.core.jwt.issuer import local_issuer
from gateway.core.jwt.keys import (
    ALGORITHMS,
    MAX_ENTRIES,
    MAX_TRIES,
    OFFERED,
    KeySet,
    KeySetError,
    parse_keys,
    sign,
)
from gateway.core.jwt.verify import verify

NOW = 1_800_000_000.0
CLAIMS = {"iss": "issuer", "aud": "audience", "exp": int(NOW) + 60, "tenant": "acme", "sub": "alice"}
CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def oct_key(size: int = 64, first: int = 0) -> dict[str, Any]:
    return {"kty": "oct", "k": b64(bytes(first + n for n in range(size)))}


def ec_key(curve: ec.EllipticCurve) -> dict[str, Any]:
    made: dict[str, Any] = ECAlgorithm.to_jwk(ec.generate_private_key(curve), as_dict=True)
    return made


def rsa_key(bits: int = 2048) -> dict[str, Any]:
    made: dict[str, Any] = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, bits), as_dict=True)
    del made["key_ops"]
    return made


def ed_key() -> dict[str, Any]:
    made: dict[str, Any] = OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate(), as_dict=True)
    return made


RSA, OTHER_RSA = rsa_key(), rsa_key()
P256, ED, SECRET = ec_key(CURVES["P-256"]), ed_key(), oct_key()
PEM = jwt.PyJWK(RSA).key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
GOOD = {"kid": "good", "alg": "EdDSA", **ED}
KEYS_BY_ALGORITHM = {
    **dict.fromkeys(["HS256", "HS384", "HS512"], SECRET),
    **dict.fromkeys(["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"], RSA),
    "ES256": P256,
    "ES384": ec_key(CURVES["P-384"]),
    "ES512": ec_key(CURVES["P-521"]),
    "EdDSA": ED,
    "Ed25519": ED,
}


def key_set(*entries: Any) -> str:
    return json.dumps({"keys": list(entries)})


def public(entry: dict[str, Any]) -> dict[str, Any]:
    return {n: v for n, v in entry.items() if n not in ("d", "p", "q", "dp", "dq", "qi")}


def signed(entry: dict[str, Any], algorithm: str, kid: str | None = None) -> str:
    """A token of the algorithm, signed with an entry of a set, as its issuer would."""
    header = {"alg": algorithm} if kid is None else {"alg": algorithm, "kid": kid}
    library = {"Ed25519": "EdDSA"}.get(algorithm, algorithm)
    text = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(CLAIMS).encode())}"
    private = jwt.PyJWK({**entry, "alg": library}).key
    return f"{text}.{b64(jwt.get_algorithm_by_name(library).sign(text.encode(), private))}"


def passes(made: str, keys: KeySet, algorithms: tuple[str, ...] = OFFERED) -> bool:
    try:
        return verify(made, keys, local_issuer("", "issuer", "audience", algorithms), NOW).subject == "alice"
    except Unauthenticated:
        return False


# --- what is left out ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({**public(RSA), "kid": "e", "use": "enc", "alg": "RSA-OAEP"}, "`use` is `enc`"),
        ({**public(RSA), "kid": "e", "use": "enc"}, "`use` is `enc`"),
        ({**public(RSA), "kid": "e", "use": "enc", "alg": "RS256"}, "`use` is `enc`"),
        ({**public(RSA), "kid": "e", "use": "tls"}, "`use` is `tls`, and not `sig`"),
        ({**public(RSA), "kid": "e", "use": ["sig"]}, "a value that is not a name"),
        ({**public(RSA), "kid": "e", "alg": "RSA-OAEP"}, "`alg` is `RSA-OAEP`"),
        ({**public(RSA), "kid": "e", "alg": "none"}, "`alg` is `none`"),
        ({**public(RSA), "kid": "e", "alg": 7}, "`alg` is a value that is not a name"),
        ({**public(RSA), "kid": "e", "alg": ["RS256"]}, "`alg` is a value that is not a name"),
        ({**public(RSA), "kid": "e", "alg": "HS256"}, "none of a key of its type and curve"),
        ({**public(RSA), "kid": "e", "alg": "PS256"}, "`algorithms` are HS256, RS256"),
        ({**public(RSA), "kid": "e", "key_ops": ["encrypt"]}, "`key_ops` do not name `verify`"),
        ({**public(RSA), "kid": "e", "key_ops": ["sign"]}, "`key_ops` do not name `verify`"),
        ({**RSA, "kid": "e", "key_ops": ["unwrapKey"]}, "`key_ops` do not name `verify`"),
        ({**public(RSA), "kid": "e", "key_ops": "verify"}, "`key_ops` do not name `verify`"),
        ({**public(RSA), "kid": "e", "n": None}, "it has no `n`"),
        ({**public(RSA), "kid": "e", "n": "%"}, "`n` is not base64url"),
        ({**public(RSA), "kid": "e", "n": 7}, "`n` is not base64url"),
        ({"kty": "RSA", "kid": "e", "e": "AQAB"}, "it has no `n`"),
        ({"kty": "RSA", "kid": "e", "use": "sig", "x5c": ["MIIC"]}, "no `n` and no `e`; the certificate in"),
        ({**public(P256), "kid": "e", "y": ""}, "it has no `y`"),
        ({**public(P256), "kid": "e", "x": b64(b"\1" + bytes(32))}, "not a valid ES256 key"),
        ({**public(P256), "kid": "e", "x": 7}, "`x` is not base64url"),
        ({"kty": "OKP", "crv": "Ed25519", "kid": "e"}, "it has no `x`"),
        ({**public(P256), "kid": "e", "key_ops": []}, "`key_ops` do not name `verify`"),
        ({**public(RSA), "kid": "e", "use": "enc", "key_ops": []}, "`use` is `enc`"),
        ({**public(RSA), "kid": "e", "e": "AQ"}, "not a valid RS256 key"),
        ({**public(rsa_key(1024)), "kid": "e"}, "1024 bits, and an RSA key needs at least 2048"),
        ({**public(ec_key(CURVES["P-384"])), "kid": "e"}, "it can do ES384, and its issuer's `algorithms`"),
        ({**public(ec_key(CURVES["P-384"])), "kid": "e", "alg": "ES256"}, "none of a key of its type"),
        ({**public(ec_key(ec.SECP256K1())), "kid": "e", "alg": "ES256K"}, "curve is `secp256k1`"),
        ({**public(P256), "kid": "e", "crv": "brainpoolP256r1"}, "curve is `brainpoolP256r1`"),
        ({**public(P256), "kid": "e", "crv": None}, "curve is a value that is not a name"),
        ({**public(P256), "kid": "e", "x": "AA"}, "not a valid ES256 key"),
        ({**public(P256), "kid": "e", "y": P256["x"]}, "not a valid ES256 key"),
        ({"kty": "OKP", "crv": "X25519", "x": ED["x"], "kid": "e"}, "curve is `X25519`"),
        ({**OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate(), as_dict=True), "kid": "e"}, "`Ed448`"),
        ({**ED, "kid": "e", "d": "AA"}, "not a valid EdDSA key"),
        ({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA", "kid": "e"}, "`kty` is `AKP`"),
        ({"kid": "e"}, "`kty` is a value that is not a name"),
        ({**oct_key(31), "kid": "e"}, "31 bytes, and needs at least 32"),
        ({**oct_key(31), "kid": "e", "alg": "HS256"}, "31 bytes, and needs at least 32"),
        ({"kty": "oct", "k": "", "kid": "e"}, "it has no `k`"),
        ({"kty": "oct", "kid": "e"}, "it has no `k`"),
        ({"kty": "oct", "kid": "e", "k": b64(PEM)}, "not a valid HS256"),
        ({**GOOD, "kid": 7}, "`kid` is not a text"),
        ({**GOOD, "kid": ["good"]}, "`kid` is not a text"),
        (7, "a key is a JSON object"),
        (None, "a key is a JSON object"),
    ],
)  # fmt: skip
def test_a_key_that_is_not_for_us_is_left_out_with_one_warning_and_the_others_serve(
    entry: Any, reason: str
) -> None:
    for entries, index in (([entry, GOOD], 0), ([GOOD, entry], 1)):
        keys = parse_keys(key_set(*entries))
        assert passes(signed(ED, "EdDSA", "good"), keys)
        assert [key.kid for key in keys] == ["good"]
        (warning,) = keys.warnings + keys.notes
        assert (warning in keys.notes) == ("`enc`" in reason), "such a key is normal"
        named = "(kid 'e')" if isinstance(entry, dict) and entry.get("kid") == "e" else "(kid"
        assert warning.startswith(f"keys[{index}] "), warning
        assert named in warning or "(no kid)" in warning
        with pytest.raises(KeySetError, match=f"holds no usable key; .*{reason}"):
            parse_keys(key_set(entry))


def test_a_member_that_is_there_twice_leaves_the_key_out() -> None:
    twice = json.dumps({**public(RSA), "kid": "e"})[:-1] + ', "use": "enc", "use": "sig"}'
    keys = parse_keys(f'{{"keys": [{twice}, {json.dumps(GOOD)}]}}')
    assert [key.kid for key in keys] == ["good"]
    assert "there twice" in keys.warnings[0]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"keys": {}}', '{"keys": null}', "[" * 100_000, "null",
     '{"keys": [], "keys": []}']
)  # fmt: skip
def test_what_is_no_key_set_is_refused(text: str) -> None:
    with pytest.raises(KeySetError, match="not a JWK set"):
        parse_keys(text)


def test_a_set_without_a_key_is_refused() -> None:
    with pytest.raises(KeySetError, match="no usable key"):
        parse_keys(key_set())


def test_a_byte_order_mark_and_members_of_vendors_are_no_error() -> None:
    more = {
        "x5c": ["MIIC"],
        "x5t": "abc",
        "x5t#S256": "def",
        "issuer": "https://issuer/",
        "ext": True,
        "nbf": 1,
    }
    keys = parse_keys("\ufeff" + json.dumps({"keys": [{**GOOD, **more}], "cloud_instance_name": "x"}))
    assert passes(signed(ED, "EdDSA", "good"), keys)
    assert keys.warnings == ()


UNSET = (
    "alg", "use", "key_ops", "kid", "x5u", "x5t", "x5c", "d", "p", "q", "dp", "dq", "qi", "oth", "k", "crv"
)  # fmt: skip


@pytest.mark.parametrize("nothing", [None, "", []])
@pytest.mark.parametrize(
    ("entry", "algorithm"), [(RSA, "RS256"), (P256, "ES256"), (ED, "EdDSA"), (SECRET, "HS256")]
)
def test_a_member_that_says_nothing_is_as_one_that_is_not_there(
    entry: dict[str, Any], algorithm: str, nothing: Any
) -> None:
    unset = {name: nothing for name in UNSET if name not in public(entry)}
    if nothing == []:  # .NET says at least the use
        unset["use"] = "sig"
    keys = parse_keys(key_set({**entry, **unset}))
    assert keys.warnings == ()
    assert passes(signed(entry, algorithm), keys)
    assert keys.private == (entry is SECRET)
    assert [key.can_sign for key in keys] == [entry is SECRET]


def test_a_member_that_is_not_read_may_be_any_number() -> None:
    digits = "9" * 5000
    keys = parse_keys(f'{{"keys": [{json.dumps(GOOD)[:-1]}, "v": {digits}, "w": 1e999}}], "z": -{digits}}}')
    assert passes(signed(ED, "EdDSA", "good"), keys)


def short_ec_key(curve: str) -> dict[str, Any]:
    """One whose x begins with a zero byte, as one in 256 does."""
    while True:
        made = ec_key(CURVES[curve])
        raw = base64.urlsafe_b64decode(made["x"] + "==")
        if raw[0] == 0 and (curve != "P-521" or raw[1] == 0):
            return made


@pytest.mark.parametrize(("curve", "algorithm"), [("P-256", "ES256"), ("P-384", "ES384"), ("P-521", "ES512")])
def test_a_coordinate_may_lack_its_leading_zeros_or_have_one_more(curve: str, algorithm: str) -> None:
    entry = short_ec_key(curve)
    raw = base64.urlsafe_b64decode(entry["x"] + "==")
    for written in (raw.lstrip(b"\0"), b"\0" + raw, raw):
        keys = parse_keys(key_set({**public(entry), "x": b64(written)}), OFFERED)
        assert passes(signed(entry, algorithm), keys), written
    own = parse_keys(key_set({**entry, "x": b64(raw.lstrip(b"\0"))}), OFFERED).keys[0]
    assert passes(sign(CLAIMS, own), parse_keys(key_set(public(entry)), OFFERED))


def test_a_key_with_an_empty_kid_serves_tokens_that_say_the_same() -> None:
    keys = parse_keys(key_set({**GOOD, "kid": ""}, {**public(RSA), "kid": "r"}))
    assert passes(signed(ED, "EdDSA", ""), keys)
    assert passes(signed(ED, "EdDSA"), keys)


def test_no_secret_is_in_a_repr_a_warning_or_an_error() -> None:
    secrets = [
        SECRET["k"],
        oct_key(31)["k"],
        RSA["d"],
        RSA["p"],
        ED["d"],
        P256["d"],
        bytes(range(31)).decode(),
    ]
    bad = [
        {**oct_key(31), "kid": "s"}, {**RSA, "kid": "r", "alg": "HS256"}, {**ED, "kid": "e", "x": "AA"},
        {"kty": SECRET["k"], "kid": "t"}, {**GOOD, "use": SECRET["k"]}, {**RSA, "alg": SECRET["k"]},
        {**P256, "crv": SECRET["k"]}, {"kty": "oct", "k": RSA["d"], "alg": "HS999"},
    ]  # fmt: skip
    keys = parse_keys(key_set(GOOD, {**SECRET, "kid": "h"}, {**RSA, "kid": "a"}, *bad))
    assert len(keys.warnings) == len(bad)
    shown = repr(keys) + repr(list(keys)) + "".join(keys.warnings)
    with pytest.raises(KeySetError) as caught:
        parse_keys(key_set(*bad))
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    shown += repr(caught.value)
    for secret in secrets:
        assert secret not in shown


def test_a_kid_cannot_write_lines_of_its_own_into_the_log() -> None:
    (warning,) = parse_keys(
        key_set(GOOD, {**public(RSA), "kid": "a\nERROR \u202e" + "x" * 500, "use": "tls"})
    ).warnings
    assert warning.isascii()
    assert "\n" not in warning
    assert len(warning) < 250


# --- what a key may verify -------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", OFFERED)
def test_each_algorithm_that_is_offered_verifies_when_it_is_pinned_and_only_then(algorithm: str) -> None:
    entry = KEYS_BY_ALGORITHM[algorithm]
    made = signed(entry, algorithm, "k")
    names = {"EdDSA", "Ed25519"} if algorithm.startswith("Ed") else {algorithm}
    others = tuple(a for a in OFFERED if a not in names)
    for more in ({"alg": algorithm}, {}):  # an alg that is not said is found from the type and the curve
        keys = parse_keys(key_set({"kid": "k", **entry, **more}, GOOD), [algorithm, "EdDSA"])
        assert passes(made, keys)
        head, payload, signature = made.split(".")
        flipped = ("B" if signature[0] == "A" else "A") + signature[1:]
        assert not passes(f"{head}.{payload}.{flipped}", keys)
        assert not passes(made, keys, others)
    assert not passes(made, parse_keys(key_set({"kid": "k", **entry}, GOOD, SECRET), others))


@pytest.mark.parametrize("pinned", ["EdDSA", "Ed25519"])
@pytest.mark.parametrize("of_key", ["EdDSA", "Ed25519", None])
@pytest.mark.parametrize("of_token", ["EdDSA", "Ed25519"])
def test_the_two_names_of_ed25519_are_one(pinned: str, of_key: str | None, of_token: str) -> None:
    """An issuer may publish the one and sign with the other (RFC 9864 section 2.2)."""
    (key,) = keys = parse_keys(key_set({**public(ED), **({"alg": of_key} if of_key else {})}), [pinned])
    assert passes(signed(ED, of_token), keys, (pinned,))
    assert key.algorithms[0] == pinned


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "PS512"])
def test_an_rsa_signature_has_the_length_of_its_key(algorithm: str) -> None:
    """The library takes a PSS signature without its leading zero bytes: a second spelling of one token."""
    (key,) = parse_keys(key_set(RSA), [algorithm])
    library, private = jwt.get_algorithm_by_name(algorithm), jwt.PyJWK({**RSA, "alg": algorithm}).key
    messages = (b"%d" % number for number in range(10_000))
    message, signature = next(
        (message, made) for message in messages if (made := library.sign(message, private))[0] == 0
    )
    assert key.verifies(algorithm, message, signature)
    assert not key.verifies(algorithm, message, signature[1:])
    assert not key.verifies(algorithm, message, b"\0" + signature)


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512"])
def test_an_ecdsa_signature_has_the_length_of_its_curve_and_no_number_out_of_range(algorithm: str) -> None:
    entry = KEYS_BY_ALGORITHM[algorithm]
    (key,) = parse_keys(key_set(entry), [algorithm])
    signature = jwt.get_algorithm_by_name(algorithm).sign(b"m", jwt.PyJWK({**entry, "alg": algorithm}).key)
    assert key.verifies(algorithm, b"m", signature)
    half = len(signature) // 2
    r, s = signature[:half], signature[half:]
    zero, one, top = bytes(half), bytes(half - 1) + b"\1", b"\xff" * half
    others = [signature[:size] for size in range(len(signature))]
    others += [signature + b"\0", b"\0" + signature, b"\0" + r + b"\0" + s, s + r, b"0\6\2\1\0\2\1\0"]
    others += [first + second for first in (zero, one, top, r) for second in (zero, one, top)]
    assert not any(key.verifies(algorithm, b"m", other) for other in others)


def test_a_published_set_never_verifies_with_what_everybody_can_sign_with() -> None:
    entries = [{"kid": "secret", **SECRET}, {"kid": "private", **RSA}, {"kid": "public", **public(ED)}]
    keys = parse_keys(key_set(*entries), OFFERED, published=True)
    assert [key.kid for key in keys] == ["public"]
    assert [warning.split(" is ")[0] for warning in keys.warnings] == [
        "keys[0] (kid 'secret')", "keys[1] (kid 'private')"
    ]  # fmt: skip
    assert all("published" in warning for warning in keys.warnings)
    assert not passes(signed(SECRET, "HS256", "secret"), keys)


def test_a_modulus_may_begin_with_a_zero_byte_or_be_padded() -> None:
    """As Java writes a positive number (RFC 7518 section 6.3.1.1), and as padding encoders do."""
    raw = base64.urlsafe_b64decode(RSA["n"] + "==")
    for written in (b64(b"\0" + raw), base64.urlsafe_b64encode(raw).decode()):
        keys = parse_keys(key_set({**public(RSA), "n": written}))
        assert passes(signed(RSA, "RS256"), keys)


@pytest.mark.parametrize("written", ["+", "/", " ", "\n", "%3D", "=A"])
def test_a_number_that_is_not_base64url_is_never_read_as_another(written: str) -> None:
    text = RSA["n"]
    keys = parse_keys(key_set(GOOD, {**public(RSA), "n": text[:8] + written + text[8:]}))
    assert [key.kid for key in keys] == ["good"]
    assert "`n` is not base64url" in keys.warnings[0]


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "EdDSA", "HS256"])
def test_what_is_signed_here_verifies_here(algorithm: str) -> None:
    (key,) = keys = parse_keys(key_set(KEYS_BY_ALGORITHM[algorithm]), [algorithm])
    assert passes(sign(CLAIMS, key), keys)


def test_an_rsa_key_without_alg_does_what_is_pinned_and_one_with_alg_only_that() -> None:
    pinned = ("RS256", "PS256", "RS512", "EdDSA")
    free = parse_keys(key_set({"kid": "k", **public(RSA)}), pinned)
    bound = parse_keys(key_set({"kid": "k", "alg": "RS256", **public(RSA)}), pinned)
    for algorithm in ("RS256", "PS256", "RS512"):
        assert passes(signed(RSA, algorithm, "k"), free)
        assert passes(signed(RSA, algorithm, "k"), bound) == (algorithm == "RS256")
    assert not passes(signed(RSA, "RS384", "k"), free)


@pytest.mark.parametrize("kid", ["rsa", None])
@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_public_key_never_verifies_what_is_signed_with_a_secret(kid: str | None, algorithm: str) -> None:
    entry = public(RSA)
    keys = parse_keys(key_set({"kid": "rsa", **entry}, {"kid": "secret", **oct_key(64, 1)}), OFFERED)
    material = base64.urlsafe_b64decode(entry["n"] + "==")
    for secret in (material, entry["n"].encode(), PEM, PEM.strip()):
        header = {"alg": algorithm} if kid is None else {"alg": algorithm, "kid": kid}
        text = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(CLAIMS).encode())}"
        signature = hmac.digest(secret, text.encode(), f"sha{algorithm[2:]}")
        assert not passes(f"{text}.{b64(signature)}", keys)


def test_a_secret_serves_the_algorithms_that_it_is_long_enough_for() -> None:
    pinned = ("HS256", "HS384", "HS512")
    keys = parse_keys(key_set({"kid": "k", **oct_key(50)}), pinned)
    assert next(iter(keys)).algorithms == ("HS256", "HS384")


def test_a_private_key_that_is_marked_for_signing_verifies_what_it_signed() -> None:
    (key,) = keys = parse_keys(key_set({**RSA, "key_ops": ["sign"]}))
    assert passes(sign(CLAIMS, key), keys)


@pytest.mark.parametrize("entry", [public(RSA), public(P256), public(ED)], ids=["RSA", "EC", "OKP"])
def test_a_public_key_with_a_member_of_a_secret_does_not_sign(entry: dict[str, Any]) -> None:
    (key,) = parse_keys(key_set({**entry, "k": SECRET["k"]}))
    with pytest.raises(KeySetError, match="cannot sign"):
        sign(CLAIMS, key)


def test_a_private_key_that_is_marked_for_verifying_does_not_sign() -> None:
    (key,) = parse_keys(key_set({**RSA, "key_ops": ["verify"]}))
    with pytest.raises(KeySetError, match="cannot sign"):
        sign(CLAIMS, key)


# --- which key a token is tried with ----------------------------------------------------------------


def test_a_token_without_a_kid_is_tried_with_the_keys_of_its_algorithm() -> None:
    keys = parse_keys(key_set(GOOD, {"kid": "1", **public(OTHER_RSA)}, {"kid": "2", **public(RSA)}))
    assert passes(signed(RSA, "RS256"), keys)
    assert passes(signed(OTHER_RSA, "RS256"), keys)
    assert passes(signed(ED, "EdDSA"), keys)
    assert not passes(signed(rsa_key(), "RS256"), keys)


def test_a_token_that_names_a_key_is_tried_with_that_key_alone() -> None:
    keys = parse_keys(key_set({"kid": "1", **public(OTHER_RSA)}, {"kid": "2", **public(RSA)}))
    assert not passes(signed(RSA, "RS256", "1"), keys)
    assert not passes(signed(RSA, "RS256", "3"), keys)


def test_a_key_without_a_kid_serves_tokens_whose_kid_nobody_has() -> None:
    keys = parse_keys(key_set(public(RSA), {"kid": "1", **public(OTHER_RSA)}))
    assert passes(signed(RSA, "RS256"), keys)
    assert passes(signed(RSA, "RS256", "any"), keys)
    assert not passes(signed(RSA, "RS256", "1"), keys)
    assert keys.warnings == ()


def test_keys_that_share_a_kid_are_all_tried_and_one_warning_says_so() -> None:
    keys = parse_keys(key_set({"kid": "k", **public(RSA)}, GOOD, {"kid": "k", **public(OTHER_RSA)}))
    assert passes(signed(RSA, "RS256", "k"), keys)
    assert passes(signed(OTHER_RSA, "RS256", "k"), keys)
    (warning,) = keys.warnings
    assert warning.startswith("keys[2] (kid 'k') has the kid of keys[0]")


def test_keys_of_different_types_may_share_a_kid() -> None:
    keys = parse_keys(key_set({"kid": "k", **public(RSA)}, {"kid": "k", **public(P256)}))
    assert passes(signed(RSA, "RS256", "k"), keys)
    assert passes(signed(P256, "ES256", "k"), keys)


@pytest.mark.parametrize("kid", ["k", None])
def test_a_token_is_tried_with_a_bounded_number_of_keys(kid: str | None) -> None:
    entries = [{"kid": "k", **oct_key(32, n)} for n in range(MAX_TRIES + 5)]
    keys = parse_keys(key_set(*entries))
    assert len(keys.candidates(kid, "HS256") or ()) == MAX_TRIES
    assert passes(signed(entries[MAX_TRIES - 1], "HS256", kid), keys)
    assert not passes(signed(entries[MAX_TRIES], "HS256", kid), keys)


def test_the_default_algorithms_are_what_they_were() -> None:
    assert ALGORITHMS == ("HS256", "RS256", "ES256", "EdDSA")


def test_of_a_set_without_end_the_first_keys_are_read_and_few_are_told_of() -> None:
    keys = parse_keys(json.dumps({"keys": [{"kid": "a", **oct_key(32, 1)}, *range(300_000)]}))
    assert len(keys) == 1
    assert len(keys.warnings) == MAX_ENTRIES, "one for each of the others, and one for the rest"
    assert keys.warnings[0] == "of its 300,001 keys only the first 500 are read"


@pytest.mark.parametrize(("bits", "exponent"), [(8193, 65537), (16384, 65537), (2048, (1 << 64) + 1)])
def test_an_rsa_key_that_takes_long_to_verify_with_is_left_out(bits: int, exponent: int) -> None:
    number = (1 << (bits - 1)) + 1
    sizes = [(value, (value.bit_length() + 7) // 8) for value in (number, exponent)]
    n, e = (b64(value.to_bytes(size)) for value, size in sizes)
    with pytest.raises(KeySetError, match="take too long"):
        parse_keys(json.dumps({"keys": [{"kty": "RSA", "n": n, "e": e, "kid": "slow"}]}))
