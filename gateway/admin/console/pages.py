"""Serves the console's files: the page at `/` for a browser, all else below `/console/`.

They are read at the start and served from memory. They hold nothing secret, so no token is asked for them:
what the page shows, it asks the admin API for in the operator's name.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from aiohttp import hdrs, web

from gateway.core.front_page import prefers_html
from gateway.documents.request import head

_STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    headers: dict[str, str]


def is_public(path: str) -> bool:
    """Whether a path of the admin listener is the console's, which anybody may load."""
    return path == "/" or path.startswith("/console/")


def install(app: web.Application) -> None:
    """Put the routes on an application with the guard."""
    files = {path.relative_to(_STATIC).as_posix(): _read(path) for path in _STATIC.rglob("*.*")}

    async def page(request: web.Request) -> web.Response:
        """For a browser; a program that asks for `/` is told that there is nothing."""
        if not prefers_html(request.headers.getall(hdrs.ACCEPT, ())):
            raise web.HTTPNotFound
        return _respond(request, files["index.html"])

    async def file(request: web.Request) -> web.Response:
        found = files.get(request.match_info["path"])
        if found is None:
            raise web.HTTPNotFound
        return _respond(request, found)

    app.router.add_get("/", page)
    app.router.add_get("/console/{path:.+}", file)


def _read(path: Path) -> _File:
    body = path.read_bytes()
    return _File(
        body,
        {
            hdrs.CONTENT_TYPE: _TYPES[path.suffix],
            hdrs.ETAG: f'"{hashlib.sha256(body).hexdigest()[:32]}"',
            hdrs.CACHE_CONTROL: "no-cache",  # asked for again each time: an upgrade is seen at the next load
            hdrs.VARY: hdrs.ACCEPT,
        },
    )


def _respond(request: web.Request, file: _File) -> web.Response:
    """Raises BadRequest, PreconditionFailed."""
    given = request.headers
    said = head.precondition_from(given.getall(hdrs.IF_MATCH, []), given.getall(hdrs.IF_NONE_MATCH, []))
    if head.is_current(said, file.headers[hdrs.ETAG]):
        return web.Response(status=304, headers=file.headers)
    return web.Response(body=file.body, headers=file.headers)
