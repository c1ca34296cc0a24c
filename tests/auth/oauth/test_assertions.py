"""An assertion is refused a second time for as long as it could be taken, and forgotten some time later."""

from __future__ import annotations

import json

import pytest

from gateway.auth.keys import new_signing_key
from gateway.auth.oauth.assertions import LEEWAY, LONGEST, Assertions
from gateway.auth.oauth.errors import OAuthError
from gateway.core.jwt.keys import parse_keys, sign

KEYS = parse_keys(json.dumps({"keys": [new_signing_key()]}))
NOW = 1_800_000_000.0


def assertion(jti: str, at: float) -> str:
    """The one that is good for longest of those that are taken now."""
    (key,) = KEYS
    exp = at + LONGEST + LEEWAY
    return sign({"iss": "etl", "sub": "etl", "aud": "https://a.example", "jti": jti, "exp": exp}, key)


@pytest.mark.parametrize("before", [0.0, 1.0, 200.0, 419.0, 421.0, 900.0])
def test_it_is_known_until_it_has_expired(before: float) -> None:
    assertions = Assertions(["https://a.example"])
    assertions.client(assertion("other", NOW - before), lambda client: KEYS, NOW - before)
    used = assertion("one", NOW)
    assert assertions.client(used, lambda client: KEYS, NOW) == ("etl", "one")
    at = NOW
    while at < NOW + LONGEST + 2 * LEEWAY + 60:
        at += 20.0
        with pytest.raises(OAuthError, match=r"used before|expired"):
            assertions.client(used, lambda client: KEYS, at)
        assertions.client(assertion(f"{at}", at), lambda client: KEYS, at)


def test_what_has_expired_is_not_remembered_for_ever() -> None:
    assertions = Assertions(["https://a.example"])
    for step in range(300):
        at = NOW + 10.0 * step
        assertions.client(assertion(f"{step}", at), lambda client: KEYS, at)
    assert len(assertions) < 2 * (LONGEST + 2 * LEEWAY) / 10.0 + 3
