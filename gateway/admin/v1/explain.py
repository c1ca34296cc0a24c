"""POST /admin/v1/explain: what would happen to a request here and now, and why. Nothing is sent anywhere."""

from __future__ import annotations

from typing import Protocol

from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.admin.body import Members, json_response
from gateway.admin.explain import certificate, credential
from gateway.admin.explain.rows import explanation
from gateway.admin.explain.run import run
from gateway.auth.chain import AuthenticationChain, Unlimited
from gateway.auth.credentials import Credentials
from gateway.auth.issuers import Issuers
from gateway.auth.oauth.tickets import Tickets
from gateway.auth.stored import StoredCredentials
from gateway.config.live import LiveConfig
from gateway.core.errors import BadRequest
from gateway.core.http.hops import Via

_MEMBERS = ("method", "path", "host", "token", "headers", "certificate", "tls")


class View(Protocol):
    """What decides about requests."""

    live: LiveConfig
    issuers: Issuers
    stored: StoredCredentials
    via: Via


def install(app: web.Application, view: View) -> None:
    """Put the page on an application with the guard."""
    app.router.add_post("/admin/v1/explain", _Explaining(view).page)


class _Explaining:
    """Credentials are looked at as for clients, but by a chain of its own: nobody's calls are counted by it,
    and no ticket is used up."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._known = Credentials()
        self._chain = AuthenticationChain(self._known, view.issuers, view.stored, Unlimited(), Tickets())

    async def page(self, request: web.Request) -> web.Response:
        """The members: method (GET), path (with a query, or a URL), host, token (of an issuer, or an API
        key), headers (an object of texts), certificate (the client's, in PEM), tls (the section [tls:NAME] of
        the listener that it is shown to). 200 with `passed`, `status` and `code` of a refusal, the `route`'s
        name, and `steps`: what was found on the way, a name and a text each."""
        given, view = Members(request, _MEMBERS), self._view
        headers = CIMultiDict(given.texts("headers"))
        if given.text("host"):
            headers["Host"] = given.text("host")
        if given.text("token"):
            headers["Authorization"] = f"Bearer {given.text('token')}"
        method, path = given.text("method").upper() or "GET", given.text("path")
        if not path:
            raise BadRequest("The member path is missing: the path of the request that is to be explained.")
        try:
            pem, tls = given.text("certificate"), given.text("tls")
            shown = certificate.read(pem, tls) if pem else None
            asked = view.live.current, self._chain, method, path, CIMultiDictProxy(headers), view.via, shown
            call, refused = await run(*asked)
            store = view.stored.store.path
            revoked = await credential.revocations(call, refused, view.issuers, store, "gateway", shown)
        except ValueError as error:
            raise BadRequest(f"{error}.") from None
        finally:
            self._known.forget(lambda identity: True)  # its key may be withdrawn before the next look
        found = explanation(call, refused, view.issuers, revoked)
        return await json_response(
            {
                "passed": refused is None,
                "status": refused.status if refused is not None else None,
                "code": refused.code if refused is not None else None,
                "route": call.route.name if call.route is not None else None,
                # The keys are those of this gateway, and not fetched for this.
                "steps": [{"name": name, "text": text} for name, text in found if name != "fetched"],
            }
        )
