"""/admin/v1/audit: who did what to the live config, and whether the record of it is whole."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from aiohttp import hdrs, web

from gateway.admin import guard
from gateway.admin.serve import Slow, Streamed
from gateway.admin.v1 import asked
from gateway.admin.v1.changing import Config, as_errors, reply
from gateway.call import Call
from gateway.core.errors import BadRequest

PATH = "/admin/v1/audit"
_LIMIT, _MOST = 100, 1000  # lines in a page
_LOOKED_AT = 20_000  # lines that a filter goes through for one page


def install(app: web.Application, config: Config) -> None:
    """Put the pages on an application with the guard."""
    pages = _Pages(config)
    app.router.add_get(PATH, pages.all)
    app.router.add_get(guard.VERIFY, pages.verify)


class _Pages:
    def __init__(self, config: Config) -> None:
        self._audit = config.live.audit
        self._verifying: asyncio.Task[list[str]] | None = None

    async def all(self, request: web.Request) -> web.Response:
        """The lines of the audit, the newest first; Link leads to older ones. author, action: only those
        lines."""
        query = asked.parameters(request, "before", "limit", "author", "action")
        before = asked.number(query.get("before", "0"), "before")
        limit = asked.number(query.get("limit", str(_LIMIT)), "limit", _MOST)
        if not limit:
            raise BadRequest(f"limit is a number from 1 to {_MOST}.", extra={"parameter": "limit"})
        wanted = {name: query[name] for name in ("author", "action") if query.get(name)}
        return Slow(lambda call: self._lines(before, limit, wanted))

    async def _lines(self, before: int, limit: int, wanted: dict[str, str]) -> web.Response:
        found: list[dict[str, Any]] = []
        looked_at = 0
        with as_errors():
            while len(found) < limit and looked_at < _LOOKED_AT:
                page = await self._audit.page(before, _MOST if wanted else limit)
                for line in page:
                    before, looked_at = line["seq"], looked_at + 1
                    if all(line.get(name) == value for name, value in wanted.items()):
                        found.append(line)
                        if len(found) == limit:
                            break
                if not page:
                    before = 0
                    break
        more = before if before > 1 else None
        headers: dict[str, str] = {}
        if more:
            kept = "".join(f"&{name}={quote(value, safe='')}" for name, value in wanted.items())
            headers[hdrs.LINK] = f'<{PATH}?before={more}&limit={limit}{kept}>; rel="next"'
        return await reply({"lines": found, "next": more}, headers=headers)

    async def verify(self, request: web.Request) -> web.StreamResponse:
        """Whether no line of the audit was changed or removed; what is wrong, if anything is. It takes a
        credential, and seconds where there are many lines: no other page waits for it, and who asks meanwhile
        gets the outcome of the one that is under way."""
        asked.parameters(request)

        async def respond(call: Call) -> web.Response:
            with as_errors():
                problems = await self._verified()
            return await reply({"ok": not problems, "problems": problems})

        return Streamed(respond)

    async def _verified(self) -> list[str]:
        """One at a time, also where its client has left. Raises OSError."""
        task = self._verifying
        if task is None or task.done():
            task = self._verifying = asyncio.create_task(self._audit.verify())
        return await asyncio.shield(task)
