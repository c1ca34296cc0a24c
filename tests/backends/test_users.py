"""What each framework has for users and permissions, with the caller that the gateway names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends import signing
from tests.backends.apps import fastapi_app
from tests.backends.servers import GUNICORN, UVICORN, Server, running

DJANGO = "tests.backends.apps.django_users_app"


@pytest.fixture(scope="module", params=["wsgi", "asgi"])
def django(request: pytest.FixtureRequest) -> Iterator[Server]:
    pytest.importorskip("rest_framework")
    commands = {
        "wsgi": (*GUNICORN, "--bind", "127.0.0.1:{port}", f"{DJANGO}:app"),
        "asgi": (*UVICORN, "--port", "{port}", f"{DJANGO}:asgi"),
    }
    with running(*commands[request.param]) as server:
        yield server


def test_djangos_user_is_the_caller_and_has_the_permissions_of_the_scopes(django: Server) -> None:
    writer = {"scope": "things:read things:write"}
    assert django.call("GET", "/mine", **writer).json == {"user": "ann", "pk": "acme/ann", "may": True}
    assert django.call("GET", "/mine").json["may"] is False
    assert django.call("GET", "/add", **writer).json == {"added": True}
    assert django.call("GET", "/add", scope="things.add_thing").status == 403, "a scope is no permission"
    assert django.call("GET", "/async").json == {"user": "ann"}


def test_djangos_user_is_anonymous_where_nobody_calls(django: Server) -> None:
    assert django.call("GET", "/open", "").json == {"user": "AnonymousUser", "may": False}
    assert django.call("GET", "/mine", "").status == 302, "to the login page"
    assert django.call("GET", "/add", "").status == 403


def test_django_rest_framework_knows_the_caller(django: Server) -> None:
    assert django.call("GET", "/rest").json == {"user": "ann", "tenant": "acme"}
    refused = django.call("GET", "/rest", "")
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, 'Bearer realm="gateway"')


def test_fastapi_asks_for_scopes_and_its_document_says_so() -> None:
    with running(*UVICORN, "--port", "{port}", f"{fastapi_app.__name__}:app") as server:
        assert server.call("POST", "/things", scope="things:write").json == {"added by": "ann"}
        refused = server.call("POST", "/things")
        assert (refused.status, refused.json["detail"]) == (403, "The token lacks the scope things:write.")
        assert server.call("POST", "/things", "").is_problem(401)
    described = fastapi_app.app.openapi()
    assert described["components"]["securitySchemes"]["gateway"]["scheme"] == "bearer"
    assert described["paths"]["/things"]["post"]["security"] == [{"gateway": ["things:write"]}]
    assert described["paths"]["/mine"]["get"]["security"] == [{"gateway": []}]
    assert "security" not in described["paths"]["/open"]["get"]


def test_asabs_own_authorization_asks_for_the_scopes_of_the_caller(tmp_path: Path) -> None:
    pytest.importorskip("jwcrypto")
    with running("-m", "tests.backends.apps.asab_app", "{port}") as server:
        assert server.call("GET", "/things", scope="things:read").json == {"subject": "ann"}
        assert server.call("GET", "/things").status == 403
        assert server.call("GET", "/mine", scope="things:write").json == {
            "subject": "ann", "may": True, "acme": True, "globex": False,
        }  # fmt: skip
        assert server.call("GET", "/mine", scope="authz:superuser").json == {
            "subject": "ann", "may": False, "acme": True, "globex": False,
        }  # fmt: skip
        assert server.call("GET", "/mine", "").status == 401
        forged = {"X-Tenant": "acme", "X-Subject": "root", "Authorization": "Bearer e.e.e"}
        assert server.call("GET", "/mine", None, **forged).is_problem(401)
        assert server.call("GET", "/mine", None, **signing.caller(aud="reports")).is_problem(401)
