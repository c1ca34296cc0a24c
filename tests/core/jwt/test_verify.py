"""Tokens: each algorithm, and each way to be refused."""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from gateway.core.errors import Unauthenticated
from gateway.core.jwt.algorithms import ALGORITHMS
from gateway.core.jwt.issuer import Issuer, local_issuer
from gateway.core.jwt.keys import KeySet, KeySetError, parse_keys, sign
from gateway.core.jwt.verify import MAX_TOKEN, bearer, parse, verify, verify_token

NOW = 1_800_000_000.0
RULE = local_issuer("", "issuer", "audience")
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
BY_NAME = {key.kid: key for key in KEYS}
CLAIMS: dict[str, Any] = {
    "iss": "issuer", "aud": "audience", "exp": NOW + 60, "tenant": "acme", "sub": "alice",
    "scope": "a:read b",
}  # fmt: skip


def token(algorithm: str = "EdDSA", **claims: Any) -> str:
    """Signed; `claims` replace, or remove with None."""
    merged = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
    return sign(merged, BY_NAME[algorithm])


def forged(header: dict[str, Any], payload: bytes, secret: bytes = SECRET) -> str:
    """Any header and payload, signed by HMAC-SHA-256."""
    text = f"{b64(json.dumps(header).encode())}.{b64(payload)}"
    return f"{text}.{b64(hmac.digest(secret, text.encode(), 'sha256'))}"


def refusal(made: str, now: float = NOW, rule: Issuer = RULE, keys: KeySet = KEYS) -> str:
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
    (key,) = keys
    assert not key.can_sign
    with pytest.raises(KeySetError, match="no private half"):
        sign(CLAIMS, key)


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
        ({"exp": 253402300799}, NOW),
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
        ({"exp": 253402300800}, NOW, "`exp` is not a number"),
        ({"exp": int(NOW) * 1000}, NOW, "`exp` is not a number of seconds"),
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
        ({"tenant": ["acme", "globex"]}, NOW, "`tenant`"),
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
        ({"scope": {"a": 1}}, NOW, "`scope`"),
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
    assert "not its key's" in refusal(forged({"alg": "HS256", "kid": "RS256"}, payload, secret))
    assert "signature" in refusal(forged({"alg": "HS256", "kid": "HS256"}, payload, secret))


def test_a_key_whose_algorithm_is_not_in_the_rule_is_refused() -> None:
    rule = local_issuer("", "issuer", "audience", ("RS256",))
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


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("crit", ["exp"]), ("crit", []), ("crit", None), ("b64", False), ("b64", True), ("zip", "DEF"),
        ("enc", "A256GCM"), ("cty", "JWT"), ("cty", "application/jwt"), ("cty", 7),
    ],
)  # fmt: skip
def test_a_header_that_changes_how_the_token_is_read_is_refused(member: str, value: Any) -> None:
    refusal(forged({"alg": "HS256", "kid": "HS256", member: value}, json.dumps(CLAIMS).encode()))


def test_members_of_the_header_that_change_nothing_are_ignored() -> None:
    header = {
        "alg": "HS256",
        "kid": "HS256",
        "typ": "at+jwt",
        "cty": "json",
        "x5t": "AAAA",
        "jku": "http://a",
    }
    assert verify(forged(header, json.dumps(CLAIMS).encode()), KEYS, RULE, NOW).subject == "alice"


@pytest.mark.parametrize(
    "typ", ["JWT", "jwt", "Jwt", "at+jwt", "AT+JWT", "application/at+jwt", "application/JWT"]
)
def test_a_token_may_say_that_it_is_one(typ: str) -> None:
    made = forged({"alg": "HS256", "kid": "HS256", "typ": typ}, json.dumps(CLAIMS).encode())
    assert verify(made, KEYS, RULE, NOW).subject == "alice"


