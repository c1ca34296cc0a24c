"""Issuers of tokens as written in the routing config: their shape and their words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from gateway.core.jwt.algorithms import OFFERED
from gateway.core.jwt.issuer import LOCAL
from gateway.core.routing.issuers import words
from gateway.core.routing.problems import Problem, Wrong
from gateway.core.routing.shape import Word
from gateway.core.routing.values import Duration, Name, Scope, Strict, TenantName

SOURCES = ("keys", "jwks_uri", "discovery", "introspection")  # where keys are; each issuer has one of them


def _pattern(pattern: str) -> dict[str, str]:
    return {"type": "string", "pattern": f"^({pattern})$"}


def _one_or_more(check: Callable[[Any], Any], one: Any, kinds: Any = str) -> BeforeValidator:
    """Takes a single entry for a list of it, and checks it, so that the problem is of what was written."""

    def as_list(value: Any) -> Any:
        if not isinstance(value, kinds):
            return value
        try:
            check(value)
        except Wrong as wrong:
            parts = re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else []
            if len(parts) < 2:
                raise
            raise Wrong(wrong.reason, wrong.hint, lambda parts: list(map(check, parts)), [parts]) from None
        return [value]

    return BeforeValidator(as_list, json_schema_input_type=one | Annotated[list[one], Field(min_length=1)])


IssuerText = Annotated[
    str,
    AfterValidator(words.check_issuer),
    Word("the `iss` of its tokens", "https://id.example.com", _pattern(words.ISSUER)),
]
Text = Annotated[str, AfterValidator(words.check_text), Word("a text", "gateway", _pattern(words.TEXT))]
Texts = Annotated[
    list[Text],
    Field(min_length=1, max_length=100),
    _one_or_more(words.check_text, Text),
    Word("a list of texts", ["gateway"]),
]
ClaimValue = Annotated[
    str,
    BeforeValidator(words.claim_value),
    Word(
        "the value of a claim",
        "pro",
        {"anyOf": [_pattern(words.TEXT), {"type": "integer"}, {"type": "boolean"}]},
    ),
]
ClaimValues = Annotated[
    list[ClaimValue],
    Field(min_length=1, max_length=100),
    _one_or_more(words.claim_value, ClaimValue, str | int),
    Word("a list of values", ["pro"]),
]
Claim = Annotated[
    str, AfterValidator(words.check_claim), Word("where a claim is", "plan", _pattern(words.CLAIM))
]
ClaimTemplate = Annotated[
    str,
    AfterValidator(words.check_template),
    Word("where a claim is", "realm_access.roles", _pattern(f"{words.CLAIM}|{words.TEMPLATE}")),
]
ClaimTemplates = Annotated[
    list[ClaimTemplate],
    Field(min_length=1, max_length=100),
    _one_or_more(words.check_template, ClaimTemplate),
    Word("a list of claims", ["scope", "realm_access.roles"]),
]
Algorithm = Annotated[
    str,
    AfterValidator(words.check_algorithm),
    Word("an algorithm", "RS256", {"type": "string", "enum": list(OFFERED)}),
]
Url = Annotated[
    str,
    AfterValidator(words.check_url),
    Word("a URL", "https://id.example.com/introspect", _pattern(words.URL)),
]
JwksUrl = Annotated[
    str,
    AfterValidator(words.check_jwks_uri),
    Word("the URL of a key set", "https://id.example.com/jwks", _pattern(words.URL)),
]
KeyPath = Annotated[
    str,
    BeforeValidator(words.check_key_file),
    Word("the path of a key set", "issuer.jwks", _pattern(words.FILE)),
]
SecretPath = Annotated[
    str,
    BeforeValidator(words.check_file),
    Word("the path of a file", "/run/secrets/gateway", _pattern(words.FILE)),
]
Variable = Annotated[
    str,
    BeforeValidator(words.check_variable),
    Word("the name of a variable", "CLIENT_SECRET", _pattern(words.VARIABLE)),
]
Leeway = Annotated[
    float,
    BeforeValidator(words.leeway),
    Word("a duration up to 10m", "60s", {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}),
]
Tenants = Annotated[
    str, AfterValidator(words.check_tenants), Word("a tenant's name", "acme", _pattern(words.TENANTS))
]


Holder = Annotated[
    str,
    AfterValidator(words.check_holder),
    Word("a name in certificates", "uri:spiffe://shop.example/till/*", _pattern(words.HOLDER)),
]
Holders = Annotated[
    list[Holder],
    Field(min_length=1, max_length=1000),
    _one_or_more(words.check_holder, Holder),
    Word("a list of names in certificates", ["cn:till-7"]),
]


def _one_of(*names: str) -> Any:
    return {"oneOf": [{"required": [name]} for name in names]}


class SecretSettings(Strict):
    """Where a secret is. It is never written in this file."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    env: Variable | None = Field(default=None, description="the variable of the environment that holds it")
    file: SecretPath | None = Field(default=None, description="the file that holds it")


