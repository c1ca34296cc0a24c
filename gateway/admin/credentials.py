"""API keys and revocations on the admin listener.

Who changes them shows a token with the scope gateway:admin, on loopback too: whatever runs on this host
reaches that, and would give itself a key for any tenant. So no page in a browser can change them either.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from aiohttp import web

from gateway.admin import guard
from gateway.admin.body import Members, json_response
from gateway.admin.planes import DataPlanes
from gateway.auth.api_keys import new_key, new_secret
from gateway.auth.store import State, Unknown, read_once
from gateway.auth.stored import StoredCredentials
from gateway.core import api_keys, revocations
from gateway.core.api_keys import DEFAULT_LIFE, DEFAULT_OVERLAP, FOREVER, ApiKey
from gateway.core.errors import BadRequest, Conflict, NotFound, StoreUnavailable
from gateway.core.revocations import KEEP, Revocation
from gateway.core.routing.amounts import parse_lifetime
from gateway.runtime import threads
from gateway.runtime.sqlite_file import SQLiteUnusable

T = TypeVar("T")
_KEYS, _REVOCATIONS = "/admin/auth/keys", "/admin/auth/revocations"
_REVOCATION = ("jti", "tenant", "subject", "api_key", "issuer", "before", "for", "reason")


def install(app: web.Application, stored: StoredCredentials, planes: DataPlanes) -> None:
    """Put the routes on an application with the guard. stored: of this process."""
    pages = _Pages(stored, planes)
    app.router.add_get(_KEYS, pages.keys)
    app.router.add_post(_KEYS, pages.create_key)
    app.router.add_delete(f"{_KEYS}/{{id}}", pages.revoke_key)
    app.router.add_post(f"{_KEYS}/{{id:[0-9A-Za-z]+}}:rotate", pages.rotate_key)
    app.router.add_get(_REVOCATIONS, pages.revocations)
    app.router.add_post(_REVOCATIONS, pages.revoke)
    app.router.add_delete(f"{_REVOCATIONS}/{{number:[0-9]{{1,15}}}}", pages.lift)


class _Pages:
    def __init__(self, stored: StoredCredentials, planes: DataPlanes) -> None:
        self._stored, self._planes = stored, planes
        self._store = stored.store

    async def keys(self, request: web.Request) -> web.Response:
        """All keys, without their secrets."""
        keys, now = (await self._read()).keys.values(), time.time()
        return await json_response({"keys": [api_keys.view(key, now) for key in keys]})

    async def create_key(self, request: web.Request) -> web.Response:
        """A new key; this response alone has its text."""
        given = Members(request, ("tenant", "subject", "scopes", "name", "expires"))
        who = given.text("tenant"), given.text("subject"), given.text("scopes"), given.text("name")
        lasts, now = _lasts(given.text("expires") or DEFAULT_LIFE), time.time()
        key, text = _valid(lambda: new_key(*who, lasts, guard.caller(request), now))
        await self._change(self._store.create_key, key)
        return await _shown_once(key, text, 201)

    async def rotate_key(self, request: web.Request) -> web.Response:
        """A new secret; this response alone has the key's new text."""
        given, id_ = Members(request, ("overlap", "expires")), request.match_info["id"]
        lasts = _lasts(given.text("expires")) if given.text("expires") else None
        overlap, now = _seconds("overlap", given.text("overlap") or DEFAULT_OVERLAP), time.time()
        text, digest = new_secret(id_)
        caller = guard.caller(request)
        key = await self._change(self._store.rotate_key, id_, digest, now, overlap, caller, lasts)
        return await _shown_once(key, text, 200)

    async def revoke_key(self, request: web.Request) -> web.Response:
        """The key ends, for good."""
        id_, now = request.match_info["id"], time.time()
        key = await self._change(self._store.revoke_key, id_, guard.caller(request), now)
        return await json_response(api_keys.view(key, now))

    async def revocations(self, request: web.Request) -> web.Response:
        """All revocations."""
        found = (await self._read()).revocations
        return await json_response({"revocations": [revocations.view(one) for one in found]})

    async def revoke(self, request: web.Request) -> web.Response:
        """Credentials are refused: by this gateway once the response is there, by others within a second."""
        given = Members(request, _REVOCATION)
        now = time.time()
        revocation = Revocation(
            now + (_seconds("for", given.text("for")) if given.text("for") else KEEP),
            created=now,
            by=guard.caller(request),
            reason=given.text("reason"),
            jti=given.text("jti"),
            tenant=given.text("tenant"),
            subject=given.text("subject"),
            api_key=given.text("api_key"),
            issuer=given.text("issuer"),
            before=given.moment("before", now),
        )
        _valid(lambda: revocations.check(revocation, now))
        number = await self._change(self._store.revoke, revocation)
        return await json_response({**revocations.view(revocation), "number": number}, 201)

    async def lift(self, request: web.Request) -> web.Response:
        """A revocation is taken back."""
        number = int(request.match_info["number"])
        lifted = await self._change(self._store.lift, number, guard.caller(request), time.time())
        return await json_response(revocations.view(lifted))

    async def _read(self) -> State:
        """What the file says, with what was used last."""
        await self._planes.ask("keys used")
        try:
            return await threads.run(threads.AUTH, read_once, self._store.path)
        except SQLiteUnusable as error:
            raise StoreUnavailable(str(error)) from None

    async def _change(self, work: Callable[..., T], *args: Any) -> T:
        try:
            done = await self._stored.change(work, *args)
            await self._planes.ask("stored changed")
            return done
        except Unknown as error:
            raise NotFound(_sentence(error)) from None
        except ValueError as error:
            raise Conflict(_sentence(error)) from None
        except SQLiteUnusable as error:
            raise StoreUnavailable(str(error)) from None


def _lasts(given: str) -> float:
    seconds = FOREVER if given == "never" else _seconds("expires", given)
    if seconds < 1:
        raise BadRequest("The member expires is less than a second.")
    return seconds


def _seconds(name: str, given: str) -> float:
    try:
        return parse_lifetime(given)
    except ValueError as error:
        raise BadRequest(f"The member {name} {error}; write 15m, 12h or 90d.") from None


def _valid(work: Callable[[], T]) -> T:
    try:
        return work()
    except ValueError as error:
        raise BadRequest(_sentence(error)) from None


def _sentence(error: ValueError) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


async def _shown_once(key: ApiKey, text: str, status: int) -> web.Response:
    return await json_response({**api_keys.view(key, time.time()), "key": text}, status)
