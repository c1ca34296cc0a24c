"""What nobody but the issuer can make: no change of a token is another token, and no issuer's token is
another's, another tenant's or for another audience."""

from __future__ import annotations

import itertools
import json
import os
import random
import string
from base64 import urlsafe_b64decode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.errors import Unauthenticated
from gateway.core.jwt.algorithms import OFFERED
from gateway.core.jwt.issuer import ClaimRules, Issuer, KeyUrl, TenantRule
from gateway.core.jwt.keys import Key, parse_keys, sign
from gateway.core.jwt.verify import verify
from tests.core.jwt.test_keys import KEYS_BY_ALGORITHM, b64, key_set

NOW = 1_800_000_000.0
ISSUER = Issuer("one", "https://one.example", ("api",), KeyUrl("https://one.example/keys"), OFFERED)
CLAIMS = {
    "iss": "https://one.example", "aud": "api", "exp": int(NOW) + 60, "iat": int(NOW), "tenant": "acme",
    "sub": "alice", "scope": "a:read b", "jti": "t-1",
}  # fmt: skip
# How many changes are tried of a token of each algorithm: most where a signature costs the least.
MUTATIONS = {
    "HS256": 58_000, "HS512": 20_000, "RS256": 4_000, "PS256": 4_000, "EdDSA": 6_000, "ES256": 6_000,
    "ES384": 1_000, "ES512": 1_000,
}  # fmt: skip
ALPHABET = string.ascii_letters + string.digits + "-_"
BEYOND = "=+/. \t\n\r\0%~\x7f\xa0é\u2024\udc80"


def accepted(text: str, issuer: Issuer, keys: Any) -> bool:
    try:
        verify(text, keys, issuer, NOW)
    except Unauthenticated as error:
        assert error.__cause__ is None
        return False
    return True


def key_of(algorithm: str) -> tuple[Any, Key]:
    keys = parse_keys(key_set({"kid": algorithm, "alg": algorithm, **KEYS_BY_ALGORITHM[algorithm]}), OFFERED)
    return keys, keys.keys[0]


# --- changes of a token -----------------------------------------------------------------------------


def _replaced(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text))
    return text[:at] + rng.choice(ALPHABET if rng.random() < 0.8 else BEYOND) + text[at + 1 :]


def _inserted(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(ALPHABET + BEYOND) + text[at:]


def _removed(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text))
    return text[:at] + text[at + rng.choice((1, 1, 1, 2, 4)) :]


def _cut(text: str, rng: random.Random) -> str:
    return text[: rng.randrange(len(text))]


def _swapped(text: str, rng: random.Random) -> str:
    one, other = sorted(rng.sample(range(len(text)), 2))
    return text[:one] + text[other] + text[one + 1 : other] + text[one] + text[other + 1 :]


def _parts_exchanged(text: str, rng: random.Random) -> str:
    parts = text.split(".")
    return ".".join(rng.choices(parts, k=rng.choice((2, 3, 3, 3, 4))))


def _bit_flipped(text: str, rng: random.Random) -> str:
    """In the bytes of a part, which is encoded as it should be again."""
    parts = text.split(".")
    index = rng.randrange(3)
    raw = bytearray(urlsafe_b64decode(parts[index] + "=="))
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return ".".join([*parts[:index], b64(bytes(raw)), *parts[index + 1 :]])


def _claim_changed(text: str, rng: random.Random) -> str:
    """Another claim or member of the header, all of it well-formed."""
    parts = text.split(".")
    index = rng.randrange(2)
    values = json.loads(urlsafe_b64decode(parts[index] + "=="))
    name = rng.choice(list(values))
    values[name] = rng.choice(["globex", "none", "HS256", 2**40, None, [], {}, [values[name]]])
    written = b64(json.dumps(values, separators=(",", ":")).encode())
    return ".".join([*parts[:index], written, *parts[index + 1 :]])


