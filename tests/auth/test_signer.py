"""Who calls, signed for a backend."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import jwt
import pytest

from gateway.auth.keys import key_set_text, new_signing_key
from gateway.auth.signer import LIFETIME, OVERLAP, Signer
from gateway.auth.signing_keys import SigningKeys
from gateway.core.model import Identity, TenantId


class Clock:
    now = 1_800_000_000.75

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ann() -> Identity:
    return Identity(TenantId("acme"), "ann", frozenset({"a", "b"}), 2_000_000_000.0, "a b")


@pytest.fixture
def signer(tmp_path: Path, clock: Clock) -> Signer:
    made = Signer(tmp_path, "gateway", clock)
    made.start()
    return made


def claims(signer: Signer, line: bytes, audience: str, clock: Clock) -> dict[str, Any]:
    """What a backend reads of it, with the public keys that it was given."""
    name, _, value = line.decode().partition(": ")
    assert (name, value[-2:]) == ("X-Gateway-Identity", "\r\n")
    token = value.strip()
    header = jwt.get_unverified_header(token)
    assert (header["alg"], header["typ"]) == ("EdDSA", "gateway-identity+jwt")
    keys = jwt.PyJWKSet.from_json(signer.public_path.read_text())
    key = next(key for key in keys.keys if key.key_id == header["kid"])
    times = {"verify_exp": False, "verify_iat": False}
    read = jwt.decode(token, key.key, ["EdDSA"], times, audience=audience, issuer="gateway")
    assert read["iat"] <= clock.now < read["exp"]
    return dict(read)


def test_it_names_the_caller_for_one_backend_and_a_minute(
    signer: Signer, clock: Clock, ann: Identity
) -> None:
    now = int(clock.now)
    assert claims(signer, signer.lines(ann, "catalog"), "catalog", clock) == {
        "iss": "gateway", "aud": "catalog", "iat": now, "exp": now + LIFETIME,
        "tenant": "acme", "sub": "ann", "scope": "a b",
    }  # fmt: skip
    with pytest.raises(jwt.InvalidAudienceError):
        claims(signer, signer.lines(ann, "catalog"), "reports", clock)


def test_of_nobody_it_says_only_that_the_request_came_through(signer: Signer, clock: Clock) -> None:
    assert claims(signer, signer.lines(None, "catalog"), "catalog", clock).keys() == {
        "iss", "aud", "iat", "exp",
    }  # fmt: skip


def test_it_is_signed_once_for_half_its_life_of_each_identity_and_backend(
    signer: Signer, clock: Clock, ann: Identity
) -> None:
    for identity in (ann, None):
        first = signer.lines(identity, "catalog")
        clock.now += LIFETIME / 2 - 1
        assert signer.lines(identity, "catalog") is first
        assert signer.lines(identity, "reports") != first
        clock.now += 1
        assert signer.lines(identity, "catalog") != first


def test_one_bound_to_a_request_names_it_and_is_not_kept(signer: Signer, clock: Clock, ann: Identity) -> None:
    line = signer.bound(ann, "catalog", "POST", "/stock?a=%C3%A9&b=\udcff")
    found = claims(signer, line, "catalog", clock)
    assert (found["htm"], found["target"], found["tenant"]) == ("POST", "/stock?a=%C3%A9&b=\udcff", "acme")
    assert "htm" not in claims(signer, signer.lines(ann, "catalog"), "catalog", clock)


async def test_a_new_key_is_published_at_once_and_signs_when_everybody_has_it(
    signer: Signer, clock: Clock, ann: Identity
) -> None:
    def kid(line: bytes) -> str:
        claims(signer, line, "catalog", clock)  # with a published key
        return str(jwt.get_unverified_header(line.decode().split()[1])["kid"])

    old = kid(signer.lines(ann, "catalog"))
    new = signer.keys.rotate(clock.now, OVERLAP).kid
    await signer.refresh()
    assert new in signer.public_path.read_text()
    used = set()
    for _ in range(0, int(3 * OVERLAP), 10):
        clock.now += 10
        await signer.refresh()
        used.add(kid(signer.lines(ann, "catalog")))
    assert used == {old, new}
    assert old not in signer.public_path.read_text()


async def test_what_a_key_that_leaked_has_signed_is_not_used_any_more(
    signer: Signer, clock: Clock, ann: Identity
) -> None:
    """Another process has changed the file, as `gateway keys rotate-signing --leaked` does."""
    before = signer.lines(ann, "catalog")
    clock.now += 5
    SigningKeys(signer.keys.path).rotate(clock.now, 0.0, 0.0)
    clock.now += 1
    await signer.refresh()
    claims(signer, signer.lines(ann, "catalog"), "catalog", clock)
    clock.now += 1
    after = signer.lines(ann, "catalog")
    assert after != before
    clock.now += 20
    assert signer.lines(ann, "catalog") is after


async def test_a_file_in_which_no_key_may_sign_leaves_the_last_one_signing(
    signer: Signer, clock: Clock, ann: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    later = {**new_signing_key(), "gw_use_after": int(clock.now) + 900}
    signer.keys.path.write_bytes(key_set_text([later]))
    with caplog.at_level(logging.ERROR):
        await signer.refresh()
        await signer.refresh()
    assert caplog.text.count("The last identity key goes on") == 1
    assert signer.lines(ann, "catalog")


def test_no_private_half_is_published(signer: Signer) -> None:
    (key,) = json.loads(signer.public_path.read_text())["keys"]
    assert "d" not in key