@pytest.mark.parametrize(
    "typ",
    ["", "JWS", "JOSE", "id+jwt", "logout+jwt", "secevent+jwt", "dpop+jwt", "gateway-identity+jwt", "at+jwt ",
     "text/jwt", "application/application/jwt", "application/", None, 7, ["JWT"]],
)  # fmt: skip
def test_a_token_for_another_purpose_is_refused(typ: Any) -> None:
    made = forged({"alg": "HS256", "kid": "HS256", "typ": typ}, json.dumps(CLAIMS).encode())
    assert "neither JWT nor at+jwt" in refusal(made)


@pytest.mark.parametrize("kid", ["HS256", "unknown", None])
def test_a_key_that_a_token_brings_along_is_never_used(kid: str | None) -> None:
    """Neither one in the header, nor one that it says where to find (RFC 8725 section 3.10)."""
    secret = b"f" * 32
    brought = {
        "jwk": {"kty": "oct", "k": b64(secret), "kid": kid}, "jku": "https://evil.example/",
        "x5c": ["MIIC"],
        "x5u": "file:///etc/keys", "x5t": b64(secret), "key": b64(secret), "k": b64(secret),
    }  # fmt: skip
    header = {"alg": "HS256", **brought, **({} if kid is None else {"kid": kid})}
    assert refusal(forged(header, json.dumps(CLAIMS).encode(), secret))