_TEXT: list[Callable[[str, random.Random], str]] = [
    _replaced, _replaced, _inserted, _removed, _cut, _swapped, _parts_exchanged,
]  # fmt: skip
_CHANGES = [*_TEXT, _bit_flipped, _claim_changed]


@pytest.mark.parametrize("algorithm", MUTATIONS)
def test_no_change_of_a_token_is_accepted(algorithm: str) -> None:
    """Of 100,000 changes, none but those that give the token itself again."""
    seed = int(os.environ.get("FORGERY_SEED") or random.randrange(2**32))
    rng = random.Random(seed)
    keys, key = key_of(algorithm)
    token = sign(CLAIMS, key)
    assert accepted(token, ISSUER, keys)
    for _ in range(MUTATIONS[algorithm]):
        changed = rng.choice(_CHANGES)(token, rng)
        for _ in range(rng.choice((0, 0, 0, 1, 2))):
            changed = rng.choice(_TEXT)(changed, rng) if len(changed) > 1 else changed
        if changed != token:
            assert not accepted(changed, ISSUER, keys), f"FORGERY_SEED={seed}: {changed!r} of {token}"


def test_all_changes_together_are_100_000() -> None:
    assert sum(MUTATIONS.values()) == 100_000


# --- who speaks for whom ----------------------------------------------------------------------------


def _issuer(name: str, **more: Any) -> Issuer:
    return replace(ISSUER, name=name, issuer=f"https://{name}.example", **more)


NAMES = ("one", "two", "three")
ISSUERS = {name: _issuer(name) for name in NAMES}
KEYS = {name: key_of(algorithm) for name, algorithm in zip(NAMES, ("EdDSA", "HS256", "ES256"), strict=True)}


@pytest.mark.parametrize(("signer", "said", "judge"), list(itertools.product(NAMES, repeat=3)))
def test_no_issuer_speaks_for_another(signer: str, said: str, judge: str) -> None:
    """signer: whose key signs. said: whom the token names as its issuer. judge: as whose it is checked."""
    token = sign({**CLAIMS, "iss": f"https://{said}.example"}, KEYS[signer][1])
    assert accepted(token, ISSUERS[judge], KEYS[judge][0]) == (signer == said == judge)


@pytest.mark.parametrize(("said", "judge"), list(itertools.product(NAMES, repeat=2)))
def test_issuers_that_share_a_key_still_speak_for_themselves_alone(said: str, judge: str) -> None:
    """As the tenants of one identity provider do."""
    keys, key = KEYS["one"]
    token = sign({**CLAIMS, "iss": f"https://{said}.example"}, key)
    assert accepted(token, ISSUERS[judge], keys) == (said == judge)


@pytest.mark.parametrize(
    "said",
    ["https://one.example/", "HTTPS://one.example", "https://one.example\n", "https://one.exampl", "", None,
     ["https://one.example"], {"https://one.example": 1}, 1, True],
)  # fmt: skip
def test_an_issuer_is_compared_letter_for_letter(said: Any) -> None:
    keys, key = KEYS["one"]
    assert not accepted(sign({**CLAIMS, "iss": said}, key), ISSUERS["one"], keys)


def test_an_issuer_is_matched_before_a_key_is_looked_at() -> None:
    token = sign({**CLAIMS, "iss": "https://two.example"}, KEYS["one"][1])
    with pytest.raises(Unauthenticated) as caught:
        verify(token, KEYS["two"][0], ISSUER, NOW)
    assert "`iss`" in caught.value.detail
    assert caught.value.reason == ""


TENANTS = ("acme", "globex", "acme-eu")
RULES = {
    "acme": TenantRule(names=frozenset({"acme"})), "globex": TenantRule(names=frozenset({"globex"})),
    "acme-eu": TenantRule(prefixes=("acme-",)),
}  # fmt: skip


