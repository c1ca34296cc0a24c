"""An application behind the gateway: replace it by your own, in whatever framework.

The gateway has checked the token and says who calls: X-Tenant, X-Subject, X-Scopes. No client can set these.
Whoever can connect to the socket is believed: it is in a folder that only this user may enter.
"""

import argparse

from aiohttp import web


async def hello(request: web.Request) -> web.Response:
    tenant, subject = request.headers.get("X-Tenant"), request.headers.get("X-Subject")
    if not tenant or not subject:
        raise web.HTTPUnauthorized(text="Call me through the gateway.")
    return web.json_response({"hello": request.match_info["name"], "tenant": tenant, "subject": subject})


async def healthz(request: web.Request) -> web.Response:
    """The gateway waits for it at the start."""
    return web.Response(text="ok")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True, help="the path of the unix socket to listen on")
    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/{name}", hello)])
    web.run_app(app, path=parser.parse_args().socket, print=None, access_log=None)


if __name__ == "__main__":
    main()
