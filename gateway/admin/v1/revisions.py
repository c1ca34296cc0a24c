"""/admin/v1/revisions: every config that was live: read, compared, pinned, and made live again."""

from __future__ import annotations

import difflib

from aiohttp import hdrs, web

from gateway.admin import guard
from gateway.admin.serve import Slow
from gateway.admin.v1 import asked
from gateway.admin.v1.changing import REVISION, Config, as_errors, reply
from gateway.admin.v1.config import digests_in
from gateway.admin.v1.reading import json_page, shown, text_tag, wants_yaml, yaml_page
from gateway.core.config.operator import Role
from gateway.core.config.revision import Draft, Revision, view
from gateway.core.errors import BadRequest, Forbidden, PreconditionRequired, Unprocessable
from gateway.runtime import threads
from gateway.store.model.document import ANY

PATH = "/admin/v1/revisions"
_LIMIT, _MOST = 50, 1000  # revisions in a page
_LINES = 20_000  # of two texts that are compared line by line
_PINNED = 100  # revisions, at most: each is kept for good
_LOOKED_AT = 1000  # lines of the audit
_LIVE, _PIN = "live", "pinned"
_NUMBER, _WHICH = "{number:[0-9]{1,15}}", "{number:[0-9]{1,15}|live}"
_BOTH = "{before:[0-9]{1,15}|live}/diff/{after:[0-9]{1,15}|live}"


def install(app: web.Application, config: Config) -> None:
    """Put the pages on an application with the guard."""
    pages = _Pages(config)
    app.router.add_get(PATH, pages.all)
    app.router.add_get(f"{PATH}/{_WHICH}", pages.read)
    app.router.add_get(f"{PATH}/{_BOTH}", pages.diff)
    app.router.add_post(f"{PATH}/{_NUMBER}:rollback", pages.roll_back)
    app.router.add_post(f"{PATH}/{_NUMBER}:pin", pages.pin)
    app.router.add_post(f"{PATH}/{_NUMBER}:unpin", pages.unpin)