@pytest.mark.parametrize(("said", "judge"), list(itertools.product(TENANTS, repeat=2)))
def test_no_tenants_issuer_speaks_for_another_tenant(said: str, judge: str) -> None:
    keys, key = KEYS["one"]
    token = sign({**CLAIMS, "tenant": said}, key)
    assert accepted(token, replace(ISSUER, tenants=RULES[judge]), keys) == (said == judge)
    fixed = replace(ISSUER, tenants=TenantRule(fixed=judge))
    assert verify(token, keys, fixed, NOW).tenant.value == judge


AUDIENCES: list[Any] = [
    "api", "other", ["api"], ["other"], ["other", "api"], [], "", None, "api ", ["api "], "API", {"api": 1},
    [["api"]], True,
]  # fmt: skip


@pytest.mark.parametrize("judges", [("api",), ("other",), ("api", "other"), ("third",)])
@pytest.mark.parametrize("said", AUDIENCES)
def test_no_token_is_good_for_another_audience(said: Any, judges: tuple[str, ...]) -> None:
    keys, key = KEYS["one"]
    token = sign({**CLAIMS, "aud": said}, key)
    meant = said if isinstance(said, list) else [said]
    issuer = replace(ISSUER, audiences=judges)
    assert accepted(token, issuer, keys) == any(name in judges for name in meant)


@pytest.mark.parametrize("algorithm", MUTATIONS)
def test_a_token_is_good_with_the_algorithms_that_are_pinned_alone(algorithm: str) -> None:
    keys, key = key_of(algorithm)
    token = sign(CLAIMS, key)
    assert accepted(token, replace(ISSUER, algorithms=(algorithm,)), keys)
    others = tuple(name for name in OFFERED if name != algorithm and not name.startswith("Ed"))
    assert not accepted(token, replace(ISSUER, algorithms=others), keys)


# --- what an issuer itself may write ----------------------------------------------------------------

ODD: list[Any] = [
    None, True, False, 0, -1, 2**63, 10**30, 1.5, -0.0, 1e300, NOW + 60, "", "acme", "a b", " ", "\u212a",
    "é", "\0",
    "JWT", "HS256", "https://one.example", "api", [], {}, ["acme"], ["api", 1], [None], [[]],
    {"roles": ["a", {}]},
    {"a.b": {"c": 1}}, "x" * 9000, ["y" * 100] * 100,
]  # fmt: skip
RULE_TEXTS = [
    "sub",
    "a",
    "a.b",
    "a.b.c",
    "realm.roles",
    "x:{a}",
    "{a.b}:y",
    "https://e.x/t",
    "{sub}",
    "aud",
    "exp",
]


def test_no_claim_and_no_rule_is_more_than_a_refusal() -> None:
    """Whatever the issuer writes, there is an identity that fits into header lines, or a 401: never a bug."""
    seed = int(os.environ.get("FORGERY_SEED") or random.randrange(2**32))
    rng = random.Random(seed)
    keys, key = key_of("HS256")
    identities = 0
    for _ in range(4_000):
        names = [
            "sub",
            "tenant",
            "scope",
            "aud",
            "exp",
            "nbf",
            "iat",
            "iss",
            "jti",
            "a",
            "realm",
            "https://e.x/t",
        ]
        claims = CLAIMS | {name: rng.choice(ODD) for name in rng.sample(names, rng.choice((0, 1, 1, 2, 3)))}
        rules = ClaimRules(
            *rng.choices(RULE_TEXTS, k=2), tuple(rng.choices(RULE_TEXTS, k=rng.choice((0, 1, 3))))
        )
        tenants = rng.choice([*RULES.values(), TenantRule(any=True), TenantRule(fixed="acme")])
        issuer = replace(ISSUER, claims=rng.choice([rules, ClaimRules()]), tenants=tenants)
        try:
            who = verify(sign(claims, key), keys, issuer, NOW)
        except Unauthenticated:
            continue
        identities += 1
        assert who.lines.count(b"\r\n") == 3, f"FORGERY_SEED={seed}"
        assert who.lines.isascii(), f"FORGERY_SEED={seed}"
        assert set(who.scope_text.split(" ") if who.scope_text else []) == who.scopes, f"FORGERY_SEED={seed}"
    assert identities > 50
