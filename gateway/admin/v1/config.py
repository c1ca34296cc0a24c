"""/admin/v1/config: the whole live config: read, replaced, patched, checked, confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from gateway.admin import guard
from gateway.admin.body import content_type, value
from gateway.admin.v1 import asked
from gateway.admin.v1.changing import REVISION, Config, as_errors, reply
from gateway.admin.v1.reading import SHOWN, json_page, shown, text_tag, wants_yaml, yaml_page
from gateway.config.audit.journal import reason_of
from gateway.config.ports import HeadMoved
from gateway.config.refusal import as_dict
from gateway.config.source import Comparison
from gateway.core.config.revision import Revision, view
from gateway.core.errors import BadRequest, PreconditionRequired, Saturated, Unprocessable
from gateway.core.routing.problems import Problem, Problems
from gateway.store.model.document import ANY
from gateway.store.model.patch import MergePatch, apply

PATH = "/admin/v1/config"
_CHECK = 10.0  # seconds


def install(app: web.Application, config: Config) -> None:
    """Put the pages on an application with the guard."""
    pages = _Pages(config)
    app.router.add_get(PATH, pages.read)
    app.router.add_put(PATH, pages.replace)
    app.router.add_patch(PATH, pages.patch)
    app.router.add_post(f"{PATH}:check", pages.check)
    app.router.add_post(f"{PATH}:confirm", pages.confirm)


class _Pages:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._live = config.live

    async def read(self, request: web.Request) -> web.Response:
        """The live config: its revision, text and data, what waits for a confirmation, and what its source
        said last and was refused; the text alone as application/yaml."""
        asked.parameters(request)
        live = self._live
        revision, text = live.head, live.text
        headers = {REVISION: str(revision.number)}
        seen = await shown(request, text)
        tag = text_tag(revision.digest, whole=seen == text)
        if wants_yaml(request):
            return yaml_page(request, seen, tag, headers)
        with as_errors():
            data = await self._config.data(text)
        body = {
            "revision": view(revision),
            "text": seen,
            "data": data,
            "pending": self._config.pending(),
            "refused": None if live.refusal is None else live.refusal.view(),
            "source": live.source.kind,
            "name": live.source.name,
            "available": live.source.available,
        }
        return await json_page(request, body, tag=tag, headers=headers)

    async def replace(self, request: web.Request) -> web.Response:
        """Make another text live, as a whole. If-Match is required, and names what it was made of."""
        query = asked.parameters(request, *asked.CHANGE)
        text, given = asked.config_text(request)
        is_as_expected = self._expectation(request, whole=True)

        async def make(base: Revision, before: str) -> str:
            await is_as_expected(base)
            return text

        return await self._changed(await self._config.change(request, {**given, **query}, make))

    async def patch(self, request: web.Request) -> web.Response:
        """Apply a merge patch (RFC 7396) to the config's data; the text stays as it is elsewhere. If-Match is
        required."""
        query = asked.parameters(request, *asked.CHANGE)
        patch = merge_patch(request)
        is_as_expected = self._expectation(request)

        async def make(base: Revision, before: str) -> str:
            await is_as_expected(base)
            return await self._config.edited(before, apply(patch, await self._config.data(before)))

        return await self._changed(await self._config.change(request, query, make))

    async def _changed(self, outcome: dict[str, Any]) -> web.Response:
        revision = outcome["revision"]
        etag = f'"{revision["digest"]}"'
        return await reply({**outcome, "etag": etag}, etag=etag, headers={REVISION: str(revision["number"])})

    def _expectation(self, request: web.Request, *, whole: bool = False) -> Any:
        """whole: a text comes, and was not made of one that was shown in part. Raises PreconditionRequired;
        what it gives raises StaleConfig."""
        match = asked.precondition(request).match
        if match is None:
            raise PreconditionRequired("Say which text yours is made of: If-Match with the ETag of GET.")
        digests = frozenset(digests_in(match, whole=whole))

        async def check(base: Revision) -> None:
            if ANY in match or base.digest in digests:
                return
            detail = f"Revision {base.number} is live, and not the text that If-Match names."
            if not digests and any(SHOWN in tag for tag in match):
                detail = (
                    "The text that If-Match names was shown with *** for what resembles a secret, which must"
                    " not become the config. Read it again with the credential of an editor."
                )
            raise await self._config.stale(base, detail, lambda one: one.digest in digests)

        return check

    async def _checked(self, text: str) -> tuple[list[Problem], Comparison]:
        """What is wrong with a text, and what it would change."""
        try:
            changes = await self._config.changes(self._live.text, text)
        except Problems as found:  # it cannot be read: no need to do that again
            return found.items, Comparison([], [])
        return await self._live.check(text), changes

    async def check(self, request: web.Request) -> web.Response:
        """Whether a text could be made live, and what it would change. Nothing is changed."""
        asked.parameters(request)
        text, given = asked.config_text(request)
        if given:
            raise BadRequest("Nothing is changed here: there is no other member than text.")
        async with self._config.one_each.of(guard.operator(request)):
            try:
                async with asyncio.timeout(_CHECK):
                    problems, changes = await self._checked(text)
            except TimeoutError:
                raise Saturated(
                    f"It cannot be read in {_CHECK:g} s: make it smaller.", retry_after=30
                ) from None
        return await reply(
            {
                "ok": not problems,
                "problems": [as_dict(one) for one in problems],
                "changes": changes.views,
            }
        )

    async def confirm(self, request: web.Request) -> web.Response:
        """The live revision, which this names, does not go back any more."""
        asked.parameters(request)
        given = asked.members(request, "revision", "reason")
        number = given.get("revision")
        if type(number) is not int:
            raise BadRequest("The member revision is the number of the live revision.")
        origin = asked.origin(request, given)
        if self._live.head.number != number or self._live.pending is None:
            await self._live.reload_when_quiet()  # another process may have made it live just now
        pending = self._live.pending
        with as_errors():
            if pending is not None and pending.number == number:
                back_to = await self._live.revisions.text(pending.back_to)
                now = self._live.text
                changes = await self._config.changes(back_to, now)
                await self._config.require(guard.operator(request), back_to, now, changes)
            try:
                revision = await self._live.confirm(origin, number)
            except HeadMoved as error:
                await self._config.audit(origin, "refused", outcome="refused", detail=reason_of(error))
                raise
        return await reply({"revision": view(revision), "pending": self._config.pending()})


def digests_in(tags: Iterable[str], *, whole: bool = False) -> Iterable[str]:
    """The digests of the texts that entity tags name: that of a text is its digest, that of a page of JSON
    begins with it. whole: only of those that were shown as they are."""
    return (tag.strip('"').split("-")[0] for tag in tags if not (whole and SHOWN in tag))


def merge_patch(request: web.Request) -> MergePatch:
    """The body. Raises UnsupportedMediaType, BadRequest, Unprocessable."""
    content_type(request, asked.MERGE_PATCH)
    found = value(request)
    if not isinstance(found, dict):
        raise Unprocessable("The patch is not an object: it would replace all of it.")
    return MergePatch(found)