class _Pages:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._live = config.live

    async def all(self, request: web.Request) -> web.Response:
        """The revisions, the newest first; Link leads to older ones."""
        query = asked.parameters(request, "before", "limit")
        before = asked.number(query.get("before", "0"), "before")
        limit = asked.number(query.get("limit", str(_LIMIT)), "limit", _MOST)
        if not limit:
            raise BadRequest(f"limit is a number from 1 to {_MOST}.", extra={"parameter": "limit"})
        with as_errors():
            found = await self._live.revisions.page(before, limit + 1)
        page = found[:limit]
        headers = {REVISION: str(self._live.head.number)}
        if len(found) > limit:
            headers[hdrs.LINK] = f'<{PATH}?before={page[-1].number}&limit={limit}>; rel="next"'
        body = {
            "revisions": [view(one) for one in page],
            "live": self._live.head.number,
            "pending": self._config.pending(),
        }
        return await json_page(request, body, headers=headers)

    async def read(self, request: web.Request) -> web.Response:
        """A revision; with `text`, its very text too, which is all of it as application/yaml."""
        query = asked.parameters(request, "text")
        which = request.match_info["number"]
        with as_errors():
            if which == _LIVE:
                revision, text = self._live.head, self._live.text
            else:
                revision, text = await self._live.revisions.get(int(which)), ""
                if "text" in query or wants_yaml(request):
                    text = await self._live.revisions.text(revision.number)
        seen = await shown(request, text)
        if wants_yaml(request):
            return yaml_page(request, seen, text_tag(revision.digest, whole=seen == text))
        return await json_page(request, {**view(revision), **({"text": seen} if "text" in query else {})})

    async def diff(self, request: web.Request) -> web.Response:
        """What differs between two revisions: by meaning, and by lines."""
        asked.parameters(request)
        return Slow(lambda call: self._diff(request))

    async def _diff(self, request: web.Request) -> web.Response:
        with as_errors():
            before, old = await self._text(request.match_info["before"])
            after, new = await self._text(request.match_info["after"])
            changes = await self._config.changes(old, new)
        old, new = await shown(request, old), await shown(request, new)
        lines = await threads.run(threads.CONFIG, _by_lines, old, new, str(before), str(after))
        body = {
            "from": before,
            "to": after,
            "changes": changes.views,
            "text_diff": lines,
        }
        return await json_page(request, body)

    async def _text(self, which: str) -> tuple[int, str]:
        """Raises NoRevision."""
        if which == _LIVE:
            return self._live.head.number, self._live.text
        return int(which), await self._live.revisions.text(int(which))

    async def roll_back(self, request: web.Request) -> web.Response:
        """Make the text of a revision live again, to the byte, as a new revision. If-Match, or `expected`
        with the number of the live revision, is required, and says what it is to replace."""
        query, number = asked.parameters(request, *asked.CHANGE), int(request.match_info["number"])
        given = asked.members(request, *asked.CHANGE, "expected")
        expected, match = given.get("expected"), asked.precondition(request).match
        if expected is not None and type(expected) is not int:
            raise BadRequest("The member expected is the number of the live revision.")
        if expected is None and match is None:
            raise PreconditionRequired(
                "Say what it replaces: the member expected with the number of the live revision, or If-Match"
                " with the ETag of the config."
            )

        async def make(base: Revision, before: str) -> str:
            digests = None if match is None or ANY in match else frozenset(digests_in(match))
            if expected not in (None, base.number):
                detail = f"Revision {base.number} is live, and not {expected}."
                raise await self._config.stale(base, detail, lambda one: one.number <= expected)
            if digests is not None and base.digest not in digests:
                detail = f"Revision {base.number} is live, and not the text that If-Match names."
                raise await self._config.stale(base, detail, lambda one: one.digest in digests)
            return await self._live.revisions.text(number)

        async def commit(draft: Draft, base: int) -> Revision:
            return await self._live.roll_back(number, draft.origin, base, draft.confirm_by)

        outcome = await self._config.change(request, {**given, **query}, make, commit)
        etag = f'"{outcome["revision"]["digest"]}"'
        headers = {REVISION: str(outcome["revision"]["number"])}
        return await reply({**outcome, "etag": etag}, etag=etag, headers=headers)

    async def pin(self, request: web.Request) -> web.Response:
        """Keep the revision for as long as it is pinned, however many come after it."""
        return await self._pin(request, pinned=True)

    async def unpin(self, request: web.Request) -> web.Response:
        """Keep the revision as long as the others."""
        return await self._pin(request, pinned=False)

    async def _pin(self, request: web.Request, *, pinned: bool) -> web.Response:
        guard.require(request, Role.EDITOR)
        query, number = asked.parameters(request, "reason"), int(request.match_info["number"])
        origin = asked.origin(request, {**asked.members(request, "reason"), **query})
        with as_errors():
            if (known := await self._live.revisions.get(number)).pinned == pinned:
                return await reply(view(known))
            await self._live.audit.ready()
            if pinned:
                await self._require_room(number)
            elif guard.operator(request).role is not Role.OWNER:
                await self._require_own(origin.author, number)
            revision = await self._live.revisions.pin(number, pinned=pinned)
        detail = "" if pinned else "not any more"
        await self._config.audit(origin, _PIN, to_revision=number, detail=detail)
        return await reply(view(revision))

    async def _require_room(self, number: int) -> None:
        """Raises Unprocessable."""
        kept = await self._live.revisions.page(0, _MOST + 2 * _PINNED)
        if sum(one.pinned and one.number != number for one in kept) >= _PINNED:
            raise Unprocessable(f"{_PINNED} revisions are pinned, and no more may be: unpin one.")

    async def _require_own(self, name: str, number: int) -> None:
        """Whether an editor has pinned it, as far as the last lines of the audit tell. Raises Forbidden."""
        for line in await self._live.audit.page(0, _LOOKED_AT):
            if line["action"] == _PIN and line["to"] == number and not line["detail"]:
                if line["author"] == name:
                    return
                break
        raise Forbidden("Whoever pinned it may unpin it, and an owner.")


def _by_lines(old: str, new: str, before: str, after: str) -> str | None:
    """A unified diff; None where the texts are so long that it would take long."""
    one, other = old.splitlines(), new.splitlines()
    if len(one) + len(other) > _LINES:
        return None
    names = f"revision {before}", f"revision {after}"
    return "".join(f"{line}\n" for line in difflib.unified_diff(one, other, *names, lineterm=""))