Secret = Annotated[
    SecretSettings,
    BeforeValidator(words.check_reference, json_schema_input_type=SecretSettings),
    Word("a mapping of env or file", {"env": "CLIENT_SECRET"}),
]


class IntrospectionSettings(Strict):
    """Where each token is asked about (RFC 7662), and as whom."""

    url: Url = Field(description="the issuer's endpoint")
    client_id: Text = Field(description="as whom the gateway asks")
    client_secret: Secret = Field(description="{ env: NAME } or { file: PATH }")
    keep: Duration | None = Field(
        default=None, description="how long a good result counts at most, so a revoked token too; default 60s"
    )


class ClaimsSettings(Strict):
    """Where the issuer's tokens say who calls: each the name of a claim, a path with dots, or a template."""

    tenant: ClaimTemplate | None = Field(default=None, description="default: tenant", examples=["org_id"])
    subject: ClaimTemplate | None = Field(default=None, description="default: sub", examples=["azp"])
    scopes: ClaimTemplates | None = Field(
        default=None, description="of all of them together: lists, or names with spaces; default: scope"
    )


class IssuerSettings(Strict):
    """Who issues tokens, whom it may speak for, and (in one of four ways) where its keys are."""

    model_config = ConfigDict(json_schema_extra={"allOf": [_one_of(*SOURCES), _one_of("tenants", "tenant")]})

    issuer: IssuerText = Field(description="the `iss` of its tokens, to the character")
    audiences: Texts = Field(description="a token is for one of them (`aud`)")
    algorithms: list[Algorithm] | None = Field(
        default=None,
        min_length=1,
        description="what signs its tokens; default: RS256, ES256 and EdDSA, with keys: HS256 too",
    )
    keys: KeyPath | None = Field(default=None, description="a JWK set in a file, from this one's folder")
    jwks_uri: JwksUrl | None = Field(default=None, description="the URL of a JWK set")
    discovery: Annotated[Literal[True], BeforeValidator(words.check_discovery)] | None = Field(
        default=None, description="the keys that the issuer's own metadata name (OpenID Connect, RFC 8414)"
    )
    introspection: IntrospectionSettings | None = Field(
        default=None, description="no keys: each token is asked about (RFC 7662)"
    )
    claims: ClaimsSettings = Field(
        default=ClaimsSettings(), description="where its tokens have tenant, subject and scopes"
    )
    tenants: list[Tenants] = Field(
        default=[],
        min_length=1,
        examples=[["acme"]],
        description='whom it may speak for: names, eu-* for all that begin so, or "*" for any. A token says'
        " which of them it is of. This or tenant is needed",
    )
    tenant: TenantName | None = Field(
        default=None, description="all its tokens are this tenant's, whatever they say"
    )
    leeway: Leeway | None = Field(default=None, description="for clocks that differ; default 60s")
    allow_http: bool = Field(
        default=False, description="its keys may come without TLS from another host; who is between may forge"
    )


class CertificateSettings(Strict):
    """Clients that show a certificate: by which names, and whose they are."""

    subjects: Holders = Field(
        description="names in certificates, with * for many: uri:, email: and dns: of the SubjectAltName, cn:"
    )
    tenant: TenantName = Field(description="all of them are this tenant's")
    scopes: list[Scope] = Field(default=[], description="what they may do, as the scopes of a token")
    tls: Name | None = Field(
        default=None,
        examples=["public"],
        description="counts for certificates that the section [tls:NAME] of gateway.conf has verified alone;"
        " default: all sections",
    )


_EXAMPLE = {
    "issuer": "https://id.example.com",
    "audiences": ["gateway"],
    "discovery": True,
    "tenants": ["acme"],
}


def _issuer(value: Any) -> Any:
    if value is False:
        return None
    if isinstance(value, Mapping | IssuerSettings):
        return value
    hint = "false only for local, which switches the issuer of gateway.conf off"
    raise Wrong("is not an issuer", hint)


IssuerOrOff = Annotated[
    IssuerSettings | None,
    BeforeValidator(_issuer, json_schema_input_type=Literal[False] | IssuerSettings),
    Word("an issuer", _EXAMPLE),
]
ABOUT_LOCAL = Problem(
    ("issuers", LOCAL),
    "this is the issuer of gateway.conf: what is to be said of it is in [tokens] there",
    "write local: false to switch it off, or give this issuer another name",
)


def one_about_local(problems: list[Problem]) -> list[Problem]:
    """The problems, with a single one for all those below the local issuer: nothing can be set there."""
    others = [problem for problem in problems if problem.path[:2] != ABOUT_LOCAL.path]
    return others if len(others) == len(problems) else [*others, ABOUT_LOCAL]
