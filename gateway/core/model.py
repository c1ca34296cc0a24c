"""The values that the gateway is made of: frozen, named as in gateway/README.md, every name resolved.

`Route` is generic in its target and its authentication, so that this room knows nothing of what responds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

from gateway.core import methods
from gateway.core.policy.circuit import PASSIVE, HealthRule
from gateway.core.policy.limits import Rate

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

T = TypeVar("T")
A = TypeVar("A")

TENANT_PATTERN = r"[a-z0-9][a-z0-9-]{0,62}"
SUBJECT_PATTERN = r"[\x21-\x7e]{1,200}"  # it becomes a header's value
_tenant = re.compile(TENANT_PATTERN)

MANAGE = "manage"


@dataclass(frozen=True, slots=True)
class TenantId:
    """A tenant's name, valid by construction; only authentication makes one from a request.

    Raises ValueError when the name is not `[a-z0-9][a-z0-9-]{0,62}`.
    """

    value: str

    def __post_init__(self) -> None:
        if not _tenant.fullmatch(self.value):
            raise ValueError(f"a tenant's name is {TENANT_PATTERN}")

    def __str__(self) -> str:
        return self.value


CredentialKind = Literal["jwt", "api_key", "mtls"]  # a token, a key of ours, or a certificate of the client
IdentityForm = Literal["signed", "headers", "both"]  # how a backend is told who calls


class Caller(NamedTuple):
    """What of an identity is kept when its request is over. issuer: as in Identity."""

    tenant: str
    scopes: frozenset[str]
    issuer: str
    kind: CredentialKind


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller: what a verified credential says. `expires`, `issued` and `good_until` are in seconds since
    the epoch.

    `scope_text` is the scopes as one header value, `lines` are the header lines that tell a backend who calls
    (every value was validated with the credential), `logged` the members of the access log's line about who
    called, and with which credential, `caller` what of it is kept for a rehearsal. They are built once per
    credential and not per request.
    issuer: its name in routing.yaml, "" of an API key. credential_id: a token's `jti`, an API key's id, ""
    without. good_until: when it is refused, which clocks that differ move behind `expires`. claims: all that
    the token says. signed: what a backend is told of it in signed form, by the backend's name, kept here
    because it lives as long.
    """

    tenant: TenantId
    subject: str
    scopes: frozenset[str]
    expires: float
    scope_text: str = ""
    issuer: str = ""
    kind: CredentialKind = "jwt"
    credential_id: str = ""
    issued: float = 0.0
    good_until: float = 0.0
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    lines: bytes = field(init=False, repr=False, compare=False)
    logged: str = field(init=False, repr=False, compare=False)
    caller: Caller = field(init=False, repr=False, compare=False)
    signed: dict[str, SignedLines] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        first = f"X-Tenant: {self.tenant.value}\r\nX-Subject: {self.subject}\r\n"
        lines = f"{first}X-Scopes: {self.scope_text}\r\n".encode("utf-8", "replace")
        object.__setattr__(self, "lines", lines)
        known = {"tenant": self.tenant.value, "subject": self.subject, "issuer": self.issuer}
        if self.kind == "api_key":
            known["issuer"] = self.kind
        known["credential"] = self.credential_id
        members = [f',"{name}":{quoted(value) if value else "null"}' for name, value in known.items()]
        object.__setattr__(self, "logged", "".join(members))
        object.__setattr__(self, "signed", {})
        caller = Caller(self.tenant.value, self.scopes, self.issuer, self.kind)
        object.__setattr__(self, "caller", caller)
        if not self.good_until:
            object.__setattr__(self, "good_until", self.expires)


@dataclass(frozen=True, slots=True)
class SignedLines:
    """Header lines with a signed identity, to be made anew from `renew_at` on (seconds since the epoch)."""

    lines: bytes = field(repr=False)
    renew_at: float


@dataclass(frozen=True, slots=True)
class CallerRule:
    """Which callers a route takes, beside scopes. Empty: any.

    kinds: of credentials. issuers: by their names. claims: of each claim (a dotted path), the values of which
    one must be there.
    """

    kinds: frozenset[CredentialKind] = frozenset()
    issuers: frozenset[str] = frozenset()
    claims: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tenant:
    """weight: its share of a backend's seats, against the other tenants'. concurrency: how many requests it
    may have under way (waiting or inside) at all backends and the documents together; 0 is no limit.
    max_documents, max_bytes, max_collections: what it may keep, None for no limit. max_feeds: how many change
    feeds it may have open. body_memory: bytes that bodies of its requests to documents may take at once."""

    id: TenantId
    name: str
    rate: Rate | None = None
    disabled: bool = False
    quota: int = 0  # requests per day (UTC); 0 is no quota
    weight: float = 1.0
    concurrency: int = 0
    max_documents: int | None = None
    max_bytes: int | None = None
    max_feeds: int = 100
    max_collections: int = 10_000
    body_memory: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class BackendTls:
    """How connections to a backend are secured; all texts but server_name are paths of PEM files.

    server_name: who the server is to be, "" for the host of its address. verify: whether that is checked. ca:
    by which authorities, "" for the system's. certificate, key: what the gateway shows of itself, "" for
    nothing; key "": it is in the file of the certificate.
    """

    server_name: str = ""
    verify: bool = True
    ca: str = ""
    certificate: str = ""
    key: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(path for path in (self.ca, self.certificate, self.key) if path)


FRESH = 10.0  # seconds that the addresses of a name are taken for, unless the config says


@dataclass(frozen=True, slots=True)
class Address:
    """Where a backend listens: a host and port, or the path of a unix socket (then host is empty).

    weight: its part of the requests, against those of the backend's other addresses. tls: None for none.
    fresh: seconds after which its host is resolved again.
    """

    text: str
    host: str = ""
    port: int = 0
    path: str = ""
    weight: float = 1.0
    tls: BackendTls | None = None
    fresh: float = FRESH


