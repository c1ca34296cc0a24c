"""A client's certificate that is explained: what a handshake would tell of it, and whose it is."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from gateway.call import Call
from gateway.core.policy.certificates import Kind, Name, covering
from gateway.runtime.moments import moment

_KINDS: Mapping[type[x509.GeneralName], Kind] = {
    x509.UniformResourceIdentifier: "uri",
    x509.RFC822Name: "email",
    x509.DNSName: "dns",
}
_MOST = 10  # names that are shown


@dataclass(frozen=True, slots=True)
class Shown:
    """As `gateway.call.Certificate`, of no connection. tls: "" where nobody said to which it is shown."""

    names: tuple[Name, ...]
    fingerprint: str
    begins: float
    ends: float
    lines: bytes = b""
    is_current: bool = True
    tls: str = ""


@dataclass(frozen=True, slots=True)
class Showing:
    """A client of which nothing else is known."""

    certificate: Shown


def read(pem: str, tls: str = "") -> Shown:
    """The first certificate of a PEM text. tls: the section that would verify it. Raises ValueError."""
    try:
        found = x509.load_pem_x509_certificates(pem.encode())[0]
        return Shown(
            tuple(_names(found)),
            base64.urlsafe_b64encode(found.fingerprint(SHA256())).decode().rstrip("="),
            found.not_valid_before_utc.timestamp(),
            found.not_valid_after_utc.timestamp(),
            tls=tls,
        )
    except ValueError:
        raise ValueError("there is no certificate in it that can be read, in PEM") from None


def _names(found: x509.Certificate) -> Iterator[Name]:
    try:
        shown = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        shown = x509.SubjectAlternativeName([])
    for one in shown:
        if type(one) in _KINDS:
            yield Name(_KINDS[type(one)], one.value)
    for attribute in found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME):
        yield Name("cn", str(attribute.value))


def rows(call: Call, shown: Shown) -> Iterator[tuple[str, str]]:
    """Its names, and which entry of `certificates` has one of them, or why it does not count."""
    if call.route is None or call.route.public:
        return
    names = ", ".join(f"{name.kind}:{name.value[:200]}" for name in shown.names[:_MOST]) or "no name"
    times = f"valid from {moment(shown.begins)} to {moment(shown.ends)}"
    yield "certificate", f"{names}; {times}; that a listener's verify takes it is not looked at here"
    rule = call.route.callers
    if rule is None or "mtls" not in rule.kinds:
        yield "entry", "not looked for: the route has no auth: [mtls]"
    elif call.identity is not None and call.identity.kind != "mtls":
        yield "entry", "not looked for: another credential came with it, which counts here"
    else:
        yield "entry", _entry(call, shown)


def _entry(call: Call, shown: Shown) -> str:
    named = [pair for rule in call.snapshot.certificates for pair in covering(rule, shown.names)]
    found = [(rule, name) for rule, name in named if rule.counts_for(shown.tls)]
    entries = list(dict.fromkeys(rule.name for rule, _ in found))
    if not named:
        return "none of certificates: has one of its names among its subjects"
    if not found:
        where = dict.fromkeys(f"certificates.{rule.name} counts on [tls:{rule.tls}]" for rule, _ in named)
        return f"{', '.join(where)} alone, and {_section(shown)}"
    if len(entries) > 1:
        return f"{' and '.join(entries)} of certificates: both have a name of it, so it is nobody's"
    rule, name = found[0]
    scopes = " ".join(sorted(rule.scopes)) or "none"
    whose = f"tenant {rule.tenant.value}, scopes {scopes}"
    return f"certificates.{rule.name}, by {name.kind}:{name.value}: {whose}"


def _section(shown: Shown) -> str:
    if shown.tls:
        return f"it is shown on [tls:{shown.tls}]"
    return "it is not said where it is shown (--tls NAME)"
