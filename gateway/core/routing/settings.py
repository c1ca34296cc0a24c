"""The routing config as written: its shape, its words, and every problem at once.

`parse` takes the plain data of the YAML file. What the words mean together (a target that does not exist,
two routes for the same requests) is checked in compile.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from gateway.core.front_page import GIVEN_OUT
from gateway.core.jwt.issuer import LOCAL
from gateway.core.policy.limits import LimitRules, Rate
from gateway.core.routing.amounts import parse_rate
from gateway.core.routing.backends.settings import BackendSettings
from gateway.core.routing.issuers.settings import (
    CertificateSettings,
    Claim,
    ClaimValues,
    IssuerOrOff,
    one_about_local,
)
from gateway.core.routing.problems import Problem, Problems, Wrong
from gateway.core.routing.shape import Slot, Word, bare, problem, shown, without_null
from gateway.core.routing.values import (
    RATE_PATTERN,
    Duration,
    DurationOrNone,
    HeaderName,
    HostHeader,
    HostName,
    Link,
    Method,
    Name,
    Network,
    Origin,
    PathPattern,
    PerSecond,
    Quota,
    Scope,
    Size,
    Strict,
    TenantName,
    WholeSeconds,
)


class RateLimitSettings(Strict):
    """A token bucket: its rate, and how many requests may come at once."""

    rate: PerSecond
    burst: int | None = Field(
        default=None, ge=1, le=1_000_000, description="default: one second's worth", examples=[200]
    )

    def compiled(self) -> Rate:
        """The rate, with its default burst."""
        return Rate(self.rate, self.burst if self.burst is not None else max(1, round(self.rate)))


def _rate_limit(value: Any) -> Any:
    if isinstance(value, Mapping | RateLimitSettings):
        return value
    parse_rate(value)  # here, so that the problem is of the key that was written
    return {"rate": value}


RateLimit = Annotated[
    RateLimitSettings,
    BeforeValidator(
        _rate_limit,
        json_schema_input_type=Annotated[str, Field(pattern=RATE_PATTERN)] | RateLimitSettings,
    ),
    Word("a rate, or a mapping of rate and burst", "100/s"),
]


class DocumentsSettings(Strict):
    """What a tenant may keep in the gateway's own store."""

    max_documents: int | None = Field(default=None, ge=0, description="default: no limit", examples=[100_000])
    max_bytes: Size | None = Field(
        default=None,
        description="of documents, settings of collections and remembered writes; default: no limit",
    )
    max_collections: int = Field(
        default=10_000,
        ge=0,
        le=1_000_000,
        description="that are declared or hold documents",
        examples=[10_000],
    )
    max_feeds: int = Field(
        default=100, ge=0, le=100_000, description="change feeds open at once", examples=[100]
    )
    body_memory: Size | None = Field(
        default=None, description="what bodies of its requests may take of memory at once; default 64MiB"
    )


class TenantSettings(Strict):
    """A tenant; the key is the name that tokens carry."""

    name: str = Field(
        default="",
        max_length=200,
        description="display name; default: the key",
        examples=["Acme Corporation"],
    )
    rate_limit: RateLimit | None = Field(default=None, description="such as 100/s")
    quota: Quota | None = Field(default=None, description="requests of a day, which begins at 00:00 UTC")
    disabled: bool = Field(default=False, description="its calls are refused (403), and its data stay")
    weight: float = Field(
        default=1.0, ge=0.01, le=100, description="share of a backend's seats, against the other tenants'"
    )
    concurrency: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        examples=[50],
        description="requests that it may have under way, waiting or inside, in all; default: no limit",
    )
    documents: DocumentsSettings = Field(
        default=DocumentsSettings(), description="what it may keep in the gateway's own store"
    )


class TimeoutSettings(Strict):
    """How long each step of a call may take."""

    body: Duration | None = Field(default=None, description="between chunks of the request; default 30s")
    body_rate: Size | None = Field(
        default=None, description="bytes a second of the request, after 10 s; default 1KiB, 0 for any"
    )
    queue: Duration | None = Field(
        default=None, description="waiting for a seat; default: the backend's, or 5s"
    )
    connect: Duration | None = Field(default=None, description="connecting to the backend; default 2s")
    first_byte: Duration | None = Field(default=None, description="until the response begins; default 30s")
    idle: Duration | None = Field(default=None, description="between two chunks of the response; default 60s")
    total: DurationOrNone | None = Field(
        default=None, description="the whole call, not streams; default 300s"
    )


