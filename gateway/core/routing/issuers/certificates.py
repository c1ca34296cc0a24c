"""Who calls with a client's certificate: the entries of `certificates` as compiled, and what is wrong with
them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import cast

from gateway.core.model import TenantId
from gateway.core.policy.certificates import CertificateRule, Kind, NamePattern
from gateway.core.routing.issuers.settings import CertificateSettings
from gateway.core.routing.problems import Problem, did_you_mean


def compile_certificates(written: Mapping[str, CertificateSettings]) -> tuple[CertificateRule, ...]:
    """All entries, in their order."""
    return tuple(
        CertificateRule(
            name,
            tuple(map(_pattern, entry.subjects)),
            TenantId(entry.tenant),
            frozenset(entry.scopes),
            entry.tls or "",
        )
        for name, entry in written.items()
    )


def _pattern(text: str) -> NamePattern:
    kind, _, name = text.partition(":")
    if kind in ("dns", "email"):
        name = name.lower()
    before, star, after = name.partition("*")
    return NamePattern(cast(Kind, kind), before, after, wild=bool(star))


def certificate_problems(
    written: Mapping[str, CertificateSettings], tenants: Collection[str], issuers: Collection[str]
) -> Iterator[Problem]:
    """Paths begin at the top. tenants, issuers: the names that there are."""
    owners: dict[str, list[str]] = {}  # by subject
    for name, entry in written.items():
        path = ("certificates", name)
        if name in issuers:
            reason = f"an issuer has the name {name!r} too, and revocations name both by it"
            yield Problem(path, reason, "choose another name")
        if entry.tenant not in tenants:
            hint = did_you_mean(entry.tenant, tenants) + "tenants are written below tenants: at the top"
            yield Problem((*path, "tenant"), f"there is no tenant {entry.tenant!r}", hint)
        for index, text in enumerate(entry.subjects):
            before = owners.setdefault(text, [])
            owner = next((one for one in before if one != name and _meet(written[one], entry)), None)
            if owner is not None:
                reason = f"{owner!r} has it too, so its certificates would be nobody's"
                yield Problem((*path, "subjects", index), reason, "remove it from one of the two")
            before.append(name)


def _meet(one: CertificateSettings, other: CertificateSettings) -> bool:
    """Whether both count for what one section has verified."""
    return one.tls is None or other.tls is None or one.tls == other.tls
