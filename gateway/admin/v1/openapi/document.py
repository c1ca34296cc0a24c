"""/admin/openapi.json: all pages of the admin listener, as the router has them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from gateway.admin.v1.openapi.pages import PAGES, Page
from gateway.admin.v1.openapi.schemas import PARAMETERS, ref, schemas
from gateway.admin.v1.reading import json_page

PATH = "/admin/openapi.json"
_SHOWN = ("/livez", "/readyz", "/metrics", "/admin/")  # the pages of the console are for people
_VARIABLE = re.compile(r"\{(\w+)\}")
_NUMBERS = ("number",)
_PROBLEM = {"$ref": "#/components/responses/Problem"}


def install(app: web.Application) -> None:
    """Put the page on an application with the guard. What is installed later is described too."""
    made: dict[str, Any] = {}

    async def page(request: web.Request) -> web.Response:
        """This description."""
        if not made:
            made.update(document(app))
        return await json_page(request, made)

    app.router.add_get(PATH, page)


def document(app: web.Application) -> dict[str, Any]:
    """The whole description."""
    paths: dict[str, Any] = {}
    for method, path, handler in routes(app):
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, handler)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Admin API of the gateway",
            "version": "1",
            "description": "For operators. Every error is an application/problem+json (RFC 9457).",
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "parameters": PARAMETERS,
            "schemas": schemas(),
            "responses": {
                "Problem": {
                    "description": "It was refused, or failed.",
                    "content": {"application/problem+json": {"schema": ref("Problem")}},
                }
            },
        },
    }


def routes(app: web.Application) -> Iterator[tuple[str, str, Any]]:
    """Method, path and handler of each page that is for programs."""
    for route in app.router.routes():
        path = route.resource.canonical if route.resource is not None else ""
        if route.method not in ("HEAD", "*") and path.startswith(_SHOWN):
            yield route.method, path, route.handler


def _operation(method: str, path: str, handler: Any) -> dict[str, Any]:
    page = PAGES.get(f"{method} {path}", Page())
    text = " ".join((inspect.getdoc(handler) or "").split())
    summary = text.split(". ")[0].rstrip(".")
    found: dict[str, Any] = {
        "operationId": _id(method, path),
        "summary": summary,
        "tags": ["config" if path.startswith("/admin/v1/") else "gateway"],
        "parameters": [*map(_path_parameter, _VARIABLE.findall(path)), *_parameters(method, page)],
        "responses": {str(page.status): _success(page), "default": _PROBLEM},
    }
    if text != f"{summary}.":
        found["description"] = text
    if page.takes:
        found["requestBody"] = {"content": dict(map(_content, page.takes))}
    if page.status == 200 and method == "PUT" and _VARIABLE.search(path):
        found["responses"]["201"] = _success(page)
    if "If-None-Match" in page.with_ and method == "GET":
        found["responses"]["304"] = {"description": "The client has it."}
    if page.public:
        found["security"] = [{}]
    elif method != "GET":
        found["security"] = [{"token": []}]
    return found


def _id(method: str, path: str) -> str:
    words = re.findall(r"\w+", path.removeprefix("/admin/"))
    return "_".join([method.lower(), *words])


def _parameters(method: str, page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"$ref": f"#/components/parameters/{name}"} for name in page.with_]
    if method in ("PUT", "PATCH", "DELETE") and "If-None-Match" not in page.with_:
        found = [
            {**PARAMETERS[name], "required": True} if name == "If-Match" else one
            for name, one in zip(page.with_, found, strict=True)
        ]
    return found


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _success(page: Page) -> dict[str, Any]:
    if not page.gives:
        return {"description": "It is done."}
    return {
        "description": "It is done." if page.status == 201 else "What was asked for.",
        "content": dict([_content(page.gives)]),
    }


def _content(name: str) -> tuple[str, dict[str, Any]]:
    """name: a schema of JSON, or a media type."""
    if name == "application/merge-patch+json":
        return name, {"schema": {"type": "object"}}
    return (name, {}) if "/" in name else ("application/json", {"schema": ref(name)})