class CorsSettings(Strict):
    """What pages of other origins may do on a route (the Fetch standard, CORS)."""

    origins: list[Origin] = Field(min_length=1, description="of pages, such as https://app.example; or *")
    methods: list[Method] = Field(default=[], min_length=1, description="default: the route's")
    headers: list[HeaderName] = Field(
        default=["Authorization", "Content-Type"],
        description="that a page may send; * for any. Default: Authorization and Content-Type",
    )
    expose: list[HeaderName] = Field(default=[], description="headers of the response that a page may read")
    credentials: bool = Field(
        default=False, description="whether pages may send cookies; a token in Authorization is none"
    )
    max_age: WholeSeconds | None = Field(default=None, description="of a preflight response; default 10m")


class WebSocketSettings(Strict):
    """The limits of the WebSockets of a route."""

    max_message: Size | None = Field(default=None, description="default 1MiB")
    idle: Duration | None = Field(default=None, description="without a sign of life; default 60s")
    frames: RateLimit | None = Field(
        default=None,
        description="below 1KiB, pings too; beyond: 1008 (a backend waits); default 1000/s, burst 5000",
    )
    origins: list[Origin] = Field(
        default=[], description="whose pages may open one, besides the host's own and those of cors"
    )


def _websocket(value: Any) -> Any:
    if isinstance(value, bool):
        return {} if value else None
    if value is None or isinstance(value, Mapping | WebSocketSettings):
        return value
    text = str(value).strip().lower()
    near = [text in ("yes", "on", "y", "true", "1", "enabled")]
    hint = "or write its limits, such as websocket: { max_message: 1MiB, idle: 60s }"
    raise Wrong("is not true, false or a mapping of limits", hint, _websocket, near)


WebSocket = Annotated[
    WebSocketSettings | None,
    BeforeValidator(_websocket, json_schema_input_type=bool | WebSocketSettings | None),
    Word("true, false or a mapping of limits", True),
]


class RouteSettings(Strict):
    """A rule from request to target."""

    name: Name = Field(description="its own among all routes: in logs, metrics and the console")
    path: PathPattern = Field(description="/literal/{param}/{rest*}")
    target: str = Field(description="the name of a backend, or documents", examples=["documents"])
    host: HostName | None = Field(default=None, description="default: any host")
    methods: list[Method] = Field(default=[], min_length=1, description="default: any method")
    strip: str = Field(
        default="", description="leading part of the path that the target does not see", examples=["/orders"]
    )
    encoded_slash: Literal["refuse", "pass"] | None = Field(
        default=None,
        description="%2F in the path; most backends read it as a slash, so that scopes of other routes would"
        " not hold. Default: refuse (400); documents pass it, for there it is never a slash",
    )
    scopes: dict[str, list[Scope]] = Field(
        default={},
        examples=[{"read": ["orders:read"], "write": ["orders:write"]}],
        description="by read, write or a method's name: the scopes a token needs, all of them; for documents"
        " also manage (a collection's settings), and each counts with :COLLECTION behind it for that one",
    )
    public: bool = Field(default=False, description="no token is needed, and no identity is passed on")
    auth: list[Literal["jwt", "api_key", "mtls"]] = Field(
        default=[],
        min_length=1,
        description="which credentials it takes; mtls: the certificate that a client shows in TLS. Default:"
        " jwt and api_key",
    )
    issuers: list[Name] = Field(
        default=[],
        min_length=1,
        examples=[["local"]],
        description="whose tokens it takes, local for those of gateway.conf; default: those of all",
    )
    require: dict[Claim, ClaimValues] = Field(
        default={},
        description="of each claim of the token the values of which one must be there; an API key has none",
    )
    bind: Literal["request"] | None = Field(
        default=None,
        description="request: the signed identity holds for this method and path alone. Default: for all of"
        " them at the backend",
    )
    timeouts: TimeoutSettings = Field(default=TimeoutSettings(), description="how long each step may take")
    body_limit: Size | None = Field(default=None, description="default 10MiB")
    cors: CorsSettings | None = Field(default=None, description="which pages of other origins may call it")
    set_host: HostHeader | None = Field(default=None, description="Host for the backend, not the client's")
    forward_authorization: bool = Field(
        default=False, description="whether the backend gets the client's Authorization, beside the identity"
    )
    websocket: WebSocket = Field(
        default=None, description="true, or its limits: WebSockets pass to the backend. Default: none do"
    )
    rate_limit: RateLimit | None = Field(
        default=None,
        description="for each tenant on this route, beside the tenant's own; on a public route for each"
        " client address",
    )
    retry: Literal["none", "idempotent"] = Field(
        default="none",
        description="idempotent: GET, HEAD, OPTIONS, QUERY, PUT and DELETE are buffered, and tried once more"
        " when the backend ends the connection before any byte of its response: they may run twice. Default:"
        " none",
    )
    interim: Literal["drop", "relay"] = Field(
        default="drop", description="interim responses of the backend, such as 103 Early Hints; default drop"
    )


