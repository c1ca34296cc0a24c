"""python -m tests.backends.apps.asab_app PORT; ASAB, whose `asab.web.auth` is asked who may do what."""

import sys

PORT = sys.argv.pop()

import asab  # noqa: E402
import asab.web  # noqa: E402
import asab.web.auth  # noqa: E402
import asab.web.rest  # noqa: E402
from asab.contextvars import Authz  # noqa: E402

from backends.identity.asab import add_provider, gateway  # noqa: E402


@asab.web.auth.noauth
async def healthz(request):
    return asab.web.rest.json_response(request, {"status": "ok"})


@asab.web.auth.require("things:read")
async def things(request):
    return asab.web.rest.json_response(request, {"subject": Authz.get().CredentialsId})


async def mine(request):
    authz = Authz.get()
    found = {"subject": authz.CredentialsId, "may": authz.has_resource_access("things:write")}
    with asab.contextvars.tenant_context("acme"):
        found["acme"] = authz.has_tenant_access()
    with asab.contextvars.tenant_context("globex"):
        found["globex"] = authz.has_tenant_access()
    return asab.web.rest.json_response(request, found)


class Application(asab.Application):
    def __init__(self):
        asab.Config.add_defaults(
            {"general": {"watchdog_threshold": 0}, "web": {"listen": f"127.0.0.1 {PORT}"}}
        )
        super().__init__(modules=[asab.web.Module])
        container = self.get_service("asab.WebService").WebContainer
        container.WebApp.middlewares.append(asab.web.rest.JsonExceptionMiddleware)
        container.WebApp.middlewares.append(gateway)
        add_provider(asab.web.auth.AuthService(self))
        for path, handler in (("/healthz", healthz), ("/things", things), ("/mine", mine)):
            container.WebApp.router.add_get(path, handler)


if __name__ == "__main__":
    Application().run()
