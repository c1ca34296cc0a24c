"""An issuer of the routing config as compiled, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import PurePath

from gateway.core.http.urls import in_the_clear
from gateway.core.jwt import issuer as values
from gateway.core.jwt.algorithms import ALGORITHMS
from gateway.core.jwt.issuer import ClaimRules, Issuer, KeySource, SecretReference, TenantRule
from gateway.core.routing.issuers.settings import (
    SOURCES,
    ClaimsSettings,
    IssuerSettings,
    SecretSettings,
)
from gateway.core.routing.problems import Path, Problem, did_you_mean

# A secret may be in a file of the operator's alone. What anybody can read at a URL verifies no secret's work.
_PUBLIC = tuple(name for name in ALGORITHMS if not name.startswith("HS"))
_ONE_SOURCE = (
    "write one of discovery: true (the issuer's metadata name its keys), jwks_uri: and a URL, keys: and a"
    " file, or introspection: and whom to ask"
)
_TENANTS_HINT = (
    'write tenants: [acme] for those that its tokens may name (eu-* for a beginning, "*" only where it may'
    " speak for every tenant), or tenant: acme where all its tokens are one tenant's"
)


def compile_issuer(name: str, written: IssuerSettings, folder: str) -> Issuer:
    """The issuer, with the defaults of what is not written; what has problems only as far as it goes. folder:
    relative files are in it."""
    in_file = written.keys is not None
    given = {"leeway": written.leeway} if written.leeway is not None else {}
    return Issuer(
        name=name,
        issuer=written.issuer,
        audiences=tuple(written.audiences),
        keys=_source(written, folder),
        algorithms=tuple(written.algorithms or (ALGORITHMS if in_file else _PUBLIC)),
        claims=_claims(written.claims),
        tenants=_tenants(written),
        allow_http=written.allow_http,
        **given,
    )


def _source(written: IssuerSettings, folder: str) -> KeySource:
    if written.keys is not None:
        return values.KeyFile(str(PurePath(folder) / written.keys))
    if written.jwks_uri is not None:
        return values.KeyUrl(written.jwks_uri)
    asked = written.introspection
    if asked is not None:
        given = {"keep": asked.keep} if asked.keep is not None else {}
        secret = _secret(asked.client_secret, folder)
        return values.Introspection(asked.url, asked.client_id, secret, **given)
    return values.Discovery()


def _secret(written: SecretSettings, folder: str) -> SecretReference:
    file = "" if written.file is None else str(PurePath(folder) / written.file)
    return SecretReference(written.env or "", file)


def _claims(written: ClaimsSettings) -> ClaimRules:
    given = {name: value for name, value in written if value is not None}
    if "scopes" in given:
        given["scopes"] = tuple(given["scopes"])
    return ClaimRules(**given)


def _tenants(written: IssuerSettings) -> TenantRule:
    return TenantRule(
        fixed=written.tenant or "",
        names=frozenset(text for text in written.tenants if not text.endswith("*")),
        prefixes=tuple(text[:-1] for text in written.tenants if text.endswith("*") and text != "*"),
        any="*" in written.tenants,
    )


# --- what is wrong with it -------------------------------------------------------------------------


def issuer_problems(written: IssuerSettings, tenants: Collection[str]) -> Iterator[Problem]:
    """What the words of one issuer mean together; paths begin in the issuer. tenants: that there are."""
    sources = [name for name in SOURCES if getattr(written, name) is not None]
    if not sources:
        yield Problem((), "it does not say where its keys are", _ONE_SOURCE)
    for name in sources[1:]:
        yield Problem((name,), f"it says with {sources[0]} where its keys are", "leave one of the two out")
    yield from _algorithm_problems(written)
    yield from _url_problems(written)
    yield from _tenant_problems(written, tenants)


def _algorithm_problems(written: IssuerSettings) -> Iterator[Problem]:
    if written.algorithms is None:
        return
    if written.introspection is not None and written.keys is None:
        reason = "its tokens are asked about, and no signature is looked at"
        yield Problem(("algorithms",), reason, "remove it")
    elif written.keys is None:
        for index, name in enumerate(written.algorithms):
            if name.startswith("HS"):
                reason = f"{name} is done with a secret, and whoever can read a key set at a URL could sign"
                hint = "remove it, or put the secret's key set into a file and write keys:"
                yield Problem(("algorithms", index), reason, hint)


def _url_problems(written: IssuerSettings) -> Iterator[Problem]:
    """URLs that are none, or lead to another host without TLS."""
    asked: dict[Path, str] = {}
    if written.jwks_uri is not None:
        asked[("jwks_uri",)] = written.jwks_uri
    if written.introspection is not None:
        asked[("introspection", "url")] = written.introspection.url
    if written.discovery is not None:
        if not written.issuer.startswith(("https://", "http://")):
            reason = f"{written.issuer!r} is no URL, so its metadata cannot be found"
            yield Problem(("issuer",), reason, "write jwks_uri or keys in place of discovery")
            return
        asked[("issuer",)] = written.issuer
    clear = [path for path, url in asked.items() if _in_the_clear(url)]
    if not written.allow_http:
        for path in clear:
            reason = "it leads to another host without TLS: who is between could put keys of its own in place"
            hint = "write https://, or allow_http: true where that network is trusted"
            yield Problem(path, reason, hint)
    elif not clear and written.discovery is None:
        yield Problem(("allow_http",), "nothing is asked of another host without TLS", "remove it")


def _in_the_clear(url: str) -> bool:
    try:
        return in_the_clear(url)
    except ValueError:
        return True


def _tenant_problems(written: IssuerSettings, known: Collection[str]) -> Iterator[Problem]:
    if written.tenant is None and not written.tenants:
        yield Problem(("tenants",), "it does not say which tenants it may speak for", _TENANTS_HINT)
    if written.tenant is not None:
        if written.tenants:
            reason = "all its tokens are of `tenant`, so they name no other"
            yield Problem(("tenants",), reason, "remove one of the two")
        if written.claims.tenant is not None:
            reason = "all its tokens are of `tenant`, whatever a claim says"
            yield Problem(("claims", "tenant"), reason, "remove it, or write tenants in place of tenant")
        if written.tenant not in known:
            yield Problem(("tenant",), f"there is no tenant {written.tenant!r}", _near(written.tenant, known))
    if "*" in written.tenants and len(written.tenants) > 1:
        yield Problem(("tenants",), '"*" takes every tenant, so the others say nothing', "remove it, or them")
    for index, text in enumerate(written.tenants):
        start = text.removesuffix("*")
        if start == text and text not in known:
            yield Problem(("tenants", index), f"there is no tenant {text!r}", _near(text, known))
        elif start and not any(name.startswith(start) for name in known):
            yield Problem(("tenants", index), f"no tenant's name begins with {start!r}", _near(start, known))


def _near(name: str, known: Iterable[str]) -> str:
    return did_you_mean(name, known) + "tenants are written below tenants: at the top"


def same_issuer(issuers: Mapping[str, Issuer], local: str) -> Iterator[Problem]:
    """Two issuers with one `iss` could speak for each other. Paths begin at the top. local: the `iss` of that
    of gateway.conf, "" without it."""
    owners = {local: values.LOCAL} if local else {}
    for name, issuer in issuers.items():
        owner = owners.setdefault(issuer.issuer, name)
        if owner != name:
            what = "that of gateway.conf ([tokens])" if owner == values.LOCAL else f"the issuer {owner!r}"
            hint = "write each issuer once, or the `iss` that its tokens have"
            if owner == values.LOCAL:
                hint += "; local: false beside it switches that of gateway.conf off"
            yield Problem(("issuers", name, "issuer"), f"{what} has this `iss` too", hint)
