"""TLS of listeners, as the sections [tls:NAME] of gateway.conf say: certificates, and whether clients show
one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

from gateway.core.policy.certificates import CertificateRule
from gateway.core.process import ini
from gateway.core.process.listeners import Listen
from gateway.core.process.operators import Reader
from gateway.core.routing.amounts import parse_lifetime
from gateway.core.routing.problems import Problem, Wrong, did_you_mean

SECTION = "tls:"  # and a name behind it, by which listeners name it
KEYS = frozenset({"certificate", "key", "verify", "client", "crl", "hsts"})
CLIENT = ("required", "optional")
_MAX_HSTS = 10 * 365 * 86_400  # seconds


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate with its chain, and its private key: PEM files, the same one where it holds both."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """One section. pairs: the first one is for clients that name no server, or one that no certificate has.
    verify: the CA certificates that clients' certificates are verified with, "" for none asked; client:
    whether one is required then. crl: a file of revoked ones, "" for none. hsts: seconds for which browsers
    are told to come by HTTPS only (RFC 6797), 0 for not."""

    name: str
    pairs: tuple[KeyPair, ...]
    verify: str = ""
    client: str = "required"
    crl: str = ""
    hsts: int = 0

    @property
    def files(self) -> tuple[str, ...]:
        """All files that it is read from."""
        pairs = (path for pair in self.pairs for path in (pair.certificate, pair.key))
        return tuple(dict.fromkeys(path for path in (*pairs, self.verify, self.crl) if path))


def parse(read: Reader, folder: PurePath) -> tuple[TlsSettings, ...]:
    """All sections [tls:NAME]. folder: where relative paths start. Problems go to `read`."""
    return tuple(_section(read, section, name, folder) for section, name in ini.named(read, SECTION))


def unknown_sections(rules: Iterable[CertificateRule], sections: Iterable[TlsSettings]) -> Iterator[Problem]:
    """What is wrong with the sections that entries of `certificates` in the routing config name."""
    asks = {one.name: bool(one.verify) for one in sections}
    for rule in rules:
        path = ("certificates", rule.name, "tls")
        if rule.tls and rule.tls not in asks:
            hint = f"{did_you_mean(rule.tls, asks)}known here: {', '.join(sorted(asks)) or 'none'}"
            yield Problem(path, f"there is no section [{SECTION}{rule.tls}] in gateway.conf", hint)
        elif rule.tls and not asks[rule.tls]:
            reason = f"[{SECTION}{rule.tls}] in gateway.conf asks clients for no certificate"
            yield Problem(path, reason, "write verify = ca.pem there, or name another section")


def https_port(one: Listen, beside: Iterable[Listen]) -> int:
    """The port of HTTPS that a listener with redirect= sends its clients to: the one written there, that of
    the first listener with TLS beside it, or 443."""
    written = one.redirect.partition(":")[2]
    return int(written) if written else next((other.port for other in beside if other.tls), 443)


def _section(read: Reader, section: str, name: str, folder: PurePath) -> TlsSettings:
    verify, crl = _path(read, section, "verify", folder), _path(read, section, "crl", folder)
    client = read.text(section, "client", CLIENT[0])
    if client not in CLIENT:
        read.wrong(section, "client", f"{client!r} is not offered", "write required or optional")
    for key in ("client", "crl"):
        if read.text(section, key, "") and not verify:
            reason = "clients are asked for no certificate without verify"
            read.wrong(section, key, reason, f"write verify = ca.pem, or remove {key}")
    return TlsSettings(name, _pairs(read, section, folder), verify, client, crl, _hsts(read, section))


def _pairs(read: Reader, section: str, folder: PurePath) -> tuple[KeyPair, ...]:
    certificates, keys = _lines(read, section, "certificate"), _lines(read, section, "key")
    if not certificates:
        hint = "write certificate = server.pem (with its chain), and key = server.key"
        read.wrong(section, "certificate" if "certificate" in read.sections[section] else "",
                   "it names no certificate", hint)  # fmt: skip
    if keys and len(keys) != len(certificates):
        number = f"{len(certificates)} certificate{'s' if len(certificates) > 1 else ''}"
        reason = f"there are {number} and {len(keys)} key{'s' if len(keys) > 1 else ''}"
        hint = "write a key for each certificate, in the same order, one on a line; or none, where each"
        read.wrong(section, "key", reason, f"{hint} certificate's file holds its key too")
        return ()
    return tuple(
        KeyPair(str(folder / certificate), str(folder / key))
        for certificate, key in zip(certificates, keys or certificates, strict=True)
    )


def _lines(read: Reader, section: str, key: str) -> list[str]:
    return [line.strip() for line in read.text(section, key, "").split("\n") if line.strip()]


def _path(read: Reader, section: str, key: str, folder: PurePath) -> str:
    text = read.text(section, key, "")
    return str(folder / text) if text else ""


def _hsts(read: Reader, section: str) -> int:
    text = read.text(section, "hsts", "0")
    try:
        seconds = int(text if text.isdecimal() else parse_lifetime(text))
    except Wrong:
        seconds = -1
    if not 0 <= seconds <= _MAX_HSTS:
        read.wrong(section, "hsts", f"{text!r} is no time up to 10 years", "write one such as 365d")
        return 0
    return seconds
