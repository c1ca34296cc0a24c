"""A certificate authority of the tests, and the files of what it signs."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from gateway.core.process.tls import KeyPair

DAY = timedelta(days=1)
_KINDS = {
    "dns": x509.DNSName,
    "ip": lambda text: x509.IPAddress(ip_address(text)),
    "uri": x509.UniformResourceIdentifier,
    "email": x509.RFC822Name,
}


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def pem_of(key: ec.EllipticCurvePrivateKey, passphrase: str = "") -> bytes:
    how: KeySerializationEncryption = NoEncryption()
    if passphrase:
        how = BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)


@dataclass
class Authority:
    """folder: where its files are; ca.pem is its own certificate."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder(_name("Test CA"), _name("Test CA"), self.key.public_key(), 1)
            .not_valid_before(now - DAY)
            .not_valid_after(now + 3650 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
        )
        self.certificate = made.sign(self.key, hashes.SHA256())
        self.path = self.folder / "ca.pem"
        self.path.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def sign(
        self, file: str, *names: str, days: float = 90, cn: str = "", begins: float = 1
    ) -> tuple[KeyPair, x509.Certificate]:
        """A certificate and its key, in `file`.pem and `file`.key. names: as dns:shop.example, ip:, uri:...
        days: until it expires. begins: days since it is valid."""
        pairs = [name.partition(":") for name in names]
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(_name(cn or file))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - begins * DAY)
            .not_valid_after(now + days * DAY)
        )
        if pairs:
            shown = x509.SubjectAlternativeName([_KINDS[kind](value) for kind, _, value in pairs])
            made = made.add_extension(shown, critical=False)
        certificate = made.sign(self.key, hashes.SHA256())
        pair = KeyPair(str(self.folder / f"{file}.pem"), str(self.folder / f"{file}.key"))
        Path(pair.certificate).write_bytes(certificate.public_bytes(Encoding.PEM))
        Path(pair.key).write_bytes(pem_of(key))
        Path(pair.key).chmod(0o600)
        return pair, certificate

    def pair(self, file: str, *names: str, days: float = 90, cn: str = "", begins: float = 1) -> KeyPair:
        """As `sign`; the files."""
        return self.sign(file, *names, days=days, cn=cn, begins=begins)[0]

    def server(self, *names: str, days: float = 90) -> ssl.SSLContext:
        """The context of a server with a certificate for these names."""
        pair = self.pair("server", *names, days=days)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        return context

    def revoke(self, *certificates: x509.Certificate, days: float = 30) -> Path:
        """The list of revoked certificates, in crl.pem."""
        now = datetime.now(UTC)
        made = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        made = made.last_update(now - DAY - abs(days) * DAY).next_update(now + days * DAY)
        for one in certificates:
            builder = x509.RevokedCertificateBuilder().serial_number(one.serial_number).revocation_date(now)
            made = made.add_revoked_certificate(builder.build())
        path = self.folder / "crl.pem"
        path.write_bytes(made.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return path
