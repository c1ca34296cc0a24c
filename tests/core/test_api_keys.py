"""API keys as text: one spelling, a checksum, and nothing of the secret but its digest."""

from __future__ import annotations

import hashlib
import random
import re

import pytest

from gateway.core import api_keys
from gateway.core.api_keys import FOREVER, ApiKey, KeySecret, compose, id_in, identity, is_api_key, split
from gateway.core.errors import Unauthenticated

ID = "7Kq0ZmP3xA"
TEXT = compose(ID, 2**256 - 1)
DIGEST = split(TEXT)[1]


def key(*secrets: KeySecret, revoked: float = 0.0) -> ApiKey:
    return ApiKey(ID, "acme", "etl", "a b", "nightly", 100.0, "alice", secrets, revoked)


def test_a_key_is_what_the_pattern_for_scanners_finds_in_a_text() -> None:
    assert re.findall(api_keys.PATTERN, f"KEY={TEXT}\n") == [TEXT]
    assert TEXT.startswith(f"gw_{ID}_") and len(TEXT) == 63 and is_api_key(TEXT)


def test_the_digest_is_of_the_secret_alone() -> None:
    secret = TEXT.split("_")[2][:43]
    assert split(TEXT) == (ID, hashlib.sha256(secret.encode()).digest())


def test_different_secrets_are_different_keys() -> None:
    some = random.Random(1)
    assert len({compose(ID, some.getrandbits(256)) for _ in range(1000)} | {compose(ID, 0)}) == 1001


@pytest.mark.parametrize("position", range(len(TEXT)))
def test_a_key_with_one_wrong_character_is_refused_before_a_look_up(position: int) -> None:
    wrong = "x" if TEXT[position] != "x" else "y"
    with pytest.raises(Unauthenticated, match="mistyped"):
        split(TEXT[:position] + wrong + TEXT[position + 1 :])


@pytest.mark.parametrize(
    "text",
    [
        "gw_",
        TEXT[:-1],
        f"{TEXT}0",
        f" {TEXT}",
        f"{TEXT}\n",
        TEXT.replace("gw_", "GW_"),
        TEXT.replace("_", "-"),
        TEXT.replace("7", "٧"),
        f"gw_{'é' * 60}",
        "gw_" + "0" * 20_000,
    ],
)
def test_what_is_no_whole_key_is_refused(text: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        split(text)
    assert text.strip() not in str(refused.value)


@pytest.mark.parametrize("text", [ID, f"gw_{ID}", TEXT, f" {TEXT}\n", f"gw_{ID}_..."])
def test_an_operator_may_name_a_key_by_its_id_or_by_what_was_leaked(text: str) -> None:
    assert id_in(text) == ID


@pytest.mark.parametrize("text", ["", "acme", "gw_", TEXT[4:], "7Kq0ZmP3x", f"{ID}A"])
def test_what_holds_no_id_is_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="keys list") as wrong:
        id_in(text)
    assert not text or text not in str(wrong.value).replace("gateway", "")


def test_a_key_says_who_calls_until_its_secret_ends() -> None:
    who = identity(key(KeySecret(DIGEST, 100.0, 9000.0)), DIGEST, 4000.0)
    assert (who.tenant.value, who.subject, who.scopes, who.scope_text) == ("acme", "etl", {"a", "b"}, "a b")
    assert (who.kind, who.issuer, who.credential_id, who.issued) == ("api_key", "", ID, 100.0)
    assert (who.expires, who.good_until) == (9000.0, 7200.0)


def test_a_key_is_looked_up_again_in_each_hour_and_at_its_end() -> None:
    never = key(KeySecret(DIGEST, 0.0, FOREVER))
    assert identity(never, DIGEST, 3599.0).good_until == 3600.0
    assert identity(never, DIGEST, 3600.0).good_until == 7200.0
    assert identity(key(KeySecret(DIGEST, 0.0, 4000.0)), DIGEST, 3600.0).good_until == 4000.0


@pytest.mark.parametrize(
    ("now", "digest", "revoked", "reason"),
    [
        (999.0, b"x" * 32, 0.0, "not known"),
        (999.0, b"", 0.0, "not known"),
        (1000.0, DIGEST, 0.0, "has expired"),
        (500.0, DIGEST, 400.0, "was revoked"),
        (500.0, b"x" * 32, 400.0, "not known"),
    ],
)
def test_a_key_is_refused_with_a_reason_that_only_its_holder_gets(
    now: float, digest: bytes, revoked: float, reason: str
) -> None:
    with pytest.raises(Unauthenticated, match=reason):
        identity(key(KeySecret(DIGEST, 0.0, 1000.0), revoked=revoked), digest, now)


def test_after_a_rotation_both_secrets_are_good_until_the_overlap_is_over() -> None:
    rotated = key(KeySecret(b"n" * 32, 500.0, 9000.0), KeySecret(DIGEST, 0.0, 700.0))
    assert identity(rotated, DIGEST, 699.0).expires == 700.0
    assert identity(rotated, b"n" * 32, 699.0).expires == 9000.0
    with pytest.raises(Unauthenticated, match="replaced by a new one"):
        identity(rotated, DIGEST, 700.0)
    assert (rotated.until(0.0), rotated.until(500.0), rotated.until(1.0)) == (700.0, 9000.0, 0.0)


def test_no_text_of_a_key_shows_its_digest() -> None:
    assert "digest" not in repr(key(KeySecret(DIGEST, 0.0, 1.0)))


def test_states() -> None:
    alive = key(KeySecret(DIGEST, 0.0, 1000.0))
    assert [alive.state(999.0), alive.state(1000.0)] == ["active", "expired"]
    assert key(KeySecret(DIGEST, 0.0, 1000.0), revoked=5.0).state(999.0) == "revoked"
