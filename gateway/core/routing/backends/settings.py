"""A backend of the routing config as written: its shape and its words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from gateway.core.policy.circuit import HealthRule
from gateway.core.routing.names import check_address
from gateway.core.routing.problems import Wrong
from gateway.core.routing.shape import Word
from gateway.core.routing.values import (
    BackendAddress,
    Duration,
    HostHeader,
    HostName,
    ProbePath,
    Statuses,
    Strict,
)


def _weight(value: Any) -> Any:
    if value == 0 and not isinstance(value, bool):
        hint = "an address that is to get no requests is left out"
        raise Wrong("is not a whole number from 1 to 1000", hint)
    return value


class AddressSettings(Strict):
    """One address, with what is its own."""

    address: BackendAddress = Field(
        description="http://host:port, https://host:port, or unix:NAME.sock"
    )
    weight: Annotated[int, BeforeValidator(_weight)] = Field(
        default=1, ge=1, le=1000, description="its part of the requests, against the others'", examples=[3]
    )


def _address(value: Any) -> Any:
    if isinstance(value, Mapping | AddressSettings):
        return value
    if not isinstance(value, str):
        raise Wrong("is not an address, or a mapping of address and weight")
    return {"address": check_address(value)}  # here, so that the problem is of the entry that was written


OneAddress = Annotated[
    AddressSettings,
    BeforeValidator(_address, json_schema_input_type=BackendAddress | AddressSettings),
    Word("an address, or a mapping of address and weight", "http://127.0.0.1:8000"),
]


class HealthSettings(Strict):
    """How the health of a backend's addresses is found: probes, and responses to requests."""

    path: ProbePath | None = Field(default=None, description="what probes ask for; default: there are none")
    host: HostHeader | None = Field(default=None, description="Host of a probe; default localhost")
    interval: Duration | None = Field(default=None, description="between two probes; default 5s")
    timeout: Duration | None = Field(default=None, description="until a probe's response begins; default 2s")
    rise: int | None = Field(
        default=None, ge=1, le=100, description="good probes until it is healthy; default 2"
    )
    fall: int | None = Field(
        default=None, ge=1, le=100, description="bad probes until it is not healthy; default 3"
    )
    expect: Statuses | None = Field(default=None, description="statuses of a good probe; default 200-399")
    server_errors: bool | None = Field(
        default=None, description="whether five 5xx responses in a row are a failure too; default: no"
    )

    def compiled(self) -> HealthRule:
        """The rule, with the defaults of what is not written."""
        return HealthRule(**{name: value for name, value in self if value is not None})


class QueueSettings(Strict):
    """How requests wait for a seat of a backend."""

    length: int | None = Field(
        default=None,
        ge=0,
        le=100_000,
        description="requests of one tenant that may wait; default 1000",
        examples=[1000],
    )
    timeout: Duration | None = Field(
        default=None, description="waiting for a seat, on routes that do not say; default 5s"
    )


class TlsSettings(Strict):
    """How https:// addresses are spoken to. Relative files are in the folder of routing.yaml."""

    ca: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        examples=["ca.pem"],
        description="the file of the authorities that its certificate is to be of; default: the system's",
    )
    server_name: HostName | None = Field(
        default=None,
        description="whose certificate is asked for (SNI) and checked; default: the address's host",
    )
    verify: bool = Field(default=True, description="whether the certificate is checked")
    certificate: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        examples=["gateway.pem"],
        description="the file of the gateway's own certificate, for a backend that asks for it",
    )
    key: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        examples=["gateway.key"],
        description="the file of its key; default: that of the certificate",
    )


class ResolveSettings(Strict):
    """How names among the addresses are resolved."""

    each: bool = Field(
        default=False,
        description="whether each address of a name is one of the backend's: with seats, a circuit and probes"
        " of its own",
    )
    interval: Duration | None = Field(
        default=None, description="after which a name is resolved again; default: 10s", examples=["30s"]
    )


class BackendSettings(Strict):
    """A service behind the gateway."""

    kind: Literal["gunicorn", "uvicorn", "asab", "http"] = Field(
        description="what serves it; each request takes a thread of gunicorn, the others are asynchronous"
    )
    addresses: list[OneAddress] = Field(
        min_length=1,
        max_length=64,
        description="where it listens: http://host:port, https://host:port, or unix:NAME.sock",
    )
    tls: TlsSettings = Field(default=TlsSettings(), description="how https:// addresses are spoken to")
    resolve: ResolveSettings = Field(
        default=ResolveSettings(), description="how names among the addresses are resolved"
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="threads of each address; gunicorn needs it",
        examples=[8],
    )
    health: HealthSettings = Field(
        default=HealthSettings(), description="how addresses are judged; without it by requests alone"
    )
    concurrency: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        examples=[100],
        description="requests inside each address at once, of an asynchronous backend; default: no limit",
    )
    streams: int | None = Field(
        default=None,
        ge=0,
        le=100_000,
        examples=[2],
        description="event streams and WebSockets at each address at once. They hold some of the threads"
        " (default: at most a quarter); of asynchronous backends they come on top of concurrency (default:"
        " no limit)",
    )
    reserve: int | None = Field(
        default=None,
        ge=0,
        le=64_000,
        description="seats that heavy tenants leave free for the others; default: an eighth of all",
    )
    slow_start: Duration | None = Field(
        default=None,
        description="within which an address that is new, or healthy again, grows into its part of the"
        " requests; default: at once",
        examples=["30s"],
    )
    queue: QueueSettings = Field(default=QueueSettings(), description="how requests wait for a seat")
    identity: Literal["signed", "headers", "both"] | None = Field(
        default=None,
        description="how it is told who calls: X-Gateway-Identity, which it can check; X-Tenant, X-Subject"
        " and X-Scopes, which whoever reaches it can forge; or both, to migrate; default: signed",
    )