class FrontPageSettings(Strict):
    """What is at / where no route takes it: a page for a browser, JSON for a program."""

    title: str = Field(default="API gateway", min_length=1, max_length=100, description="its heading")
    token: str = Field(
        default=GIVEN_OUT, max_length=1000, description="how to get a token: lines of text with `code`"
    )
    links: dict[str, Link] = Field(default={}, description="name and address")
    routes: bool = Field(
        default=False, description="whether everybody may read the names and paths of all routes"
    )


def _front_page(value: Any) -> Any:
    if isinstance(value, bool):
        return {} if value else None
    if value is None or isinstance(value, Mapping | FrontPageSettings):
        return value
    hint = "true for the page, false for nothing, or a mapping with its words"
    raise Wrong("is not true, false or a mapping", hint, _front_page, [False])


FrontPage = Annotated[
    FrontPageSettings | None,
    BeforeValidator(_front_page, json_schema_input_type=bool | FrontPageSettings | None),
    Word("true, false or a mapping with its words", True),
]


class Settings(Strict):
    """config/routing.yaml: what the gateway serves, and for whom. Edited while it runs."""

    version: Literal[1] = Field(description="of this format")
    backends: dict[Name, BackendSettings] = Field(
        default={}, description="by name: services behind the gateway"
    )
    issuers: dict[Name, IssuerOrOff] = Field(
        default={},
        description="of tokens, beside that of gateway.conf, which local: false switches off",
        json_schema_extra={"properties": {LOCAL: {"const": False}}},
    )
    certificates: dict[Name, CertificateSettings] = Field(
        default={}, description="by name: whose the clients are that show a certificate (auth: [mtls])"
    )
    tenants: dict[TenantName, TenantSettings] = Field(
        default={}, description="by name: whom the data belong to; tokens of others are refused"
    )
    routes: list[RouteSettings] = Field(
        default=[], description="which requests go where, the most specific first"
    )
    trusted_proxies: list[Network] = Field(
        default=[], description="IP networks (or unix) whose forwarding headers count"
    )
    client_limit: RateLimit | None = Field(
        default=None,
        description="for each client address (IPv6: each /64), of calls to public routes and of calls without"
        " a token that was verified before, also where they match no route or are bad; checked before a"
        " token is verified. As many preflights (CORS) again",
    )
    rate_limit_headers: Literal["draft", "legacy", "none"] = Field(
        default="none",
        description="whether responses report the limits' status: RateLimit and RateLimit-Policy (draft), or"
        " X-RateLimit-Limit, -Remaining and -Reset (legacy)",
    )
    front_page: FrontPage = Field(
        default=FrontPageSettings(),
        description="what is at / where no route takes it: true, its words, or false for nothing (404)",
    )

    def limits(self) -> LimitRules:
        """The limits that are not of one tenant or route."""
        client = self.client_limit.compiled() if self.client_limit else None
        return LimitRules(client, self.rate_limit_headers)


def parse(data: Any) -> Settings:
    """Plain data to Settings. Raises Problems with all of them."""
    if not isinstance(data, Mapping):
        what = "it is empty" if data is None else f"it is {shown(data)}"
        reason = f"it is not a mapping of keys: {what}"
        raise Problems([Problem((), reason, "start the file with version: 1")])
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        found = [problem(item, Settings, _accepts) for item in error.errors(include_url=False)]
        raise Problems(one_about_local(found)) from None


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the routing config, for editors."""
    schema: dict[str, Any] = without_null(Settings.model_json_schema())
    for written in schema["properties"].values():
        if "patternProperties" in written:
            written["additionalProperties"] = False  # pydantic leaves names that do not match open
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _accepts(slot: Slot, value: Any) -> bool:
    try:
        made: Any = Annotated[slot.type, *slot.metadata, ...]  # it must hold something
        TypeAdapter(made, config=_config_for(slot.type)).validate_python(value)
    except ValidationError:
        return False
    return True


def _config_for(kind: Any) -> ConfigDict | None:
    """Strict as the fields of the models are; a model has its own, and takes none."""
    kind = bare(Slot(kind)).type
    return None if isinstance(kind, type) and issubclass(kind, BaseModel) else ConfigDict(strict=True)
