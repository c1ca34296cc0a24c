"""The files of a listener's certificates, as read at one moment: what is wrong with them, in words.

A PEM file may be read while it is being written, and a certificate before its key has been replaced too; so
all are read once, checked whole, and nothing else is used.
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from gateway.core.process.tls import KeyPair, TlsSettings
from gateway.runtime.os_errors import explain
from gateway.runtime.watch import file_stamps

WARNED_BEFORE = 21 * 86_400.0  # seconds before its end at which a certificate is warned of
_DAY = 86_400.0


class CertificateUnusable(Exception):
    """A file that cannot be used. path, reason, hint: what, why, and what to do."""

    def __init__(self, path: str, reason: str, hint: str) -> None:
        super().__init__(f"{path}: {reason}; {hint}")
        self.path = path
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Certificate:
    """A server's certificate as read. names: of servers, in lower case, `*.` first for a wildcard. begins,
    ends: seconds since the epoch."""

    path: str
    names: tuple[str, ...]
    begins: float
    ends: float

    def is_good(self, now: float) -> bool:
        """Whether clients take it at this time (seconds since the epoch)."""
        return self.begins <= now < self.ends

    def lifetime(self, now: float) -> str:
        """When it ends, in words."""
        day = datetime.fromtimestamp(self.ends, UTC).strftime("%Y-%m-%d")
        if now >= self.ends:
            return f"it has expired on {day}"
        if now < self.begins:
            begins = datetime.fromtimestamp(self.begins, UTC).strftime("%Y-%m-%d %H:%M")
            return f"it is valid from {begins} UTC on only"
        left = int((self.ends - now) // _DAY)
        return f"it expires on {day}, in {left} day{'s' if left != 1 else ''}"


def read_files(paths: Sequence[str]) -> dict[str, bytes]:
    """All files of a section, by their paths. Raises CertificateUnusable, also where one changes meanwhile.
    """
    stamps = file_stamps(paths)
    files = {path: _read(path) for path in paths}
    if file_stamps(paths) != stamps:
        raise CertificateUnusable(paths[0], "it is being written", "it is read again in a moment")
    return files


@contextmanager
def in_memory(files: Mapping[str, bytes]) -> Iterator[Mapping[str, str]]:
    """Where these bytes are while it lasts, by the paths of their files: in memory, since OpenSSL loads keys
    from a path only, and no disk is to see them."""
    with ExitStack() as stack:
        at = {}
        for path, text in files.items():
            file = stack.enter_context(os.fdopen(os.memfd_create("tls"), "wb"))
            file.write(text)
            file.flush()
            at[path] = f"/proc/self/fd/{file.fileno()}"
        yield at


def certificate_of(pair: KeyPair, files: Mapping[str, bytes]) -> Certificate:
    """The certificate of a pair whose key fits. Raises CertificateUnusable."""
    leaf = _leaf(pair.certificate, files[pair.certificate])
    _check_key(pair, leaf, files[pair.key])
    return Certificate(
        pair.certificate,
        tuple(_names(leaf)),
        leaf.not_valid_before_utc.timestamp(),
        leaf.not_valid_after_utc.timestamp(),
    )


def _read(path: str) -> bytes:
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        reason, hint = explain(error)
        if isinstance(error, PermissionError):
            hint = f"let the user with id {os.geteuid()} read it"
        elif isinstance(error, FileNotFoundError):
            hint = "write the path of a PEM file, from the folder of gateway.conf"
        raise CertificateUnusable(path, reason.lower(), hint) from None
    if not text.strip():
        raise CertificateUnusable(path, "it is empty", "it may still be written; else write it anew")
    return text


def _leaf(path: str, text: bytes) -> x509.Certificate:
    if b"-----BEGIN CERTIFICATE-----" not in text:
        hint = "it is to hold a certificate in PEM, the server's own first"
        raise CertificateUnusable(path, "no certificate is in it", hint)
    try:
        return x509.load_pem_x509_certificates(text)[0]
    except ValueError:
        hint = "it may still be written; else it was cut off, or is no PEM"
        raise CertificateUnusable(path, "its certificate cannot be read", hint) from None


def _check_key(pair: KeyPair, leaf: x509.Certificate, text: bytes) -> None:
    if b"PRIVATE KEY-----" not in text:
        hint = "write key = and its file, or put the key behind the certificate in this one"
        raise CertificateUnusable(pair.key, "no private key is in it", hint)
    if b"ENCRYPTED" in text:
        hint = "there is nobody to ask for its passphrase: decrypt it (openssl pkey -in KEY -out PLAIN)"
        raise CertificateUnusable(pair.key, "its key is encrypted", hint)
    try:
        key = load_pem_private_key(text, None)
    except (ValueError, TypeError):
        hint = "it may still be written; else it was cut off, or is no PEM"
        raise CertificateUnusable(pair.key, "its private key cannot be read", hint) from None
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        hint = "one of the two may still be replaced; else name the key that it was made for"
        raise CertificateUnusable(pair.key, f"its key is not that of {pair.certificate}", hint)


def _names(leaf: x509.Certificate) -> Iterator[str]:
    """Those for which clients take it: its DNS names, and only without any its common name."""
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = found.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        names = [str(one.value) for one in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    for name in names:
        yield name.lower().rstrip(".")


def others_can_read(path: str) -> bool:
    """Whether every user of this machine can read a file."""
    try:
        return bool(Path(path).stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def crl_due(settings: TlsSettings, files: Mapping[str, bytes]) -> float:
    """When the list of revoked certificates is to be replaced by its next one (seconds since the epoch):
    OpenSSL takes no client's certificate after that. Never without a file, or a time in it."""
    crl = settings.crl
    due = x509.load_pem_x509_crl(files[crl]).next_update_utc if crl else None
    return due.timestamp() if due is not None else float("inf")


def check_authorities(settings: TlsSettings, files: Mapping[str, bytes]) -> bytes:
    """The bytes of the files that clients' certificates are verified with, "" for none. Raises
    CertificateUnusable."""
    if not settings.verify:
        return b""
    text = files[settings.verify]
    if b"-----BEGIN CERTIFICATE-----" not in text and b"-----BEGIN TRUSTED CERT" not in text:
        hint = "it is to hold the certificates of the CA that clients' certificates are of, in PEM"
        raise CertificateUnusable(settings.verify, "no certificate is in it", hint)
    try:
        x509.load_pem_x509_certificates(text)
    except ValueError:
        hint = "it may still be written; else it was cut off, or is no PEM"
        raise CertificateUnusable(settings.verify, "its certificates cannot be read", hint) from None
    if not settings.crl:
        return text
    revoked = files[settings.crl]
    try:
        x509.load_pem_x509_crl(revoked)
    except ValueError:
        hint = "it may still be written; else it is no PEM (openssl crl -inform DER -out CRL.pem)"
        raise CertificateUnusable(settings.crl, "its revoked certificates cannot be read", hint) from None
    return text + revoked


def explain_ssl(path: str, error: ssl.SSLError) -> CertificateUnusable:
    """What OpenSSL says of a file."""
    reason = (error.reason or str(error)).replace("_", " ").lower()
    hint = {
        "ee key too small": "make a new key, of 2048 bits (RSA) or P-256",
        "ca md too weak": "have it signed anew, with SHA-256",
        "key values mismatch": "one of the two may still be replaced; else name the key that it was made for",
    }.get(reason, "OpenSSL does not take it; make it anew")
    return CertificateUnusable(path, f"it cannot be used ({reason})", hint)
