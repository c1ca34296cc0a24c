"""What should be known of a routing config that is clean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.call import Snapshot
from gateway.cli import console
from gateway.core.jwt.issuer import Introspection, Issuer, KeyFile
from gateway.core.model import Backend
from gateway.core.process.settings import ProcessConfig
from gateway.edge.backend.tls import TlsUnusable, load

_MOST = 5  # names in a message


def mtls_notes(compiled: Snapshot, config: ProcessConfig) -> Iterable[str]:
    """Where routes take clients' certificates that no public listener asks for, or those of authorities that
    may each name whom they like."""
    asks = {one.name for one in config.tls if one.verify}
    routes = compiled.table.routes
    named = [one.name for one in routes if one.callers is not None and "mtls" in one.callers.kinds]
    if named and not any(one.tls in asks for one in config.listen):
        yield (
            f"auth: [mtls] of {_listed(named)}: no client can show"
            f" a certificate; in {console.short(config.path)}, write verify = ca.pem in a section [tls:NAME],"
            " and tls=NAME behind an address of [gateway] listen"
        )
    used = {one.tls for one in config.listen}
    verify = {one.verify: f"[tls:{one.name}]" for one in config.tls if one.verify and one.name in used}
    anywhere = [one.name for one in compiled.certificates if not one.tls]
    if named and anywhere and len(verify) > 1:
        yield (
            f"{' and '.join(verify.values())} verify with different authorities: a certificate of each may be"
            f" {_listed(anywhere)} of `certificates`; write tls: NAME where an entry is for one of them"
        )


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:_MOST])}{', ...' if names[_MOST:] else ''}"


def tls_notes(backends: Mapping[str, Backend]) -> Iterable[str]:
    """What should be known of TLS to backends. The gateway starts without their files, and the one backend is
    unavailable."""
    for name, backend in backends.items():
        tls = next((address.tls for address in backend.addresses if address.tls is not None), None)
        if tls is None:
            continue
        if not tls.verify:
            yield (
                f"backends.{name}.tls.verify: false: whoever is between can be the backend, and reads and"
                " changes what passes; write ca: and the file of its authority"
            )
        try:
            load(tls)
        except TlsUnusable as error:
            yield f"backends.{name}.tls: {error} (on this machine); its requests get 503"


def named_files(issuers: Mapping[str, Issuer]) -> Iterable[tuple[str, str]]:
    """Where issuers name files, and the files. The gateway starts without them, so they are no problem."""
    for name, issuer in issuers.items():
        if isinstance(issuer.keys, KeyFile):
            yield f"issuers.{name}.keys", issuer.keys.path
        elif isinstance(issuer.keys, Introspection) and issuer.keys.client_secret.file:
            yield f"issuers.{name}.introspection.client_secret", issuer.keys.client_secret.file
