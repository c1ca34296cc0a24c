"""What this application has to know of the gateway, from its environment or as given by its code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

LOOPBACK, EVERYONE = "loopback", "everyone"


class SettingsInvalid(ValueError):
    """A setting is missing or wrong; the text says which, and what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """keys: the gateway's public keys: a file's path, an http(s) URL, or the JWK set itself. audience: the
    name of this backend in the gateway's routing.yaml. issuer: what the gateway calls itself. trust_headers:
    whose X-Tenant, X-Subject and X-Scopes count without a signature: nobody's (""), those of this host
    ("loopback", unix sockets too; for development), or everyone's ("everyone": whoever can connect is
    believed). leeway: seconds that the clocks of the two may differ.

    With neither keys nor trust_headers every request is refused. Raises SettingsInvalid.
    """

    keys: str = ""
    audience: str = ""
    issuer: str = "gateway"
    trust_headers: str = ""
    leeway: float = 10.0

    def __post_init__(self) -> None:
        if self.keys and not self.audience:
            raise SettingsInvalid(
                "GATEWAY_IDENTITY_KEYS is set, and GATEWAY_IDENTITY_AUDIENCE is not: it is the name that "
                "this application has under `backends` in the gateway's routing.yaml."
            )
        if self.trust_headers not in ("", LOOPBACK, EVERYONE):
            raise SettingsInvalid(
                f"GATEWAY_IDENTITY_TRUST_HEADERS is {LOOPBACK!r}, {EVERYONE!r} or not set at all."
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """GATEWAY_IDENTITY_KEYS, _AUDIENCE, _ISSUER and _TRUST_HEADERS; the gateway sets the first three for
        the backends that it runs. Raises SettingsInvalid."""

        def get(name: str) -> str:
            return environment.get(f"GATEWAY_IDENTITY_{name}", "").strip()

        return cls(get("KEYS"), get("AUDIENCE"), get("ISSUER") or "gateway", get("TRUST_HEADERS"))

    def trusts(self, peer: str) -> bool:
        """Whether headers without a signature count. peer: the address that has connected, "" for a unix
        socket."""
        if self.trust_headers != LOOPBACK:
            return self.trust_headers == EVERYONE
        if not peer:
            return True
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return address.is_loopback