# Seconds that a connection may have been idle and still be used again. Servers close idle connections:
# gunicorn at 2 s, uvicorn at 5 s, aiohttp (under ASAB) at 75 s. We let go well before they do.
_REUSE_IDLE = {"gunicorn": 1.5, "uvicorn": 4.0, "asab": 60.0, "http": 4.0}


@dataclass(frozen=True, slots=True)
class Backend:
    """A service behind the gateway. threads, concurrency, streams: per address.

    threads: only set on threaded backends. concurrency: the same for asynchronous ones; 0 is no limit.
    streams: how many event streams and WebSockets at most; they hold some of the threads, but come on top of
    `concurrency`. None is no limit. reserve: seats kept from heavy tenants; None is an eighth of all.
    queue_length: requests of one tenant that may wait. queue_timeout: seconds, for routes that do not say.
    identity: how it is told who calls. slow_start: seconds within which an address that is new, or healthy
    again, grows into its weight. resolve_each: each address of a name is one of the backend's.
    """

    name: str
    kind: str
    addresses: tuple[Address, ...]
    threads: int = 0
    health: HealthRule = PASSIVE
    concurrency: int = 0
    streams: int | None = None
    reserve: int | None = None
    queue_length: int = 1000
    queue_timeout: float | None = None
    identity: IdentityForm = "signed"
    slow_start: float = 0.0
    resolve_each: bool = False

    @property
    def threaded(self) -> bool:
        """Whether each request holds one of its threads."""
        return self.threads > 0

    @property
    def reuse_idle(self) -> float:
        """For how many idle seconds a warm connection stays usable."""
        return _REUSE_IDLE[self.kind]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; 0 means none (only `total` may be 0). body_rate: bytes a second that the body of a request
    must average (see deadline.BodyAllowance); 0 is no bound."""

    body: float = 30.0
    body_rate: int = 1024
    queue: float = 5.0
    connect: float = 2.0
    first_byte: float = 30.0
    idle: float = 60.0
    total: float = 300.0


@dataclass(frozen=True, slots=True)
class CorsRule:
    """What other origins may do on a route; `origins` are exact, or the single `*`."""

    origins: tuple[str, ...]
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    credentials: bool = False
    max_age: int = 600


# Chats, games and cursors send up to a hundred a second; a processor has time for 30,000 that come alone.
SMALL_FRAMES = Rate(1000.0, 5000)


@dataclass(frozen=True, slots=True)
class WebSocketRule:
    """What a WebSocket on a route may do. max_message: bytes, over all fragments. idle: seconds without a
    sign of life. origins: their pages may open one, besides those of the request's own host. frames:
    small ones (see core.frames.SMALL), control frames among them, in each direction."""

    max_message: int = 1024 * 1024
    idle: float = 60.0
    origins: tuple[str, ...] = ()
    frames: Rate = SMALL_FRAMES


@dataclass(frozen=True, slots=True)
class Route(Generic[T, A]):
    """A rule from request to target.

    authentication: what tells who calls. None on a public route, and in a config that is only looked at.
    path: canonical pattern, `{name}` for one segment, `{name*}` for the rest. methods: empty is any.
    encoded_slash: whether `%2F` may stand in the path.
    strip: the leading part of the path that the target does not see. read_scopes / write_scopes /
    method_scopes: all of them are required of the token. websocket: None when the route has none. retry:
    whether a request that may be is tried again. interim: whether interim responses pass. rate: for each
    tenant on this route (each client address on a public one). by_collection: the target asks for the
    scopes itself, of the collection (see core/policy/access.py); manage_scopes: for its settings. callers:
    None takes all. bind: whether a signed identity names the request's method and path.
    """

    name: str
    path: str
    target_name: str
    target: T
    authentication: A | None = None
    host: str = ""
    methods: frozenset[str] = frozenset()
    strip: str = ""
    encoded_slash: bool = False
    public: bool = False
    read_scopes: frozenset[str] = frozenset()
    write_scopes: frozenset[str] = frozenset()
    method_scopes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    by_collection: bool = False
    manage_scopes: frozenset[str] = frozenset()
    timeouts: Timeouts = Timeouts()
    body_limit: int = 10 * 1024 * 1024
    cors: CorsRule | None = None
    set_host: str = ""
    forward_authorization: bool = False
    backend: Backend | None = None
    websocket: WebSocketRule | None = None
    rate: Rate | None = None
    retry: bool = False
    interim: bool = False
    callers: CallerRule | None = None
    bind: bool = False

    def all_scopes(self) -> frozenset[str]:
        """Every scope that some request on the route needs."""
        return self.read_scopes.union(self.write_scopes, self.manage_scopes, *self.method_scopes.values())

    def scopes_for(self, method: str) -> frozenset[str]:
        """The scopes that a token needs for this method; an unknown method counts as a write.

        HEAD asks for what GET shows, so without a rule of its own it needs what GET needs. MANAGE stands for
        every method on a collection's settings.
        """
        if method == MANAGE:
            return self.manage_scopes
        own = self.method_scopes.get(method)
        if own is None and method == "HEAD":
            own = self.method_scopes.get("GET")
        if own is not None:
            return own
        return self.read_scopes if method in methods.SAFE else self.write_scopes


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """Peers with forwarding headers that count. Empty: no peer's do. known: results for addresses seen
    before, as a proxy comes again with every request; see forwarding.is_trusted."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    unix: bool = False
    known: dict[str, bool] = field(default_factory=dict, compare=False, repr=False)


NOBODY = TrustedProxies()
