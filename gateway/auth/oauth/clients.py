"""Who asks for a token: the clients are the API keys, by their ids (RFC 6749 section 2.3)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol
from urllib.parse import unquote_plus

from gateway.auth.oauth.assertions import REMEMBERED, TYPE, Assertions, used_before
from gateway.auth.oauth.errors import OAuthError
from gateway.auth.oauth.once import Once
from gateway.core import api_keys
from gateway.core.errors import Saturated, Unauthenticated
from gateway.core.http.head import Head
from gateway.core.jwt.keys import KeySet
from gateway.core.model import Identity
from gateway.core.shared.ports import Away

METHODS = ("client_secret_basic", "client_secret_post", "private_key_jwt")


class ApiKeys(Protocol):
    """The API keys, see auth.api_keys."""

    def identity(self, text: str, now: float) -> Identity:
        """Who calls with this key. Raises Unauthenticated."""
        ...

    def signing(self, id_: str, now: float) -> Identity:
        """Who calls with the private key of this key's owner. Raises Unauthenticated."""
        ...

    def registered(self, id_: str) -> KeySet | None:
        """The public keys that this key's owner signs with; None without any."""
        ...


class Clients:
    """audiences: what we are called in the assertions of clients. once: where several processes remember
    which were used."""

    def __init__(self, keys: ApiKeys, audiences: Sequence[str], once: Once | None = None) -> None:
        self._keys = keys
        self._once = once
        self._assertions = Assertions(audiences)

    async def identity(self, head: Head, form: Mapping[str, str], now: float) -> Identity:
        """The identity of the client that sent this. now: seconds since the epoch. Raises OAuthError,
        Saturated."""
        signs = "client_assertion" in form or "client_assertion_type" in form
        if bool(head.authorization) + ("client_secret" in form) + signs > 1:
            raise OAuthError("invalid_request", "Authenticate the client in one way, and not in several.")
        try:
            if signs:
                return await self._by_assertion(form, now)
            client, secret = _basic(head.authorization) if head.authorization else _posted(form)
            if form.get("client_id", client) != client:
                raise OAuthError("invalid_request", "The client_id is not that of Authorization.")
            text = secret if api_keys.is_api_key(secret) else f"{api_keys.PREFIX}{client}_{secret}"
            if api_keys.split(text)[0] != client:
                raise api_keys.unknown()
            return self._keys.identity(text, now)
        except Unauthenticated as error:
            raise OAuthError("invalid_client", error.detail) from None

    async def _by_assertion(self, form: Mapping[str, str], now: float) -> Identity:
        if form.get("client_assertion_type") != TYPE or "client_assertion" not in form:
            reason = f"Send client_assertion, and client_assertion_type={TYPE}."
            raise OAuthError("invalid_request", reason)
        client, jti = self._assertions.client(form["client_assertion"], self._keys.registered, now)
        if form.get("client_id", client) != client:
            raise OAuthError("invalid_request", "The client_id is another one than the assertion's.")
        if self._once is not None:
            await self._use(self._once, client, jti)
        return self._keys.signing(client, now)

    async def _use(self, once: Once, client: str, jti: str) -> None:
        """It counts as used in all processes; where that cannot be asked, it is not taken."""
        key = hashlib.sha256(f"assertion {client}\0{jti}".encode("utf-8", "surrogatepass")).hexdigest()
        try:
            is_new = await once.put(key, "", REMEMBERED)
        except Away:
            raise Saturated(
                "Whether the assertion was used before cannot be asked for now.", retry_after=1.0
            ) from None
        if not is_new:
            raise used_before()


def _basic(values: Sequence[str]) -> tuple[str, str]:
    """Name and secret, each of them form-encoded before it was put there (RFC 6749 section 2.3.1)."""
    scheme, _, text = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "basic":
        reason = "Send one Authorization header: Basic, and client_id:client_secret in base64."
        raise OAuthError("invalid_client", reason)
    try:
        client, colon, secret = base64.b64decode(text.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        client = colon = secret = ""
    if not colon:
        raise OAuthError("invalid_client", "The Authorization header is not client_id:secret in base64.")
    return unquote_plus(client), unquote_plus(secret)


def _posted(form: Mapping[str, str]) -> tuple[str, str]:
    if "client_id" not in form or "client_secret" not in form:
        reason = "Authenticate the client: by Authorization: Basic, or by client_id and client_secret."
        raise OAuthError("invalid_client", reason)
    return form["client_id"], form["client_secret"]
