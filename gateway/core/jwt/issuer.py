"""An issuer of tokens, as the config says: whom it may speak for, in what words, and where its keys are."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.jwt.algorithms import ALGORITHMS

LOCAL = "local"  # the name of the one that `gateway token` is, of [tokens] in gateway.conf


@dataclass(frozen=True, slots=True)
class SecretReference:
    """Where a secret is: a variable of the environment, or a file. Exactly one is set. Never its value."""

    env: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A JWK set in a file, read again when it changes."""

    path: str


@dataclass(frozen=True, slots=True)
class KeyUrl:
    """A JWK set at a URL."""

    url: str


@dataclass(frozen=True, slots=True)
class Discovery:
    """A JWK set that the issuer's metadata name (OpenID Connect Discovery 1.0; RFC 8414)."""


@dataclass(frozen=True, slots=True)
class Introspection:
    """No keys: each token is asked about (RFC 7662). keep: seconds that a good result counts at most."""

    url: str
    client_id: str
    client_secret: SecretReference
    keep: float = 60.0


KeySource = KeyFile | KeyUrl | Discovery | Introspection


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """Where a token says what we ask: each a claim (see claims.claim) or a template with one
    (`role:{groups}`). Scopes may be in several places, as lists or as names separated by spaces; they are
    taken together (see claims.scope_names)."""

    tenant: str = "tenant"
    subject: str = "sub"
    scopes: tuple[str, ...] = ("scope",)


@dataclass(frozen=True, slots=True)
class TenantRule:
    """Which tenants an issuer may speak for. fixed: that one, whatever the token says; else those in `names`,
    and those that begin with one of `prefixes`; any: all."""

    fixed: str = ""
    names: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    any: bool = False


ANY_TENANT = TenantRule(any=True)


@dataclass(frozen=True, slots=True)
class Issuer:
    """name: in routing.yaml. issuer: the `iss` of its tokens, exactly. audiences: a token is for one of them.
    algorithms: pinned, in the order of preference. leeway: seconds, for clocks that differ. allow_http: its
    keys may come in the clear from another host than this one."""

    name: str
    issuer: str
    audiences: tuple[str, ...]
    keys: KeySource
    algorithms: tuple[str, ...] = ALGORITHMS
    claims: ClaimRules = ClaimRules()
    tenants: TenantRule = ANY_TENANT
    leeway: float = 60.0
    allow_http: bool = False


def local_issuer(
    keys: str,
    issuer: str = "gateway",
    audience: str = "gateway",
    algorithms: tuple[str, ...] = ALGORITHMS,
    leeway: float = 60.0,
) -> Issuer:
    """The issuer that `gateway token` is. keys: the path of its key file."""
    return Issuer(LOCAL, issuer, (audience,), KeyFile(keys), algorithms, leeway=leeway)
