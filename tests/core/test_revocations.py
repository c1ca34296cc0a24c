"""What a revocation covers: all that it names must fit, and nothing else is touched."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.api_keys import ApiKey, KeySecret
from gateway.core.model import Identity, TenantId
from gateway.core.revocations import LONGEST, Revocation, Revoked, check

NOW = 1_000_000.0


def token(**more: Any) -> Identity:
    values: dict[str, Any] = {
        "tenant": TenantId("acme"),
        "subject": "alice",
        "scopes": frozenset(),
        "expires": NOW + 600,
        "issuer": "keycloak",
        "credential_id": "j1",
        "issued": NOW - 60,
        **more,
    }
    return Identity(**values)


def api_key(**more: Any) -> Identity:
    return token(**{"kind": "api_key", "issuer": "", "credential_id": "k1", **more})


def covers(identity: Identity, now: float = NOW, until: float = NOW + 1, **what: Any) -> bool:
    return Revoked([Revocation(until, **what)]).covers(identity, now)


@pytest.mark.parametrize(
    ("what", "others"),
    [
        ({"jti": "j1"}, [{"credential_id": "j2"}, {"credential_id": ""}]),
        ({"tenant": "acme", "subject": "alice"}, [{"subject": "bob"}, {"tenant": TenantId("globex")}]),
        ({"tenant": "acme"}, [{"tenant": TenantId("globex")}, {"tenant": TenantId("acme-2")}]),
        ({"issuer": "keycloak"}, [{"issuer": "local"}, {"issuer": ""}]),
        ({"before": NOW - 59}, [{"issued": NOW - 59}, {"issued": NOW}]),
        ({"jti": "j1", "issuer": "keycloak"}, [{"issuer": "local"}, {"credential_id": "j2"}]),
        ({"tenant": "acme", "before": NOW - 59}, [{"issued": NOW - 58}, {"tenant": TenantId("globex")}]),
        ({"issuer": "keycloak", "before": NOW - 59}, [{"issued": NOW - 58}, {"issuer": "local"}]),
    ],
)
def test_a_token_is_covered_when_all_fits(what: dict[str, Any], others: list[dict[str, Any]]) -> None:
    assert covers(token(), **what)
    for other in others:
        assert not covers(token(**other), **what)


def test_a_token_without_iat_is_older_than_any_moment() -> None:
    assert covers(token(issued=0.0), before=1.0)


def test_an_id_names_a_token_or_an_api_key_and_never_the_other() -> None:
    assert covers(api_key(), api_key="k1") and not covers(token(credential_id="k1"), api_key="k1")
    assert covers(token(), jti="j1") and not covers(api_key(credential_id="j1"), jti="j1")


def test_a_token_that_was_made_with_an_api_key_ends_with_it_but_no_other_issuer_can_name_one() -> None:
    assert covers(token(issuer="local", claims={"client_id": "k1"}), api_key="k1")
    assert not covers(token(issuer="keycloak", claims={"client_id": "k1"}), api_key="k1")
    assert not covers(token(issuer="local", claims={"client_id": ["k1"]}), api_key="k1")


def test_tokens_are_covered_until_they_have_expired_and_api_keys_for_good() -> None:
    assert not covers(token(), now=NOW + 1, tenant="acme")
    assert covers(api_key(), now=NOW + 1, tenant="acme")


def test_one_of_many_is_enough() -> None:
    many = Revoked([Revocation(NOW + 1, jti=f"j{number}") for number in range(1000)])
    assert many.covers(token(credential_id="j999"), NOW) and not many.covers(token(credential_id="j"), NOW)


@pytest.mark.parametrize("newer_first", [False, True])
def test_of_two_moments_the_later_one_counts_whichever_is_for_more(newer_first: bool) -> None:
    """An old one for all has masked a newer one for some elsewhere."""
    both = [Revocation(NOW + 1, before=NOW - 900), Revocation(NOW + 1, tenant="acme", before=NOW - 59)]
    assert Revoked(both[::-1] if newer_first else both).covers(token(), NOW)
    assert not Revoked(both).covers(token(tenant=TenantId("globex")), NOW)


def test_a_revocation_is_kept_while_it_fits_a_key() -> None:
    key = ApiKey("k1", "acme", "alice", "", "", 10.0, "", (KeySecret(b"", 10.0, 20.0),))
    for what in (
        {"tenant": "acme"},
        {"tenant": "acme", "subject": "alice"},
        {"api_key": "k1"},
        {"before": 11.0},
    ):
        assert Revocation(1.0, **what).fits_key(key)  # type: ignore[arg-type]
    for what in ({"tenant": "globex"}, {"jti": "k1"}, {"issuer": "a", "tenant": "acme"}, {"before": 10.0}):
        assert not Revocation(1.0, **what).fits_key(key)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ({}, "say what is revoked"),
        ({"subject": "alice"}, "one of a tenant"),
        ({"tenant": "ACME"}, "tenant's name"),
        ({"before": NOW + 60}, "in the future"),
        ({"tenant": "acme", "until": NOW}, "at least a second"),
        ({"tenant": "acme", "until": NOW + LONGEST + 10}, "ten years"),
        ({"tenant": "acme", "until": float("nan")}, "ten years"),
        ({"before": float("nan")}, "in the future"),
        ({"jti": "a\nb"}, "control character"),
        ({"tenant": "acme", "reason": "x" * 501}, "500 characters"),
    ],
)
def test_what_cannot_be_meant_is_refused(what: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check(Revocation(**{"until": NOW + 60, **what}), NOW)


def test_what_it_names_in_words() -> None:
    assert Revocation(1.0, tenant="acme", subject="alice").describe() == "the subject acme/alice"
    assert Revocation(1.0, jti="j1", issuer="sso").describe() == "the token j1 and the issuer sso"
    assert Revocation(1.0, before=5.0).describe() == "every credential"
