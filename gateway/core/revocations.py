"""Revocations: which credentials are refused although they are genuine and have not expired.

One revocation names a token, a subject of a tenant, a tenant, an API key, an issuer, a moment before which
credentials were issued, or several of these, which must all fit. A token is issued at its `iat` (one without
counts as older than any moment), an API key when its secret was made.

A revocation of tokens is forgotten at its `until`, when they have expired by themselves. An API key may live
longer than that: for keys a revocation is in force until it is lifted, and kept for as long as it fits one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from gateway.core.api_keys import ApiKey
from gateway.core.model import Identity, TenantId

KEEP = 30 * 86400.0  # seconds for which a revocation is kept if nobody says for how long
LONGEST = 10 * 365 * 86400.0  # seconds that a revocation may be kept
_MAX_TEXT = 500
_shown = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]*").fullmatch
# Claims that name the client to which a token was issued (RFC 9068 section 2.2): of our own, an API key's id.
_CLIENT = "client_id"


@dataclass(frozen=True, slots=True)
class Revocation:
    """What fits all that is not empty here. number: its name, 0 before it has one. until, created: seconds
    since the epoch. by: who revoked. issuer: its name in routing.yaml, or `local`."""

    until: float
    number: int = 0
    created: float = 0.0
    by: str = ""
    reason: str = ""
    jti: str = ""
    tenant: str = ""
    subject: str = ""
    api_key: str = ""
    issuer: str = ""
    before: float = 0.0

    def fits(self, identity: Identity) -> bool:
        """Whether the credential is one of those that it names."""
        return (
            (not self.jti or (identity.kind == "jwt" and self.jti == identity.credential_id))
            and (not self.tenant or self.tenant == identity.tenant.value)
            and (not self.subject or self.subject == identity.subject)
            and (not self.api_key or self.api_key == key_id(identity))
            and (not self.issuer or self.issuer == identity.issuer)
            and (not self.before or identity.issued < self.before)
        )

    def fits_key(self, key: ApiKey) -> bool:
        """Whether an API key is one of those, by one of its secrets."""
        return (
            not (self.jti or self.issuer)
            and (not self.tenant or self.tenant == key.tenant)
            and (not self.subject or self.subject == key.subject)
            and (not self.api_key or self.api_key == key.id)
            and (not self.before or any(secret.created < self.before for secret in key.secrets))
        )

    def describe(self) -> str:
        """What it names, as a clause."""
        parts = [
            self.jti and f"the token {self.jti}",
            self.api_key and f"the API key {self.api_key}",
            self.subject and f"the subject {self.tenant}/{self.subject}",
            self.tenant and not self.subject and f"the tenant {self.tenant}",
            self.issuer and f"the issuer {self.issuer}",
        ]
        return " and ".join(part for part in parts if part) or "every credential"


def view(revocation: Revocation) -> dict[str, Any]:
    """What is shown of it, as JSON has it: what it names, and times in seconds since the epoch."""
    return {name: value for name, value in asdict(revocation).items() if value not in ("", 0.0)}


def key_id(identity: Identity) -> str:
    """The id of the API key behind an identity, presented itself or exchanged for a token of our own; "" when
    there is none."""
    if identity.kind == "api_key":
        return identity.credential_id
    client = identity.claims.get(_CLIENT, "") if identity.issuer in ("", "local") else ""
    return client if isinstance(client, str) else ""


def check(revocation: Revocation, now: float) -> None:
    """That it can be meant. Raises ValueError."""
    wanted = revocation
    if wanted.subject and not wanted.tenant:
        raise ValueError("a subject is one of a tenant: name both, as in acme/alice")
    if not (wanted.jti or wanted.tenant or wanted.api_key or wanted.issuer or wanted.before):
        raise ValueError("say what is revoked: a jti, a subject, a tenant, an API key, an issuer, a moment")
    if wanted.tenant:
        TenantId(wanted.tenant)
    if not 0 <= wanted.before <= now + 1:
        raise ValueError("`before` lies in the future: what is not issued yet cannot be judged; leave it out")
    if not now < wanted.until <= now + LONGEST + 1:
        raise ValueError("it has to be kept for at least a second and at most ten years")
    for text in (wanted.jti, wanted.subject, wanted.api_key, wanted.issuer, wanted.reason):
        if len(text) > _MAX_TEXT or not _shown(text):
            raise ValueError(f"its texts may have {_MAX_TEXT} characters, none of them a control character")


# What each kind of name is in an identity; the most precise first.
_NAMES: dict[str, Callable[[Identity], str]] = {
    "jti": lambda identity: identity.credential_id if identity.kind != "api_key" else "",
    "api_key": key_id,
    "subject": lambda identity: identity.subject,
    "tenant": lambda identity: identity.tenant.value,
    "issuer": lambda identity: identity.issuer,
    "before": lambda identity: "",
}


class Revoked:
    """Revocations, looked up by what each names most precisely."""

    def __init__(self, revocations: Iterable[Revocation] = ()) -> None:
        found: dict[str, dict[str, list[Revocation]]] = {}
        for revocation in revocations:
            kind = next(name for name in _NAMES if getattr(revocation, name))
            name = getattr(revocation, kind) if kind != "before" else ""
            found.setdefault(kind, {}).setdefault(name, []).append(revocation)
        self._found = [(_NAMES[kind], by_name) for kind, by_name in found.items()]

    def covers(self, identity: Identity, now: float) -> bool:
        """Whether one of them is in force against the credential."""
        return next(self.covering(identity, now), None) is not None

    def covering(self, identity: Identity, now: float) -> Iterator[Revocation]:
        """Those that are in force against the credential."""
        for name_in, by_name in self._found:
            for revocation in by_name.get(name_in(identity), ()):
                if (revocation.until > now or identity.kind == "api_key") and revocation.fits(identity):
                    yield revocation
