"""python -m tests.backends.apps.aiohttp_app SOCKET"""

import sys

from aiohttp import web

from backends.identity.asab import IDENTITY, PUBLIC, gateway, public_url


async def healthz(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def mine(request: web.Request) -> web.Response:
    return web.json_response({"tenant": request[IDENTITY].tenant})


async def open_to_all(request: web.Request) -> web.Response:
    who, url = request[IDENTITY], public_url(request, "/open")
    assert url == f"{request.scheme}://{request.host}{request[PUBLIC].prefix}/open"
    body = {"tenant": who.tenant if who else None, "client": request.remote, "url": url}
    return web.json_response({**body, "port": "8443"})


async def go(request: web.Request) -> web.Response:
    raise web.HTTPFound(public_url(request, "/open", absolute=False))


async def echo(request: web.Request) -> web.Response:
    """A body is read as ever, of the request that knows its client."""
    return web.Response(body=await request.read())


app = web.Application(middlewares=[gateway])
app.router.add_get("/healthz", healthz)
app.router.add_get("/mine", mine)
app.router.add_get("/open", open_to_all)
app.router.add_get("/go", go)
app.router.add_post("/echo", echo)

if __name__ == "__main__":
    web.run_app(app, path=sys.argv[1], print=None, access_log=None)
