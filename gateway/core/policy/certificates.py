"""Who calls with a client's certificate: whose tenant it is, by the names in it. What no rule names, or two
rules, is nobody's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gateway.core.errors import Unauthenticated
from gateway.core.model import SUBJECT_PATTERN, Identity, TenantId

Kind = Literal["uri", "email", "dns", "cn"]
KINDS: tuple[Kind, ...] = ("uri", "email", "dns", "cn")
_subject = re.compile(SUBJECT_PATTERN).fullmatch
_ENDS: Mapping[Kind, str] = {"dns": ".", "email": "@"}  # what `*` never stands for
UNKNOWN = "The client's certificate is not known here."


class Name(NamedTuple):
    """One name in a certificate: a SubjectAltName that is a URI, an address of e-mail or a name of DNS, or a
    common name."""

    kind: Kind
    value: str


class NamePattern(NamedTuple):
    """A name, or (wild) all with something between `before` and `after`: in a name of DNS one label, in an
    address of e-mail what is before the @."""

    kind: Kind
    before: str
    after: str = ""
    wild: bool = False

    def covers(self, name: Name) -> bool:
        """Whether it stands for this name."""
        if name.kind != self.kind:
            return False
        value = name.value if self.kind in ("uri", "cn") else name.value.lower()
        if not self.wild:
            return value == self.before
        if not (value.startswith(self.before) and value.endswith(self.after)):
            return False
        inner = value[len(self.before) : len(value) - len(self.after)]
        fits = len(value) > len(self.before) + len(self.after)
        return fits and _ENDS.get(self.kind, "\0") not in inner


@dataclass(frozen=True, slots=True)
class CertificateRule:
    """One entry of `certificates`: the certificates with one of these names are this tenant's. tls: of those
    that the section [tls:NAME] has verified alone; "" of all."""

    name: str
    subjects: tuple[NamePattern, ...]
    tenant: TenantId
    scopes: frozenset[str] = frozenset()
    tls: str = ""

    def counts_for(self, tls: str) -> bool:
        """Whether it counts for what this section has verified."""
        return self.tls in ("", tls)


def identify(
    rules: Iterable[CertificateRule],
    tls: str,
    names: Iterable[Name],
    fingerprint: str,
    begins: float,
    ends: float,
) -> Identity:
    """The identity of a certificate with these names. tls: the section that has verified it. fingerprint: of
    the certificate, its id. begins, ends: when it is valid, in seconds since the epoch. Raises
    Unauthenticated unless exactly one rule names it."""
    found = [pair for rule in rules if rule.counts_for(tls) for pair in covering(rule, names)]
    if len({rule.name for rule, _ in found}) != 1:
        raise Unauthenticated(UNKNOWN)
    rule, name = found[0]
    if not _subject(name.value):
        raise Unauthenticated(UNKNOWN)
    return Identity(
        rule.tenant,
        name.value,
        rule.scopes,
        ends,
        " ".join(sorted(rule.scopes)),
        rule.name,
        "mtls",
        fingerprint,
        begins,
    )


def covering(rule: CertificateRule, names: Iterable[Name]) -> list[tuple[CertificateRule, Name]]:
    """The rule with each of the names that it covers, in the order of its patterns."""
    names = tuple(names)
    return [(rule, name) for pattern in rule.subjects for name in names if pattern.covers(name)]
