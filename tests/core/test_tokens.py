"""Tokens: each algorithm, and each way to be refused."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from gateway.core.errors import Unauthenticated
from gateway.core.tokens import ALGORITHMS, Key, KeySetError, TokenRule, bearer, parse_keys, sign, verify

NOW = 1_800_000_000.0
RULE = TokenRule("issuer", "audience")
SECRET = b"0123456789abcdef0123456789abcdef"
RSA_KEY = rsa.generate_private_key(65537, 2048)
PUBLIC_PEM = RSA_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


JWKS: dict[str, dict[str, Any]] = {
    "HS256": {"kty": "oct", "k": b64(SECRET)},
    "RS256": json.loads(RSAAlgorithm.to_jwk(RSA_KEY)),
    "ES256": json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()))),
    "EdDSA": json.loads(OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate())),
}


def key_set(*entries: dict[str, Any]) -> str:
    return json.dumps({"keys": list(entries)})


def entry(algorithm: str, **more: Any) -> dict[str, Any]:
    return {"kid": algorithm, "alg": algorithm, **JWKS[algorithm], **more}


KEYS = parse_keys(key_set(*(entry(algorithm) for algorithm in ALGORITHMS)))
CLAIMS: dict[str, Any] = {
    "iss": "issuer", "aud": "audience", "exp": NOW + 60, "tenant": "acme", "sub": "alice",
    "scope": "a:read b",
}  # fmt: skip


def token(algorithm: str = "EdDSA", **claims: Any) -> str:
    """Signed; `claims` replace, or remove with None."""
    merged = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
    return sign(merged, KEYS[algorithm])


def forged(header: dict[str, Any], payload: bytes, secret: bytes = SECRET) -> str:
    """Any header and payload, signed by HMAC-SHA-256."""
    text = f"{b64(json.dumps(header).encode())}.{b64(payload)}"
    return f"{text}.{b64(hmac.digest(secret, text.encode(), 'sha256'))}"


def refusal(made: str, now: float = NOW, rule: TokenRule = RULE, keys: dict[str, Key] = KEYS) -> str:
    with pytest.raises(Unauthenticated) as caught:
        verify(made, keys, rule, now)
    assert caught.value.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert caught.value.__cause__ is None
    return caught.value.detail


# --- what is accepted ------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_algorithm_signs_and_verifies(algorithm: str) -> None:
    who = verify(token(algorithm), KEYS, RULE, NOW)
    assert (who.tenant.value, who.subject, who.expires) == ("acme", "alice", NOW + 60)
    assert who.scopes == {"a:read", "b"}
    assert who.scope_text == "a:read b"


def test_the_public_half_verifies_and_cannot_sign() -> None:
    public = {name: value for name, value in JWKS["EdDSA"].items() if name != "d"}
    keys = parse_keys(key_set({"kid": "EdDSA", "alg": "EdDSA", **public}))
    assert verify(token(), keys, RULE, NOW).subject == "alice"
    assert not keys["EdDSA"].can_sign
    with pytest.raises(KeySetError, match="no private half"):
        sign(CLAIMS, keys["EdDSA"])


def test_without_a_kid_a_single_key_is_meant_and_of_several_none() -> None:
    made = jwt.encode(CLAIMS, SECRET, "HS256")
    assert verify(made, {"HS256": KEYS["HS256"]}, RULE, NOW).subject == "alice"
    assert "names no key" in refusal(made)


def test_the_audience_may_be_one_of_several() -> None:
    assert verify(token(aud=["else", "audience"]), KEYS, RULE, NOW).subject == "alice"


def test_a_token_without_scope_has_none() -> None:
    assert verify(token(scope=None), KEYS, RULE, NOW).scopes == frozenset()
    assert verify(token(scope=""), KEYS, RULE, NOW).scopes == frozenset()


@pytest.mark.parametrize(
    ("claims", "now"),
    [
        ({"exp": NOW}, NOW + 59.999),
        ({"nbf": NOW + 60}, NOW),
        ({"iat": NOW + 60}, NOW),
        ({"exp": int(NOW) + 1, "nbf": NOW - 1, "iat": 0}, NOW),
    ],
)
def test_times_are_checked_with_the_leeway(claims: dict[str, Any], now: float) -> None:
    assert verify(token(**claims), KEYS, RULE, now).subject == "alice"


# --- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "now", "reason"),
    [
        ({"exp": NOW}, NOW + 60, "expired"),
        ({"exp": NOW - 1000}, NOW, "expired"),
        ({"exp": -1}, NOW, "expired"),
        ({"nbf": NOW + 60.001}, NOW, "`nbf` lies in the future"),
        ({"iat": NOW + 60.001}, NOW, "`iat` lies in the future"),
        ({"exp": None}, NOW, "no `exp`"),
        ({"exp": True}, NOW, "`exp` is not a number"),
        ({"exp": "1900000000"}, NOW, "`exp` is not a number"),
        ({"exp": 10**400}, NOW, "`exp` is not a number"),
        ({"exp": 1e300}, NOW, "`exp` is not a number"),
        ({"exp": [NOW + 60]}, NOW, "`exp` is not a number"),
        ({"nbf": True}, NOW, "`nbf` is not a number"),
        ({"nbf": -(10**16)}, NOW, "`nbf` is not a number"),
        ({"iat": {}}, NOW, "`iat` is not a number"),
        ({"iss": None}, NOW, "issuer"),
        ({"iss": "other"}, NOW, "issuer"),
        ({"iss": ["issuer"]}, NOW, "issuer"),
        ({"aud": None}, NOW, "audience"),
        ({"aud": "other"}, NOW, "audience"),
        ({"aud": ["other"]}, NOW, "audience"),
        ({"aud": "an audience of"}, NOW, "audience"),
        ({"aud": {"audience": 1}}, NOW, "audience"),
        ({"tenant": None}, NOW, "`tenant`"),
        ({"tenant": ""}, NOW, "`tenant`"),
        ({"tenant": "Acme"}, NOW, "`tenant`"),
        ({"tenant": "-acme"}, NOW, "`tenant`"),
        ({"tenant": "acme\n"}, NOW, "`tenant`"),
        ({"tenant": "a" * 64}, NOW, "`tenant`"),
        ({"tenant": ["acme"]}, NOW, "`tenant`"),
        ({"tenant": "acme\r\nX-Tenant: globex"}, NOW, "`tenant`"),
        ({"sub": None}, NOW, "`sub`"),
        ({"sub": ""}, NOW, "`sub`"),
        ({"sub": "a b"}, NOW, "`sub`"),
        ({"sub": "a\r\n"}, NOW, "`sub`"),
        ({"sub": "é"}, NOW, "`sub`"),
        ({"sub": "a" * 201}, NOW, "`sub`"),
        ({"scope": "a  b"}, NOW, "`scope`"),
        ({"scope": " a"}, NOW, "`scope`"),
        ({"scope": 'a"b'}, NOW, "`scope`"),
        ({"scope": "a\nb"}, NOW, "`scope`"),
        ({"scope": ["a"]}, NOW, "`scope`"),
    ],
)
def test_a_bad_claim_is_refused_with_its_name(claims: dict[str, Any], now: float, reason: str) -> None:
    payload = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
    made = forged({"alg": "HS256", "kid": "HS256"}, json.dumps(payload).encode())
    assert reason in refusal(made, now)


@pytest.mark.parametrize("exp", ["NaN", "Infinity", "1e999", "9" * 5000])
def test_numbers_that_json_should_not_hold_are_refused(exp: str) -> None:
    payload = json.dumps({**CLAIMS, "exp": 0}).replace('"exp": 0', f'"exp": {exp}')
    refusal(forged({"alg": "HS256", "kid": "HS256"}, payload.encode()))


@pytest.mark.parametrize("alg", ["none", "None", "", None, "HS384", "hs256", ["HS256"], 1])
def test_an_algorithm_that_is_not_the_keys_is_refused(alg: Any) -> None:
    header = {"kid": "HS256"} if alg is None else {"kid": "HS256", "alg": alg}
    refusal(forged(header, json.dumps(CLAIMS).encode()))


def test_an_unsigned_token_is_refused() -> None:
    text = f"{b64(json.dumps({'alg': 'none', 'kid': 'HS256'}).encode())}.{b64(json.dumps(CLAIMS).encode())}."
    assert "algorithm" in refusal(text)


@pytest.mark.parametrize("secret", [PUBLIC_PEM, PUBLIC_PEM.strip(), JWKS["RS256"]["n"].encode()])
def test_a_public_key_is_no_hmac_secret(secret: bytes) -> None:
    payload = json.dumps(CLAIMS).encode()
    assert "algorithm" in refusal(forged({"alg": "HS256", "kid": "RS256"}, payload, secret))
    assert "signature" in refusal(forged({"alg": "HS256", "kid": "HS256"}, payload, secret))


def test_a_key_whose_algorithm_is_not_in_the_rule_is_refused() -> None:
    rule = TokenRule("issuer", "audience", ("RS256",))
    assert "not allowed" in refusal(token("HS256"), rule=rule)
    assert verify(token("RS256"), KEYS, rule, NOW).subject == "alice"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_changed_claim_breaks_the_signature(algorithm: str) -> None:
    head, _, signature = token(algorithm).split(".")
    payload = b64(json.dumps({**CLAIMS, "tenant": "globex"}).encode())
    assert "signature" in refusal(f"{head}.{payload}.{signature}")


@pytest.mark.parametrize("kid", ["other", "", 7, ["EdDSA"], {"a": 1}])
def test_an_unknown_kid_is_refused(kid: Any) -> None:
    refusal(forged({"alg": "HS256", "kid": kid}, json.dumps(CLAIMS).encode()))


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "a.b.c", "a", "é.é.é", "\udc80.a.b", "a" * 8000, f"{b64(b'[1]')}.e30.AA",
     f"{b64(b'{' + b'x' * 10)}.e30.AA", f"{b64(b'[' * 5000)}.e30.AA", b64(b'{"a":' * 4000) + ".e30.AA"],
)  # fmt: skip
def test_what_is_no_token_is_refused_and_never_a_bug(text: str) -> None:
    refusal(text)


@pytest.mark.parametrize("payload", [b"", b"[]", b"7", b"\xff", b"{" * 5000, b'{"x":' + b"[" * 4000])
def test_a_signed_payload_that_is_no_object_is_refused(payload: bytes) -> None:
    refusal(forged({"alg": "HS256", "kid": "HS256"}, payload))


def test_a_critical_extension_that_is_not_known_is_refused() -> None:
    refusal(forged({"alg": "HS256", "kid": "HS256", "crit": ["exp"]}, json.dumps(CLAIMS).encode()))


def test_a_refusal_holds_nothing_of_the_token() -> None:
    made = token(iss="canary-issuer", tenant="canary", sub="canary")
    assert "canary" not in refusal(made)
    assert made.split(".")[1] not in refusal(made)


# --- key sets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a JWK set"),
        ("[]", "not a JWK set"),
        ("{}", "not a JWK set"),
        ('{"keys": {}}', "not a JWK set"),
        ("[" * 100_000, "not a JWK set"),
        ('{"keys": []}', "holds no key"),
        ('{"keys": [7]}', r"keys\[0\]: a key is a JSON object"),
        (key_set({"alg": "HS256", **JWKS["HS256"]}), "no `kid`"),
        (key_set(entry("HS256", kid=7)), "no `kid`"),
        (key_set({"kid": "a", **JWKS["HS256"]}), r"keys\[0\] \(a\): `alg` must be one of"),
        (key_set(entry("HS256", alg="none")), "`alg` must be one of"),
        (key_set(entry("HS256", alg=["HS256"])), "`alg` must be one of"),
        (key_set(entry("HS256", alg="RS256")), "not a valid RS256 key"),
        (key_set(entry("RS256", alg="HS256")), "not a valid HS256 key"),
        (key_set(entry("ES256", alg="EdDSA")), "not a valid EdDSA key"),
        (key_set(entry("EdDSA", d="AA")), "not a valid EdDSA key"),
        (key_set(entry("ES256", x="AA")), "not a valid ES256 key"),
        (key_set(entry("RS256", n=None)), "not a valid RS256 key"),
        (key_set(entry("HS256"), entry("HS256")), "there twice"),
        (key_set(entry("HS256", k=b64(SECRET[:31]))), "at least 32 bytes"),
        (key_set(entry("HS256", k="")), "HS256"),
        (key_set({"kid": "a", "alg": "RS256",
                  **json.loads(RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024)))}), "2048 bits"),
        (key_set({"kid": "a", "alg": "ES256",
                  **json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1())))}), "P-256"),
        (key_set({"kid": "a", "alg": "EdDSA",
                  **json.loads(OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate()))}), "Ed25519"),
    ],
)  # fmt: skip
def test_a_bad_key_set_says_which_key_and_why(text: str, reason: str) -> None:
    with pytest.raises(KeySetError, match=reason):
        parse_keys(text)


def test_a_key_set_holds_only_allowed_algorithms() -> None:
    with pytest.raises(KeySetError, match="one of RS256"):
        parse_keys(key_set(entry("HS256")), ["RS256"])


def test_no_secret_is_in_a_repr_or_an_error() -> None:
    secrets = [JWKS["HS256"]["k"], SECRET.decode(), *(JWKS[a]["d"] for a in ALGORITHMS if a != "HS256")]
    shown = repr(KEYS) + "".join(map(str, KEYS.values()))
    for bad in (entry("HS256", k=b64(SECRET[:31])), entry("HS256", alg="RS256"), entry("EdDSA", x="AA")):
        with pytest.raises(KeySetError) as caught:
            parse_keys(key_set(bad))
        shown += repr(caught.value) + str(caught.value)
        assert caught.value.__context__ is None or caught.value.__suppress_context__
        assert b64(SECRET[:31]) not in shown
    for secret in secrets:
        assert secret not in shown


# --- the Authorization header -----------------------------------------------------------------------


@pytest.mark.parametrize("value", ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c "])
def test_the_token_of_the_authorization_header(value: str) -> None:
    assert bearer([value]) == "a.b.c"


@pytest.mark.parametrize(
    "values",
    [[], ["Bearer a", "Bearer a"], ["Bearer a", "Basic b"], [""], ["Bearer"], ["Bearer "], ["Bearer  "],
     ["Basic a"], ["a.b.c"], ["Bearera a"]],
)  # fmt: skip
def test_anything_but_one_bearer_token_is_401(values: list[str]) -> None:
    with pytest.raises(Unauthenticated):
        bearer(values)
