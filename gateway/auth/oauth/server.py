"""The endpoints of the authorization server: tokens for the API keys of machines, and what it publishes.

Tokens are those of the local issuer, as `gateway token` makes them, for a quarter of an hour at most. A token
names its API key in `client_id`, so it ends with the key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from time import time
from typing import Any

from gateway.auth.api_keys import SIGNING_ALGORITHMS
from gateway.auth.keys import KeysUnusable, new_claims
from gateway.auth.oauth import clients, form
from gateway.auth.oauth.clients import ApiKeys, Clients
from gateway.auth.oauth.errors import OAuthError
from gateway.auth.oauth.once import Once
from gateway.auth.oauth.tickets import Tickets
from gateway.auth.signing_keys import SigningKeys
from gateway.call import Call
from gateway.core.errors import NoRoute
from gateway.core.jwt.issuer import Issuer
from gateway.core.jwt.keys import sign
from gateway.core.model import Identity
from gateway.core.own_endpoints import OwnEndpoint
from gateway.edge.client import body
from gateway.edge.response.own import Handler, OwnResponse

LIFE = 900.0  # seconds
MAX_AGE = 300  # seconds that others may keep what is published
_GRANT = "client_credentials"
_READABLE = {"Cache-Control": f"public, max-age={MAX_AGE}", "X-Content-Type-Options": "nosniff"}
_NO_METADATA = "There is no metadata: [tokens] issuer in gateway.conf is not the public URL of the gateway."
_NO_KEY = "No tokens are given out here: the gateway has no key to sign them with."


class AuthorizationServer:
    """issuer: the local one. keys: that sign its tokens; identity_keys: that sign for backends. now: seconds
    since the epoch."""

    def __init__(
        self,
        issuer: Issuer,
        keys: SigningKeys,
        identity_keys: SigningKeys,
        api_keys: ApiKeys,
        tickets: Tickets,
        now: Callable[[], float] = time,
        once: Once | None = None,
    ) -> None:
        self.keys = keys
        self._issuer = issuer
        self._identity_keys = identity_keys
        self._now = now
        url = issuer.issuer.rstrip("/")
        self._metadata = _metadata(issuer.issuer, url) if url.startswith(("https://", "http://")) else b""
        endpoint = [url + OwnEndpoint.TOKEN.value] if self._metadata else []
        self._clients = Clients(api_keys, (issuer.issuer, *endpoint), once)
        self.handlers: Mapping[OwnEndpoint, Handler] = {
            OwnEndpoint.TOKEN: self._serve_token,
            OwnEndpoint.TICKET: tickets.serve,
            OwnEndpoint.METADATA: self._serve_metadata,
            OwnEndpoint.KEYS: self._serve_keys,
        }

    # --- tokens ---

    async def _serve_token(self, call: Call) -> OwnResponse:
        """RFC 6749 section 4.4."""
        try:
            return await self._token(call, await body.read(call))
        except OAuthError as error:
            call.code = error.code
            return error.response()

    async def _token(self, call: Call, raw: bytes) -> OwnResponse:
        asked = _parameters(call, raw)
        now = self._now()
        identity = await self._clients.identity(call.head, asked, now)
        tenant = call.snapshot.tenants.get(identity.tenant.value)
        if tenant is None or tenant.disabled:
            raise OAuthError("unauthorized_client", "The client's tenant is not served here.")
        scope = _narrowed(identity, asked.get("scope"))
        life = int(min(LIFE, identity.expires - now))
        who = identity.tenant.value, identity.subject
        claims = new_claims(self._issuer, *who, scope, int(now), life)
        claims["client_id"] = identity.credential_id
        try:
            token = sign(claims, self.keys.current(now))
        except KeysUnusable:
            raise NoRoute(_NO_KEY) from None
        made = {"access_token": token, "token_type": "Bearer", "expires_in": life, "scope": scope}
        return OwnResponse(200, json.dumps(made).encode(), headers=form.NOT_STORED)

    # --- what is published ---

    async def _serve_metadata(self, call: Call) -> OwnResponse:
        """RFC 8414."""
        if not self._metadata:
            raise NoRoute(_NO_METADATA)
        return _published(call, self._metadata)

    async def _serve_keys(self, call: Call) -> OwnResponse:
        """The public halves of what signs here (RFC 7517), a new one before it is used."""
        now = self._now()
        keys = [*self.keys.public(now), *self._identity_keys.public(now)]
        return _published(call, json.dumps({"keys": keys}).encode())


def _parameters(call: Call, raw: bytes) -> dict[str, str]:
    """The parameters of a request for a token. Raises OAuthError."""
    if call.query:
        raise OAuthError("invalid_request", "Send parameters in the body, and none in the URL.")
    if form.media_type(call) != form.FORM:
        raise OAuthError("invalid_request", f"Send a body of the Content-Type {form.FORM}.")
    try:
        asked = form.parse(raw)
    except ValueError:
        reason = "The body is no form in UTF-8, or names a parameter twice."
        raise OAuthError("invalid_request", reason) from None
    if "grant_type" not in asked:
        raise OAuthError("invalid_request", f"There is no grant_type; send {_GRANT}.")
    if asked["grant_type"] != _GRANT:
        raise OAuthError("unsupported_grant_type", f"The only grant_type here is {_GRANT}.")
    return asked


def _narrowed(identity: Identity, wanted: str | None) -> str:
    """The scopes of the token: those wanted, or all that the client has. Raises OAuthError."""
    if wanted is None:
        return identity.scope_text
    names = dict.fromkeys(wanted.split(" "))
    if not identity.scopes.issuperset(names):
        raise OAuthError("invalid_scope", "The client may not have one of these scopes.")
    return " ".join(names)


def _metadata(issuer: str, url: str) -> bytes:
    known: dict[str, Any] = {
        "issuer": issuer,
        "token_endpoint": url + OwnEndpoint.TOKEN.value,
        "jwks_uri": url + OwnEndpoint.KEYS.value,
        "grant_types_supported": [_GRANT],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": list(clients.METHODS),
        "token_endpoint_auth_signing_alg_values_supported": list(SIGNING_ALGORITHMS),
    }
    return json.dumps(known).encode()


def _published(call: Call, text: bytes) -> OwnResponse:
    """What anybody may read and keep for a while, unless the client has it already (RFC 9110 section
    13.1.2)."""
    tag = f'"{hashlib.sha256(text).hexdigest()[:32]}"'
    headers = {**_READABLE, "ETag": tag}
    kept = [part for value in call.head.values(b"if-none-match") for part in value.split(",")]
    if any(part.strip().removeprefix("W/") in (tag, "*") for part in kept):
        return OwnResponse(304, headers=headers)
    return OwnResponse(200, text, headers=headers)
