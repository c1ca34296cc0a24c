"""What one section [tls:NAME] is at the moment: contexts made of its files, made anew when those change.

A reload is all or nothing: what cannot be used leaves what was in use, and says which file and why. A
connection keeps the context that it began with, and new tickets for resumption (RFC 8446 section 2.2) are of
the new one, so that nobody resumes a session whose certificate is no longer taken.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterator, Mapping
from time import time
from typing import cast

from gateway.core.process.tls import KeyPair, TlsSettings
from gateway.edge.tls import certificates
from gateway.edge.tls.certificates import WARNED_BEFORE, CertificateUnusable
from gateway.edge.tls.client_certificate import ServerSide
from gateway.runtime import threads
from gateway.runtime.watch import SettledFiles, file_stamps

L = logging.getLogger(__name__)
POLL = 1.0  # seconds between two looks at the files
_WARNING_INTERVAL = 86_400.0  # seconds between two warnings of the same certificate
ALPN = ("http/1.1",)
# Mozilla's "intermediate" (https://wiki.mozilla.org/Security/Server_Side_TLS, 5.7) without finite-field
# Diffie-Hellman; those of TLS 1.3 are OpenSSL's own, which are Mozilla's.
CIPHERS = ":".join(
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    )
)


class _Context(ssl.SSLContext):
    """Of one pair."""

    @classmethod
    def of(cls, settings: TlsSettings, pair: KeyPair, at: Mapping[str, str]) -> _Context:
        """at: where each file's content is. Raises CertificateUnusable."""
        context = cls(ssl.PROTOCOL_TLS_SERVER)
        context._speak(settings)
        context._load(settings, pair, at)
        return context

    def _speak(self, settings: TlsSettings) -> None:
        self.sslobject_class = ServerSide
        self.minimum_version = ssl.TLSVersion.TLSv1_2
        self.set_ciphers(CIPHERS)
        # A second one costs a full handshake 8 % (measured). A client that shows a certificate gets none: if
        # it resumed, nobody would look at that again (RFC 8446 section 4.6.1), and its chain is forgotten.
        self.num_tickets = 0 if settings.verify else 1
        # Clients choose, since they know whether they have AES in hardware (Mozilla's advice too).
        self.options = (self.options | ssl.OP_NO_RENEGOTIATION) & ~ssl.OP_CIPHER_SERVER_PREFERENCE
        self.set_alpn_protocols(list(ALPN))

    def _load(self, settings: TlsSettings, pair: KeyPair, at: Mapping[str, str]) -> None:
        path = pair.certificate
        try:
            # Never asks: an encrypted key was refused before, and would be waited for on the terminal.
            self.load_cert_chain(at[pair.certificate], at[pair.key], password=lambda: b"-")
            if settings.verify:
                path = settings.verify
                self.load_verify_locations(at[path])
                self.verify_mode = ssl.CERT_OPTIONAL if settings.client == "optional" else ssl.CERT_REQUIRED
            if settings.crl:
                path = settings.crl
                self.load_verify_locations(at[path])
                self.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        except ssl.SSLError as error:
            raise certificates.explain_ssl(path, error) from None

    def choose_by(self, find: Callable[[str], ssl.SSLContext | None]) -> None:
        """Have another context found by the name that the client asks for."""

        def choose(tls: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
            if name is not None and (found := find(name)) is not None:
                cast(ServerSide, tls).use(found)

        self.sni_callback = choose


class Contexts:
    """Those that were made of the files at one moment. default: of the first pair; it chooses another one by
    the name of the server that the client asks for (RFC 6066 section 3). certificates: in the order of the
    config. authorities: the bytes of what clients' certificates are verified with. files: those of each file,
    by its path."""

    def __init__(self, settings: TlsSettings, files: Mapping[str, bytes]) -> None:
        """Raises CertificateUnusable."""
        self.files = files
        self.certificates = tuple(certificates.certificate_of(pair, files) for pair in settings.pairs)
        self.authorities = certificates.check_authorities(settings, files)
        self._open_keys = [pair.key for pair in settings.pairs if certificates.others_can_read(pair.key)]
        self._crl, self._crl_due = settings.crl, certificates.crl_due(settings, files)
        self._by_name: dict[str, ssl.SSLContext] = {}
        with certificates.in_memory(files) as at:
            made = [_Context.of(settings, pair, at) for pair in settings.pairs]
        for context, one in zip(made, self.certificates, strict=True):
            for name in one.names:
                self._by_name.setdefault(name, context)  # the first one in the config that has the name
        self.default = made[0]
        if len(made) > 1:
            self.default.choose_by(self.find)

    @classmethod
    def read(cls, settings: TlsSettings) -> Contexts:
        """Of the files as they are now. Blocks. Raises CertificateUnusable."""
        return cls(settings, certificates.read_files(settings.files))

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ServerSide:
        """Our side of a new connection."""
        return cast(ServerSide, self.default.wrap_bio(incoming, outgoing, server_side=True))

    def find(self, name: str) -> ssl.SSLContext | None:
        """The context of a server's name: of an exact one first, then of the wildcard for its first label
        (RFC 9525 section 6.3); None where no certificate has it."""
        name = name.lower().rstrip(".")
        return self._by_name.get(name) or self._by_name.get(f"*.{name.partition('.')[2]}")

    def warnings(self, now: float) -> Iterator[str]:
        """What does not keep them from being used, and should be known: the file and what is wrong with it.
        now: seconds since the epoch."""
        for key in self._open_keys:
            yield f"{key}: every user of this machine can read the key; chmod o-r it"
        for one in self.certificates:
            if not one.is_good(now):
                yield f"{one.path}: {one.lifetime(now)}; clients refuse it"
            elif one.ends - now < WARNED_BEFORE:
                yield f"{one.path}: {one.lifetime(now)}"
        if now >= self._crl_due:
            yield f"{self._crl}: its next update was due; until it is replaced every client is refused"


class TlsSite:
    """One section [tls:NAME], live.

    fields: header lines of each response. current: the contexts in use. failure: why the files are not what
    is in use, None while they are. verified: changes with what clients' certificates are verified with: one
    that was verified before may be no longer good. on_verified: called then. where: the section, for the log.
    wall: seconds since the epoch. quiet: another process says what becomes of the files. kept: what it has in
    use, as of `Contexts.files`: where the files now are refused, that is used here too.
    """

    def __init__(
        self,
        settings: TlsSettings,
        where: str,
        *,
        on_verified: Callable[[], None] = lambda: None,
        wall: Callable[[], float] = time,
        quiet: bool = False,
        kept: Mapping[str, bytes] | None = None,
    ) -> None:
        """Reads the files. Raises CertificateUnusable."""
        self._quiet = quiet
        self.settings = settings
        hsts = f"Strict-Transport-Security: max-age={settings.hsts}\r\n".encode()
        self.fields = hsts if settings.hsts else b""
        self.where = where
        self.verified = 0
        self.failure: CertificateUnusable | None = None
        self._on_verified = on_verified
        self._wall = wall
        self._watch = SettledFiles(file_stamps(settings.files))
        self._warned: dict[str, float] = {}
        if kept is None or not kept.keys() >= set(settings.files):
            self.current = Contexts.read(settings)
            return
        self.current = Contexts(settings, kept)
        try:
            self.current = self._good(Contexts.read(settings))
        except CertificateUnusable as failure:
            self.failure = failure

    @property
    def name(self) -> str:
        """The NAME of the section."""
        return self.settings.name

    def _say(self, level: int, text: str) -> None:
        if not self._quiet:
            L.log(level, "%s: %s", self.where, text)

    def is_valid(self, begins: float, ends: float) -> bool:
        """Whether now is between the two (seconds since the epoch)."""
        return begins <= self._wall() < ends

    async def follow(self) -> None:
        """Once in POLL seconds: load what has changed, and has not changed for that long; warn once a day."""
        if self._watch.observe(await threads.run(threads.TLS, file_stamps, self.settings.files)):
            await self.reload()
        self.warn()

    async def reload(self) -> None:
        """Load the files now. What cannot be used is logged, and leaves what was in use."""
        self._watch.mark_read(await threads.run(threads.TLS, file_stamps, self.settings.files))
        try:
            new = self._good(await threads.run(threads.TLS, Contexts.read, self.settings))
        except CertificateUnusable as failure:
            if str(failure) != str(self.failure):
                self._say(logging.ERROR, f"{failure}. What was loaded before stays in use")
            self.failure = failure
            return
        old, self.current, self.failure = self.current, new, None
        self._warned.clear()
        ends = "; ".join(f"{one.path}: {one.lifetime(self._wall())}" for one in new.certificates)
        self._say(logging.INFO, f"the certificates were loaded again: {ends}")
        if new.authorities != old.authorities:
            self.verified += 1
            self._on_verified()

    def _good(self, new: Contexts) -> Contexts:
        """One that clients refuse takes the place of none that they take."""
        now = self._wall()
        for before, after in zip(self.current.certificates, new.certificates, strict=True):
            if not after.is_good(now) and before.is_good(now):
                hint = "clients would refuse it; write one that is valid now"
                raise CertificateUnusable(after.path, after.lifetime(now), hint)
        return new

    def warn(self) -> None:
        """Log what should be known of the files, each once a day."""
        now = self._wall()
        for text in self.warnings():
            key = text.partition(":")[0]
            if now - self._warned.get(key, -_WARNING_INTERVAL) >= _WARNING_INTERVAL:
                self._warned[key] = now
                self._say(logging.WARNING, text)

    def warnings(self) -> list[str]:
        """What should be known of the files in use."""
        return list(self.current.warnings(self._wall()))
