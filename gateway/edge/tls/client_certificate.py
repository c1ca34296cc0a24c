"""A client's certificate, verified in the handshake of its connection: whose it is, and how a backend is told
of it (RFC 9440)."""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from gateway.core.policy.certificates import Kind, Name

_KINDS: Mapping[str, Kind] = {
    "URI": "uri",
    "email": "email",
    "DNS": "dns",
}  # as ssl names those of a SubjectAltName
_MAX_CHAIN = 8  # certificates of a chain that backends are sent


class Authorities(Protocol):
    """What clients' certificates are verified with (site.py). verified: another number after each change.
    name: of the section [tls:NAME]."""

    verified: int

    @property
    def name(self) -> str: ...


class ClientCertificate:
    """authorities: what it was verified with. names: what it says of its holder. fingerprint: SHA-256 of it,
    in base64url (RFC 8705 section 3.1). begins, ends: when it is valid, in seconds since the epoch. lines:
    the header lines for backends. tls: the section that has verified it."""

    __slots__ = ("_authorities", "_verified", "begins", "ends", "fingerprint", "lines", "names", "tls")

    def __init__(
        self, said: Mapping[str, Any], certificate: bytes, chain: Iterable[bytes], authorities: Authorities
    ) -> None:
        """said: as `ssl.SSLObject.getpeercert` gives it. certificate, chain: in DER; the chain without it."""
        self._authorities = authorities
        self._verified = authorities.verified
        self.tls = authorities.name
        self.names = tuple(_names(said))
        self.begins = float(ssl.cert_time_to_seconds(str(said["notBefore"])))
        self.ends = float(ssl.cert_time_to_seconds(str(said["notAfter"])))
        digest = hashlib.sha256(certificate).digest()
        self.fingerprint = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        above = ", ".join(map(_byte_sequence, chain))
        more = f"Client-Cert-Chain: {above}\r\n" if above else ""
        self.lines = f"Client-Cert: {_byte_sequence(certificate)}\r\n{more}".encode()

    @classmethod
    def of(cls, tls: ServerSide, authorities: Authorities) -> ClientCertificate | None:
        """That of a connection; None when the client showed none."""
        certificate = tls.getpeercert(binary_form=True)
        said = tls.getpeercert() if certificate else None
        return cls(said, certificate, tls.chain(), authorities) if certificate and said else None

    @property
    def is_current(self) -> bool:
        """Whether what it was verified with has not changed since."""
        return self._verified == self._authorities.verified


class ServerSide(ssl.SSLObject):
    """Our side of a connection, as the contexts make it; it can tell the client's chain, which
    ssl.SSLObject can from Python 3.13 on."""

    _sslobj: object

    def use(self, context: ssl.SSLContext) -> None:
        """Go on with the certificate of this one."""
        self.context = context

    def direct(self) -> tuple[Callable[[int], bytes], Callable[[Any], int]]:
        """`read` and `write` without a frame of Python around each."""
        return self._sslobj.read, self._sslobj.write  # type: ignore[attr-defined]

    def chain(self) -> list[bytes]:
        """The certificates by which the client's was verified, its issuer first, in DER, without the CA's
        own at the end (RFC 9440 section 2.3 leaves that to us)."""
        found = self._sslobj.get_verified_chain() or []  # type: ignore[attr-defined]
        return [one.public_bytes(_DER) for one in found[1:-1][:_MAX_CHAIN]]


_DER = 2  # _ssl.ENCODING_DER


def _byte_sequence(certificate: bytes) -> str:
    return f":{base64.b64encode(certificate).decode()}:"  # RFC 8941 section 3.3.5


def _names(said: Mapping[str, Any]) -> Iterator[Name]:
    for kind, value in said.get("subjectAltName", ()):
        if kind in _KINDS:
            yield Name(_KINDS[kind], value)
    for parts in said.get("subject", ()):
        for kind, value in parts:
            if kind == "commonName":
                yield Name("cn", value)
