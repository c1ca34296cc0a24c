"""An application behind the gateway: replace it by your own, in whatever framework.

The gateway has checked the client's token, and signs who calls: X-Gateway-Identity, a JWT for this
application and a minute. GATEWAY_IDENTITY_KEYS is the file of its public keys. The middleware of the package
gateway-identity (backends/identity in the sources) does all this for Django, Flask, FastAPI and others.
"""

import argparse
import os
from pathlib import Path

import jwt
from aiohttp import web


def caller(request: web.Request) -> dict[str, str]:
    """Who calls: `tenant`, `sub` and `scope`. 401 for what did not come through the gateway."""
    try:
        signed = request.headers["X-Gateway-Identity"]
        header = jwt.get_unverified_header(signed)
        keys = jwt.PyJWKSet.from_json(Path(os.environ["GATEWAY_IDENTITY_KEYS"]).read_text())
        audience, issuer = os.environ["GATEWAY_IDENTITY_AUDIENCE"], os.environ["GATEWAY_IDENTITY_ISSUER"]
        said = jwt.decode(signed, keys[header["kid"]], ["EdDSA"], audience=audience, issuer=issuer)
        if header["typ"] == "gateway-identity+jwt" and "tenant" in said:
            return said
    except (jwt.PyJWTError, KeyError, OSError):
        pass
    raise web.HTTPUnauthorized(text="Call me through the gateway, with a token.")


async def hello(request: web.Request) -> web.Response:
    who = caller(request)
    name = request.match_info["name"]
    return web.json_response({"hello": name, "tenant": who["tenant"], "subject": who["sub"]})


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
