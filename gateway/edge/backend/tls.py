"""TLS to backends: contexts made of the files that the config names, and made anew when those change.

Files that cannot be used leave what was in use, and the log says why; where nothing is in use yet, the
backend is unavailable.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from gateway.core.model import BackendTls
from gateway.runtime import threads
from gateway.runtime.watch import SettledFiles, file_stamps

L = logging.getLogger(__name__)
_SHUTDOWN = 5.0  # seconds that a server may take to end TLS on a connection that we close


class TlsUnusable(OSError):
    """A file of the config's cannot be used: which and why, and nothing of what is in it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)


class _Kept:
    """What is known of one set of files."""

    __slots__ = ("context", "loading", "watch")

    def __init__(self) -> None:
        self.context: ssl.SSLContext | None = None
        self.watch = SettledFiles(())
        self.loading = asyncio.Lock()


class TlsContexts:
    """The contexts of all backends, by their files. on_change(files): there is another one for them, so that
    connections of the old one should carry no more requests."""

    def __init__(self, on_change: Callable[[BackendTls], None] = lambda tls: None) -> None:
        self._on_change = on_change
        self._kept: dict[BackendTls, _Kept] = {}

    async def of(self, tls: BackendTls, host: str) -> Mapping[str, Any]:
        """What `create_connection` is to be told for a connection to a host. Raises TlsUnusable while there
        is no context."""
        kept = self._kept.get(tls)
        if kept is None:
            kept = self._kept[tls] = _Kept()
        if kept.context is None:
            async with kept.loading:
                if kept.context is None:
                    stamps = await threads.run(threads.KEYS, file_stamps, tls.files)
                    kept.context = await threads.run(threads.KEYS, load, tls)
                    kept.watch.mark_read(stamps)
        return {
            "ssl": kept.context,
            "server_hostname": tls.server_name or host.rstrip("."),
            "ssl_shutdown_timeout": _SHUTDOWN,
        }

    def keep(self, wanted: Collection[BackendTls]) -> None:
        """Forget all others: no backend has them any more."""
        for tls in self._kept.keys() - set(wanted):
            del self._kept[tls]

    async def follow(self) -> None:
        """Load what has changed, and has not since the last look. To be called about once a second."""
        for tls, kept in list(self._kept.items()):
            stamps = await threads.run(threads.KEYS, file_stamps, tls.files)
            if not kept.watch.observe(stamps) or kept.context is None:
                continue
            kept.watch.mark_read(stamps)
            try:
                kept.context = await threads.run(threads.KEYS, load, tls)
            except TlsUnusable as error:
                L.error("TLS to backends: %s; what was loaded before stays in use", error)
            else:
                L.info("TLS to backends: loaded again: %s", ", ".join(tls.files))
                self._on_change(tls)


def load(tls: BackendTls) -> ssl.SSLContext:
    """A context of these files. Blocks. Raises TlsUnusable."""
    path = tls.ca
    try:
        if tls.verify:
            context = ssl.create_default_context(cafile=tls.ca or None)
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["http/1.1"])
        if tls.certificate:
            path = tls.certificate
            if not tls.key and b"PRIVATE KEY-----" not in Path(path).read_bytes():
                raise TlsUnusable(f"{path}: no private key is in it; write key: and the file that holds it")
            # Never asks: an encrypted key would be waited for on the terminal.
            context.load_cert_chain(tls.certificate, tls.key or None, password=lambda: b"-")
    except ssl.SSLError as error:
        reason = (error.reason or "it is no PEM").replace("_", " ").lower()
        raise TlsUnusable(f"{path}: it cannot be used ({reason})") from None
    except TlsUnusable:
        raise
    except OSError as error:
        path = next((file for file in tls.files if not os.access(file, os.R_OK)), path)
        raise TlsUnusable(f"{path}: {error.strerror or 'it cannot be read'}") from None
    return context


def tls_words(error: ssl.SSLError) -> str:
    """What went wrong with TLS, for an operator: nothing that was sent is in it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message.rstrip('.')}"
    reason = (error.reason or "unknown").lower().replace("_", " ")
    if reason in ("wrong version number", "http request", "packet length too long", "record layer failure"):
        return f"what listens there does not speak TLS ({reason})"
    _, alert, said = reason.partition("alert ")
    return f"it refused: {said}" if alert else reason
