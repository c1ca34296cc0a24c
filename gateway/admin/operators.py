"""Who an operator is, by the credential: the local token, a token or an API key of the gateway's own with the
scope gateway:admin, a token of the operators' issuer, or a session of the console."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from time import monotonic, time
from typing import Any

from gateway.admin.sessions import PREFIX as SESSION
from gateway.admin.sessions import Sessions
from gateway.auth.api_keys import REVOKED
from gateway.auth.credentials import Credentials
from gateway.auth.issuers import Issuers
from gateway.auth.operator_token import PREFIX as LOCAL_TOKEN
from gateway.auth.operator_token import OperatorToken
from gateway.core.config.operator import Operator, Role, together
from gateway.core.errors import Forbidden, Unauthenticated
from gateway.core.jwt.claims import claim_texts
from gateway.core.jwt.issuer import LOCAL
from gateway.core.jwt.verify import parse
from gateway.core.model import Identity, Tenant
from gateway.core.policy import access
from gateway.core.process.operators import ISSUER_NAME
from gateway.core.process.operators import Operators as Settings
from gateway.edge.backend.origin import Origins
from gateway.runtime.log_interval import LogInterval

L = logging.getLogger(__name__)
_OWNER = Operator("local", Role.OWNER)
_NOT_LISTED = "This credential is no operator's here."
_NOT_OURS = "The admin listener takes tokens of the gateway's own issuer only."


@dataclass(frozen=True, slots=True)
class SignedIn:
    """An operator by a credential. until: when it ends (seconds since the epoch), None for never. session:
    whether it is a session of the console."""

    operator: Operator
    until: float | None = None
    session: bool = False


class NoOperator(Forbidden):
    """A credential that is genuine, of somebody who is no operator. who: for the audit."""

    def __init__(self, error: Forbidden, who: str) -> None:
        super().__init__(error.detail, headers=error.headers)
        self.who = who


class Operators:
    """All operators. start() on the running loop, close() at the end.

    verify: a credential of the public listener to its identity. covers: whether a credential was revoked.
    now: the monotonic clock; wall: seconds since the epoch.
    """

    def __init__(
        self,
        settings: Settings,
        token: OperatorToken,
        verify: Callable[[str], Awaitable[Identity]],
        covers: Callable[[Identity], bool],
        tenants: Callable[[], Mapping[str, Tenant]],
        origins: Origins,
        now: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time,
    ) -> None:
        self.sessions = Sessions(now, wall)
        self._settings = settings
        self._token = token
        self._verify = verify
        self._covers = covers
        self._tenants = tenants
        self._known = Credentials(wall, size=1000)
        self._issuers = Issuers(self._known, origins, now=now, wall=wall)
        self._interval = LogInterval()

    def start(self) -> None:
        """Make the local token where there is none, and begin to have the keys of the operators' issuer.
        Needs the running loop. Raises KeysUnusable. Blocks for the file."""
        self._token.ensure()
        issuer = self._settings.issuer
        self._issuers.reconcile(None, {} if issuer is None else {ISSUER_NAME: issuer.issuer})

    async def refresh(self, *, due: bool = False) -> None:
        """Follow the file of the local token and the keys of the issuer; to be called every second. due: also
        fetch what it is not time for."""
        await self._token.refresh()
        await self._issuers.refresh(due=due)

    async def close(self) -> None:
        """Nothing is asked any more."""
        await self._issuers.close()

    def states(self) -> list[dict[str, Any]]:
        """The operators' issuer for /admin/auth; nothing where there is none."""
        return self._issuers.states()

    async def of(self, text: str, named: Iterable[str] = ()) -> SignedIn:
        """Whose credential it is. named: tenants that the request names beside it. Raises Unauthenticated,
        NoOperator, IssuerUnavailable."""
        if text.startswith(LOCAL_TOKEN):
            if not self._token.is_it(text):
                raise Unauthenticated("This is not the local token, or not any more; read its file again.")
            return SignedIn(_OWNER)
        if text.startswith(SESSION):
            return await self._of_session(text)
        if self._is_of_issuer(text):
            return await self._of_issuer(text)
        return await self._of_gateway(text, named)

    async def _of_session(self, text: str) -> SignedIn:
        session = self.sessions.use(text)
        try:
            owner = await self.of(session.credential)
        except (Unauthenticated, NoOperator):
            self.sessions.end(text)
            raise Unauthenticated(
                "The credential that the session stands for has ended. Sign in again."
            ) from None
        until = session.until if owner.until is None else min(session.until, owner.until)
        return SignedIn(owner.operator, until, session=True)

    # --- tokens and API keys of the gateway's own ---

    async def _of_gateway(self, text: str, named: Iterable[str]) -> SignedIn:
        """As on the public listener: of a tenant that is served, with the scope. Whoever runs another issuer,
        for a tenant perhaps, does not run the gateway, so its tokens do not count."""
        identity = await self._verify(text)
        who = f"{identity.tenant}/{identity.subject}"
        try:
            if identity.kind == "jwt" and identity.issuer != LOCAL:
                raise Forbidden(_NOT_OURS)
            access.resolve_tenant(identity, self._tenants(), named)
            if access.ADMIN_SCOPE not in identity.scopes:
                raise access.lacks([access.ADMIN_SCOPE])
        except Forbidden as error:
            raise NoOperator(error, who) from None
        return SignedIn(self._named(identity, who), identity.good_until)

    def _named(self, identity: Identity, who: str) -> Operator:
        """With the role of [operators]; an owner where there is no such section."""
        named = self._settings.named
        if named is None:
            return Operator(who, Role.OWNER)
        grant = named.get(identity.subject.lower())
        if grant is None:
            raise self._not_listed(who, f"[operators] in gateway.conf does not list `{identity.subject}`")
        return grant.to(who)

    # --- tokens of the operators' issuer ---

    def _is_of_issuer(self, text: str) -> bool:
        """By the `iss` that it claims, before any key is looked at. Raises Unauthenticated."""
        issuer = self._settings.issuer
        return (
            issuer is not None
            and text.count(".") == 2
            and parse(text).claims.get("iss") == issuer.issuer.issuer
        )

    async def _of_issuer(self, text: str) -> SignedIn:
        settings = self._settings.issuer
        assert settings is not None
        identity = self._known.known(text)
        if identity is None:
            identity = await self._issuers.verify(text, lambda name: False)
            self._known.remember(text, identity)
        if self._covers(identity):
            raise Unauthenticated(REVOKED)
        who = f"sso:{identity.subject}"
        groups = set(claim_texts(identity.claims, settings.claim))
        grant = together(given for group, given in settings.groups if group in groups)
        if grant is None:
            what = "holds no group" if groups else "is not there, or no text and no list of texts: none"
            about = f"its claim {settings.claim} {what} of [operators:issuer] in gateway.conf"
            raise self._not_listed(who, about)
        return SignedIn(grant.to(who), identity.good_until)

    def _not_listed(self, who: str, why: str) -> NoOperator:
        """The reason is for who runs the gateway, and not for who asks."""
        if self._interval.is_over():
            L.warning("%s is refused at the admin listener: %s", who, why)
        return NoOperator(Forbidden(_NOT_LISTED), who)
