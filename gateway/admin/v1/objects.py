"""/admin/v1/routes, /backends, /tenants and /issuers: one object of the config each, by its name. An edit
leaves all else of the config's text as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from aiohttp import hdrs, web

from gateway.admin.v1 import asked
from gateway.admin.v1.changing import REVISION, Config, as_errors, reply
from gateway.admin.v1.config import merge_patch
from gateway.admin.v1.reading import etag_of, json_page, object_page
from gateway.core.config.revision import Revision, view
from gateway.core.errors import NotFound, PreconditionRequired, StaleConfig, Unprocessable
from gateway.store.model.document import Precondition, names
from gateway.store.model.patch import apply

KINDS = ("routes", "backends", "tenants", "issuers")
_ROUTES = "routes"  # a list; the others are mappings
_ABSENT = object()
_LOOKED_AT = 10  # revisions in which the object that If-Match names is looked for
_MOST = 512 * 1024  # characters of a text that is looked into for that

# The value of an object as it is to be, of what it is; _ABSENT for none.
_Edit = Callable[[Any], Any]


def install(app: web.Application, config: Config) -> None:
    """Put the pages on an application with the guard."""
    for kind in KINDS:
        pages, path = _Pages(config, kind), f"/admin/v1/{kind}"
        app.router.add_get(path, pages.all)
        app.router.add_get(f"{path}/{{name}}", pages.read)
        app.router.add_put(f"{path}/{{name}}", pages.put)
        app.router.add_patch(f"{path}/{{name}}", pages.patch)
        app.router.add_delete(f"{path}/{{name}}", pages.delete)


class _Pages:
    """kind: of the objects, one of KINDS."""

    def __init__(self, config: Config, kind: str) -> None:
        self._config = config
        self._kind = kind

    async def _objects(self, text: str) -> dict[str, Any]:
        return objects(await self._config.data(text), self._kind)

    async def all(self, request: web.Request) -> web.Response:
        """All of the kind, in the order of the config, each with its entity tag."""
        asked.parameters(request)
        live = self._config.live
        revision, text = live.head, live.text
        with as_errors():
            found = await self._objects(text)
        items = [{"name": name, "etag": etag_of(value), "value": value} for name, value in found.items()]
        headers = {REVISION: str(revision.number)}
        return await json_page(request, {"revision": revision.number, self._kind: items}, headers=headers)

    async def read(self, request: web.Request) -> web.Response:
        """The object as it is written."""
        asked.parameters(request)
        live = self._config.live
        revision, text = live.head, live.text
        with as_errors():
            value = (await self._objects(text)).get(request.match_info["name"], _ABSENT)
        if value is _ABSENT:
            raise self._no_such()
        return object_page(request, value, etag_of(value), {REVISION: str(revision.number)})

    async def put(self, request: web.Request) -> web.Response:
        """Replace the object, or make it: 201 with Location. If-Match names what it replaces;
        If-None-Match: * says that there is none."""
        query, name = asked.parameters(request, *asked.CHANGE), request.match_info["name"]
        value = self._checked(await asked.object_value(request), name)
        precondition = asked.precondition(request)
        if precondition.match is None and precondition.none_match is None:
            raise PreconditionRequired(
                "Say what it replaces: If-Match with the ETag of GET, or If-None-Match: * for a new one."
            )
        return await self._edit(request, query, precondition, lambda old: value)

    async def patch(self, request: web.Request) -> web.Response:
        """Apply a merge patch (RFC 7396) to the object. If-Match is required."""
        query, name = asked.parameters(request, *asked.CHANGE), request.match_info["name"]
        patch = merge_patch(request)

        def edit(old: Any) -> Any:
            if old is _ABSENT:
                raise self._no_such()
            return self._checked(apply(patch, old if isinstance(old, dict) else {}), name)

        return await self._edit(request, query, self._match(request), edit)

    async def delete(self, request: web.Request) -> web.Response:
        """Remove the object. If-Match is required."""
        query = asked.parameters(request, *asked.CHANGE)

        def edit(old: Any) -> Any:
            if old is _ABSENT:
                raise self._no_such()
            return _ABSENT

        return await self._edit(request, query, self._match(request), edit)

    async def _edit(
        self, request: web.Request, query: Any, precondition: Precondition, edit: _Edit
    ) -> web.Response:
        name, kind = request.match_info["name"], self._kind
        old: Any = _ABSENT
        new: Any = _ABSENT

        async def make(base: Revision, before: str) -> str:
            nonlocal old, new
            data = await self._config.data(before)
            old = objects(data, kind).get(name, _ABSENT)
            new = edit(old)
            await self._require(precondition, base, old, name)
            if new is _ABSENT:
                return await self._config.edited(before, without_object(data, kind, name))
            return await self._config.edited(before, with_object(data, kind, name, new))

        outcome = await self._config.change(request, query, make)
        headers = {REVISION: str(outcome["revision"]["number"])}
        if new is not _ABSENT:
            outcome["etag"] = etag_of({"name": name, **new} if kind == _ROUTES else new)
        if old is _ABSENT:
            headers[hdrs.LOCATION] = f"/admin/v1/{kind}/{quote(name, safe='')}"
        return await reply(outcome, 201 if old is _ABSENT else 200, headers=headers)

    def _match(self, request: web.Request) -> Precondition:
        precondition = asked.precondition(request)
        if precondition.match is None:
            raise PreconditionRequired("Say what it is made for: If-Match with the ETag of GET.")
        return precondition

    async def _require(self, precondition: Precondition, base: Revision, old: Any, name: str) -> None:
        """Raises StaleConfig."""
        etag = None if old is _ABSENT else etag_of(old)
        if precondition.match is not None and not names(precondition.match, etag):
            detail = (
                "It is not the one that If-Match names." if etag else "There is none, as If-Match has it."
            )
            since = await self._since(precondition.match, name)
            raise StaleConfig(detail, extra={"since": since, "etag": etag})
        if precondition.none_match is not None and names(precondition.none_match, etag):
            detail = "There is one already, of that name; to replace it, name it with If-Match."
            raise StaleConfig(detail, extra={"since": [], "etag": etag})

    async def _since(self, match: frozenset[str], name: str) -> list[dict[str, Any]]:
        """The revisions that changed the object since it was as If-Match names it, the newest first; as far
        as the last ones tell."""
        live = self._config.live
        found: list[dict[str, Any]] = []
        newer: tuple[Revision, Any] | None = None
        with as_errors():
            for revision in await live.revisions.page(0, _LOOKED_AT):
                if revision.size > _MOST and newer is not None:
                    break
                text = await live.revisions.text(revision.number)
                value = (await self._objects(text)).get(name, _ABSENT)
                if newer is not None and newer[1] != value:
                    found.append(view(newer[0]))
                if value is not _ABSENT and etag_of(value) in match:
                    break
                newer = revision, value
        return found

    def _checked(self, value: Any, name: str) -> Any:
        """Raises Unprocessable."""
        if self._kind == "issuers" and value is False:  # the local one, switched off
            return value
        if not isinstance(value, dict):
            raise Unprocessable("It is not an object.")
        if self._kind == _ROUTES and value.get("name", name) != name:
            raise Unprocessable(
                "Its name is another one than in the path: remove the old one, and put the new."
            )
        return value

    def _no_such(self) -> NotFound:
        return NotFound(f"The live config has none of that name in {self._kind}.")


# --- in the config: plain data, which is not changed, for aliases share parts of it ----------------


def objects(data: Any, kind: str) -> dict[str, Any]:
    """All objects of a kind by name, in the order of the text."""
    section = data.get(kind) if isinstance(data, Mapping) else None
    if kind == _ROUTES:
        items = section if isinstance(section, list) else []
        return {item["name"]: item for item in items if isinstance(item, dict) and "name" in item}
    return dict(section) if isinstance(section, Mapping) else {}


def with_object(data: Mapping[str, Any] | None, kind: str, name: str, value: Any) -> dict[str, Any]:
    """The data with the object as given. A new one comes last, an object of the same name stays where it
    is."""
    data = data or {}
    section = data.get(kind)
    if kind != _ROUTES:
        return {**data, kind: {**(section or {}), name: value}}
    value = {"name": name, **value}
    routes = list(section or ())
    for index, route in enumerate(routes):
        if route.get("name") == name:
            routes[index] = value
            break
    else:
        routes.append(value)
    return {**data, kind: routes}


def without_object(data: Mapping[str, Any], kind: str, name: str) -> dict[str, Any]:
    """The data without the object."""
    if kind == _ROUTES:
        return {**data, kind: [route for route in data[kind] if route.get("name") != name]}
    return {**data, kind: {key: value for key, value in data[kind].items() if key != name}}