def test_a_token_has_at_most_16_kib() -> None:
    fixed = len(token("HS256", pad=""))
    for size in range((MAX_TOKEN - fixed) * 3 // 4 - 6, (MAX_TOKEN - fixed) * 3 // 4 + 6):
        made = token("HS256", pad="x" * size)
        if len(made) <= MAX_TOKEN:
            assert verify(made, KEYS, RULE, NOW).subject == "alice"
        else:
            assert refusal(made) == "The token is longer than 16 KiB."
    assert refusal("." * 1_000_000)
    assert refusal("a.b." + "x" * 1_000_000)


HEAD = b64(b'{"alg":"HS256"}')


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("opaque", "it has not three parts"), ("a.b", "not three parts"), ("a.b.c.d.e", "is encrypted"),
        ("a.b.c.d.e.f", "not three parts"), ("e30.e30.é", "not ASCII"),
        ("e30=.e30.AA", "a header that is not base64url"), ("e30.e30.AA", "a header without `alg`"),
        (f"{b64(b'[]')}.e30.AA", "a header that is not one JSON object"),
        (f"{HEAD}.e3 0.AA", "a payload that is not base64url"),
        (f"{HEAD}.{b64(b'[NaN]')}.AA", "a payload that is not one JSON object"),
        (f"{HEAD}.e30.AB", "a signature that is not base64url (no padding, no spaces)"),
        (b64(b'{"alg":"HS256","kid":null}') + ".e30.AA", "whose `kid` is not a text"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_token_is_said_so_that_its_maker_can_mend_it(text: str, reason: str) -> None:
    """Some languages' encoders have another alphabet, and pad; some send what they should not."""
    assert reason in refusal(text)


def test_a_refusal_says_where_newer_keys_might_help() -> None:
    def reason(made: str) -> str:
        with pytest.raises(Unauthenticated) as caught:
            verify(made, KEYS, RULE, NOW)
        return caught.value.reason

    claims = json.dumps(CLAIMS).encode()
    assert reason(forged({"alg": "HS256", "kid": "unknown"}, claims)) == "unknown_key"
    assert reason(forged({"alg": "HS256", "kid": "RS256"}, claims)) == "unknown_key"
    assert reason(forged({"alg": "HS256", "kid": "HS256"}, claims, b"f" * 32)) == "bad_signature"
    assert reason(forged({"alg": "HS256"}, claims, b"f" * 32)) == "bad_signature"
    assert reason(forged({"alg": "none", "kid": "unknown"}, claims)) == ""
    for claim, value in (("iss", "other"), ("aud", "other"), ("exp", 1), ("tenant", "A"), ("scope", " ")):
        assert reason(token(**{claim: value})) == ""


def test_a_token_is_good_for_as_long_as_the_key_that_signed_it() -> None:
    keys = parse_keys(key_set(entry("EdDSA", gw_retire_after=int(NOW) + 5)))
    assert verify(token(), keys, RULE, NOW).good_until == int(NOW) + 5
    assert verify(token(), KEYS, RULE, NOW).good_until > int(NOW) + 5
    assert "signature" in refusal(token(), NOW + 5, keys=keys)


def test_what_is_parsed_is_not_believed_and_not_shown() -> None:
    parsed = parse(token("HS256", sub="canary"))
    assert (parsed.algorithm, parsed.kid, parsed.claims["sub"]) == ("HS256", "HS256", "canary")
    assert repr(parsed) == "Token(algorithm='HS256', kid='HS256')"
    assert verify_token(parsed, KEYS, RULE, NOW).subject == "canary"


def test_an_audience_that_is_missing_is_named_and_an_issuer_is_compared_with_its_slash() -> None:
    issuer = replace(RULE, issuer="https://id.example/", audiences=("orders", "billing"))
    assert "must hold `orders` or `billing`" in refusal(
        token(iss="https://id.example/", aud="x"), rule=issuer
    )
    assert "letter for letter" in refusal(token(iss="https://id.example", aud="orders"), rule=issuer)
    made = token(iss="https://id.example/", aud="orders")
    assert verify(made, KEYS, issuer, NOW).subject == "alice"


def respelt(part: str) -> list[str]:
    """Other spellings of the same bytes, which lenient decoders take for the same."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    others = [
        part + "=",
        part + "==",
        part + "=" * (-len(part) % 4 or 4),
        part + "\n",
        part + " ",
        "\n" + part,
    ]
    others += [part[:4] + sign + part[4:] for sign in (" ", "\n", "\r\n", "!", "=", "%3D", "\t")]
    others.append(part.replace("-", "+").replace("_", "/"))
    if len(part) % 4:  # the last character has bits to spare
        last = alphabet.index(part[-1])
        others += [
            part[:-1] + alphabet[last ^ spare] for spare in ((1, 2, 3) if len(part) % 4 == 3 else (1, 8))
        ]
    return [other for other in others if other != part]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("index", [0, 1, 2], ids=["header", "claims", "signature"])
def test_a_token_has_one_spelling(algorithm: str, index: int) -> None:
    parts = token(algorithm).split(".")
    verify(".".join(parts), KEYS, RULE, NOW)
    tried = respelt(parts[index])
    assert len(tried) > 10
    for other in tried:
        refusal(".".join([*parts[:index], other, *parts[index + 1 :]]))


def test_a_spelling_that_a_lenient_decoder_takes_is_refused_also_when_it_was_signed() -> None:
    """The issuer itself wrote padding: others would read the token, so we would not agree with them on it."""
    head = b64(json.dumps({"alg": "HS256", "kid": "HS256"}).encode())
    payload = base64.urlsafe_b64encode(json.dumps({**CLAIMS, "pad": ""}).encode()).decode()
    payload = payload if payload.endswith("=") else payload + "===="
    text = f"{head}.{payload}"
    refusal(f"{text}.{b64(hmac.digest(SECRET, text.encode(), 'sha256'))}")


@pytest.mark.parametrize(
    "payload",
    [
        b'{"tenant":"globex",%s}', b'{%s,"tenant":"globex"}', b'{%s,"t\\u0065nant":"globex"}',
        b'{%s,"cnf":{"a":1,"a":2}}', b'{%s,"list":[{"a":1,"a":1}]}',
    ],
)  # fmt: skip
def test_a_claim_that_is_there_twice_is_refused(payload: bytes) -> None:
    claims = json.dumps(CLAIMS).encode()[1:-1]
    refusal(forged({"alg": "HS256", "kid": "HS256"}, payload % claims))


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"none","alg":"HS256","kid":"HS256"}', b'{"alg":"HS256","kid":"a","kid":"HS256"}',
        b'{"alg":"HS256","kid":"HS256","kid":"HS256"}', b'\xef\xbb\xbf{"alg":"HS256","kid":"HS256"}',
        '{"alg":"HS256","kid":"HS256"}'.encode("utf-16"), b'{"alg":"HS256","kid":"HS256","x":NaN}',
        b'{"alg":"HS256","kid":"HS256"} x', b"[]", b'"HS256"', b"null", b'{"alg":"HS256","kid":null}',
    ],
)  # fmt: skip
def test_a_header_that_is_no_strict_object_is_refused(header: bytes) -> None:
    text = f"{b64(header)}.{b64(json.dumps(CLAIMS).encode())}"
    refusal(f"{text}.{b64(hmac.digest(SECRET, text.encode(), 'sha256'))}")


@pytest.mark.parametrize(
    "payload",
    [b'{%s,"x":NaN}', b'{%s,"x":-Infinity}', b'{%s,"x":1e999}',
     b'{%s,"x":[-1e400]}', b'{%s,"x":%s}' % (b"%s", b"9" * 5000), b'\xef\xbb\xbf{%s}',
     b"[{%s}]", b'{%s} {"a":1}', b'{%s,"x":"\xff"}', b"{%s,}"],
)  # fmt: skip
def test_claims_that_are_no_strict_object_are_refused(payload: bytes) -> None:
    claims = json.dumps(CLAIMS).encode()[1:-1]
    refusal(forged({"alg": "HS256", "kid": "HS256"}, payload.replace(b"%s", claims)))


@pytest.mark.parametrize("text", [r'"\ud800"', r'["\uDFff a"]', r'{"\uD83D": 1}', r'"\ude00\ud83d"'])
def test_half_a_character_is_refused_in_claims_and_header(text: str) -> None:
    """It cannot be written in UTF-8: not into a log, nor to a backend."""
    claims = json.dumps(CLAIMS)[:-1] + f', "x": {text}}}'
    refusal(forged({"alg": "HS256", "kid": "HS256"}, claims.encode()))
    head = b64(f'{{"alg": "HS256", "kid": "HS256", "x": {text}}}'.encode())
    assert "header" in refusal(f"{head}.e30.AA")


def test_a_character_of_two_escapes_is_one() -> None:
    assert verify(token(name="\U0001f600"), KEYS, RULE, NOW).claims["name"] == "\U0001f600"


def test_claims_in_utf_16_are_refused() -> None:
    refusal(forged({"alg": "HS256", "kid": "HS256"}, json.dumps(CLAIMS).encode("utf-16")))


@pytest.mark.parametrize("parts", [1, 2, 4, 5])
def test_a_token_of_another_number_of_parts_is_refused(parts: int) -> None:
    made = token().split(".")
    refusal(".".join((made * 2)[:parts]))


def test_a_refusal_holds_nothing_of_the_token() -> None:
    made = token(iss="canary-issuer", tenant="canary", sub="canary")
    assert "canary" not in refusal(made)
    assert made.split(".")[1] not in refusal(made)


# --- the Authorization header -----------------------------------------------------------------------


@pytest.mark.parametrize("value", ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c "])
def test_the_token_of_the_authorization_header(value: str) -> None:
    assert bearer([value]) == "a.b.c"


@pytest.mark.parametrize(
    "values",
    [[], ["Bearer a", "Bearer a"], ["Bearer a", "Basic b"], [""], ["Bearer"], ["Bearer "], ["Bearer  "],
     ["Basic a"], ["a.b.c"], ["Bearera a"]],
)  # fmt: skip
def test_anything_but_one_bearer_token_is_refused(values: list[str]) -> None:
    """Without credentials the challenge names no error; credentials that came twice are a malformed request
    (RFC 6750 section 3.1)."""
    with pytest.raises(Unauthenticated) as caught:
        bearer(values)
    twice, none = 'Bearer error="invalid_request"', 'Bearer realm="gateway"'
    assert caught.value.headers["WWW-Authenticate"] == (twice if len(values) > 1 else none)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "Send the credential as Authorization: Bearer, or an API key as X-API-Key."),
        (["Basic YTpi"], "Send the credential as Authorization: Bearer, or an API key as X-API-Key."),
        (["gw_secret"], "In Authorization, write Bearer before the API key."),
        (["ApiKey gw_secret"], "In Authorization, write Bearer before the API key."),
    ],
)
def test_a_credential_in_the_wrong_place_is_told_the_right_one(values: list[str], said: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        bearer(values)
    assert refused.value.detail == said
