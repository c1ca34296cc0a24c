"""What the gateway says as values, and in which form an application believes it."""

import contextlib
import json

import pytest
import uvicorn
from fastapi import FastAPI

from backends.identity import (
    ANONYMOUS,
    Admitted,
    Entrance,
    Forwarded,
    ForwardedInvalid,
    Identity,
    IdentityInvalid,
    IdentityMissing,
    Incoming,
    Refused,
    Settings,
    SettingsInvalid,
    asab,
    forwarded,
    log,
    parse,
)
from backends.identity.entry import entrance
from backends.identity.fastapi import GatewayMiddleware
from backends.identity.identity import request_id

GOOD = {"X-Tenant": "acme", "X-Subject": "ann@acme.example"}


def getter(headers):
    """Values may be a string, or a list of strings for a header that came more than once."""

    def get(name):
        value = headers.get(name, [])
        return [value] if isinstance(value, str) else value

    return get


BELIEVING = Entrance(Settings(trust_headers="everyone"))


def admit(headers, entrance=BELIEVING, peer="203.0.113.7"):
    return entrance.admit(Incoming(headers, "GET", b"/", b"", peer))


def test_an_identity_is_read_from_the_three_headers():
    headers = getter({**GOOD, "X-Scopes": "catalog:read catalog:write"})
    assert parse(headers) == Identity(
        "acme", "ann@acme.example", frozenset({"catalog:read", "catalog:write"})
    )


@pytest.mark.parametrize("scopes", [{}, {"X-Scopes": ""}])
def test_no_scopes_is_an_empty_set(scopes):
    assert parse(getter({**GOOD, **scopes})).scopes == frozenset()


@pytest.mark.parametrize("name", ["X-Tenant", "X-Subject"])
def test_a_missing_header_is_named(name):
    with pytest.raises(IdentityMissing, match=name):
        parse(getter({key: value for key, value in GOOD.items() if key != name}))


@pytest.mark.parametrize("name", ["X-Tenant", "X-Subject", "X-Scopes"])
def test_a_header_that_came_twice_is_refused_even_if_both_agree(name):
    with pytest.raises(IdentityInvalid, match=f"{name} came 2 times"):
        parse(getter({**GOOD, name: ["acme", "acme"]}))


@pytest.mark.parametrize("tenant", ["", "Acme", "-acme", "a" * 64, "acme\n", "a,b", "a_b", "ácme", "a/b"])
def test_a_tenant_outside_the_pattern_is_refused(tenant):
    with pytest.raises(IdentityInvalid, match="tenant must be"):
        parse(getter({**GOOD, "X-Tenant": tenant}))


@pytest.mark.parametrize("tenant", ["a", "0", "a" * 63, "a-b-"])
def test_a_tenant_at_the_edge_of_the_pattern_is_taken(tenant):
    assert parse(getter({**GOOD, "X-Tenant": tenant})).tenant == tenant


@pytest.mark.parametrize("subject", ["", "a b", "a" * 201, "ann\n", "\x7f", "ánn"])
def test_a_subject_that_is_not_visible_ascii_is_refused(subject):
    with pytest.raises(IdentityInvalid, match="subject must be"):
        parse(getter({**GOOD, "X-Subject": subject}))


@pytest.mark.parametrize("scopes", ['a"b', "a\tb", "a\\b", "á"])
def test_a_scope_outside_rfc_6749_is_refused(scopes):
    with pytest.raises(IdentityInvalid, match="scopes must be"):
        parse(getter({**GOOD, "X-Scopes": scopes}))


def test_an_error_never_echoes_the_value():
    with pytest.raises(IdentityInvalid) as caught:
        parse(getter({**GOOD, "X-Tenant": "<script>"}))
    assert "script" not in str(caught.value)


def test_the_public_address_is_read():
    headers = getter(
        {
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "api.example:8443",
            "X-Forwarded-Prefix": "/v1/catalog",
        }
    )
    assert forwarded(headers) == Forwarded("https", "api.example:8443", "/v1/catalog")


def test_without_forwarding_headers_the_request_speaks_for_itself():
    assert forwarded(getter({})) == Forwarded("", "", "")


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("/", ""),
        ("/a/", "/a"),
        ("", ""),
        ("/a~b/c.d", "/a~b/c.d"),
        ("/it's/caf%C3%A9/", "/it's/caf%C3%A9"),
    ],
)
def test_a_prefix_ends_without_a_slash(prefix, expected):
    assert forwarded(getter({"X-Forwarded-Prefix": prefix})).prefix == expected


@pytest.mark.parametrize(
    "prefix",
    [
        "catalog",
        "//evil.example",
        "/a//b",
        "/a/../b",
        "/./a",
        "/a b",
        "/a\nb",
        "/a?b",
        "/a#b",
        "/a\\b",
        "/%2e",
        "/%2E%2e",
        "/a%2Fb",
        "/a%5cb",
        "/a%00",
        "/a%0A",
        "/a%",
        "/a%zz",
        "/a%FF",
        '/"x',
    ],
)
def test_a_junk_prefix_is_refused(prefix):
    with pytest.raises(ForwardedInvalid, match="X-Forwarded-Prefix"):
        forwarded(getter({"X-Forwarded-Prefix": prefix}))


@pytest.mark.parametrize("host", ["a/b", "a b", "user@host", "host:port", "host:1:2", "a,b", "évil"])
def test_a_junk_host_is_refused(host):
    with pytest.raises(ForwardedInvalid, match="X-Forwarded-Host"):
        forwarded(getter({"X-Forwarded-Host": host}))


@pytest.mark.parametrize("host", ["api.example", "127.0.0.1:8080", "[::1]:8080", "my_service:80"])
def test_a_host_may_be_a_name_or_an_address_with_a_port(host):
    assert forwarded(getter({"X-Forwarded-Host": host})).host == host


@pytest.mark.parametrize("scheme", ["ftp", "HTTP", "javascript", "http,https"])
def test_a_junk_scheme_is_refused(scheme):
    with pytest.raises(ForwardedInvalid, match="X-Forwarded-Proto"):
        forwarded(getter({"X-Forwarded-Proto": scheme}))


@pytest.mark.parametrize(
    ("values", "expected"),
    [(["0af1"], "0af1"), ([], "-"), (["a", "b"], "-"), (["a\nb"], "-"), (["a" * 129], "-")],
)
def test_only_a_plain_request_id_reaches_the_log(values, expected):
    assert request_id(getter({"X-Request-ID": values})) == expected


def test_who_calls_is_admitted_with_the_public_address_and_its_id_is_in_the_log():
    found = admit(getter({**GOOD, "X-Forwarded-Prefix": "/shop", "X-Request-ID": "0af1"}))
    assert found == Admitted(Identity("acme", "ann@acme.example", frozenset()), Forwarded("", "", "/shop"))
    assert log.request_id.get() == "0af1"


@pytest.mark.parametrize(
    ("headers", "status", "detail"),
    [
        ({}, 401, "X-Tenant is missing"),
        ({**GOOD, "X-Tenant": "Acme"}, 401, "tenant must be"),
        ({**GOOD, "X-Forwarded-Prefix": "//evil.example"}, 400, "X-Forwarded-Prefix must be"),
        ({**GOOD, "X-Forwarded-Host": ["a", "b"]}, 400, "X-Forwarded-Host came 2 times"),
    ],
)
def test_what_is_not_admitted_has_a_status_and_a_problem_and_its_id_is_in_the_log(headers, status, detail):
    found = admit(getter({**headers, "X-Request-ID": "0af2"}))
    assert isinstance(found, Refused)
    body = json.loads(found.body)
    assert (found.status, body["status"]) == (status, status)
    assert detail in body["detail"]
    assert log.request_id.get() == "0af2"


def test_nobody_is_false_and_has_no_tenant_to_work_with():
    assert not ANONYMOUS
    assert Identity("acme", "ann", frozenset())
    for name in ("tenant", "subject", "scopes"):
        with pytest.raises(IdentityMissing, match="send a token"):
            getattr(ANONYMOUS, name)
    assert not hasattr(ANONYMOUS, "other")
    assert repr(ANONYMOUS) == "Anonymous()"
    assert Identity("acme", "ann", frozenset()) != ANONYMOUS
    assert ANONYMOUS in {ANONYMOUS}


def test_what_the_gateway_passes_on_for_nobody_is_admitted_as_that():
    found = admit(getter({"X-Forwarded-For": "203.0.113.9, 127.0.0.1"}))
    assert found == Admitted(ANONYMOUS, Forwarded("", "", "", "203.0.113.9"))


@pytest.mark.parametrize(
    "headers", [{"X-Tenant": "acme"}, {"X-Subject": "ann"}, {"X-Tenant": "", "X-Subject": ""}]
)
def test_half_an_identity_is_refused_although_it_came_through_the_gateway(headers):
    found = admit(getter({"X-Forwarded-For": "203.0.113.9", **headers}))
    assert isinstance(found, Refused)
    assert found.headers["WWW-Authenticate"] == 'Bearer realm="gateway"'


@pytest.mark.parametrize(
    ("host", "scheme", "server"),
    [
        ("api.example:8443", "https", ("api.example", "8443")),
        ("api.example", "https", ("api.example", "443")),
        ("api.example", "http", ("api.example", "80")), ("[::1]:81", "http", ("[::1]", "81")),
        ("[::1]", "https", ("[::1]", "443")), ("api.example", "", ("api.example", "80")),
    ],
)  # fmt: skip
def test_the_public_server_has_the_port_of_the_host_or_of_the_scheme(host, scheme, server):
    assert Forwarded(scheme, host, "").server("http") == server


@pytest.mark.parametrize(
    ("chain", "client"), [("unknown", ""), ("::1", "::1"), (" 10.0.0.1 , 10.0.0.2", "10.0.0.1"), ("", "")]
)
def test_the_client_is_the_first_address(chain, client):
    assert forwarded(getter({"X-Forwarded-For": chain})).client == client


@pytest.mark.parametrize("headers", [GOOD, {}, {"X-Forwarded-For": "203.0.113.9"}])
def test_headers_without_a_signature_are_refused_unless_that_is_switched_on(headers):
    found = admit(getter(headers), Entrance(Settings()), peer="")
    assert isinstance(found, Refused)
    assert (found.status, "set GATEWAY_IDENTITY_KEYS" in found.detail) == (401, True)


@pytest.mark.parametrize(
    ("peer", "believed"),
    [("", True), ("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("10.0.0.1", False),
     ("203.0.113.7", False), ("::ffff:10.0.0.1", False), ("localhost", False)],
)  # fmt: skip
def test_for_development_headers_of_this_host_alone_can_be_believed(peer, believed):
    entrance = Entrance(Settings(trust_headers="loopback"))
    assert isinstance(admit(getter(GOOD), entrance, peer), Admitted) is believed


def test_that_there_are_no_keys_is_a_warning_at_the_start(caplog):
    Entrance(Settings(trust_headers="loopback"))
    assert not caplog.messages
    Entrance(Settings())
    assert "GATEWAY_IDENTITY_KEYS is not set, so everyone gets 401" in caplog.text


async def test_a_setting_that_cannot_be_meant_ends_the_start_of_an_asgi_server(monkeypatch, caplog):
    monkeypatch.setenv("GATEWAY_IDENTITY_KEYS", "foo://x")
    entrance.cache_clear()
    app = FastAPI()
    app.add_middleware(GatewayMiddleware)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    with contextlib.suppress(SystemExit):
        await server.serve()
    assert not server.started
    assert "GATEWAY_IDENTITY_KEYS is no file's path" in caplog.text


def test_aiohttps_middleware_reads_the_environment_when_imported_and_not_for_given_settings(monkeypatch):
    monkeypatch.setenv("GATEWAY_IDENTITY_KEYS", "foo://x")
    entrance.cache_clear()
    assert callable(asab.middleware(Settings(trust_headers="loopback")))
    with pytest.raises(SettingsInvalid, match="no URL"):
        from backends.identity.asab import gateway  # noqa: F401
    with pytest.raises(ImportError):
        from backends.identity.asab import another  # noqa: F401


def test_the_settings_are_those_of_the_environment():
    environment = {"GATEWAY_IDENTITY_KEYS": "/keys", "GATEWAY_IDENTITY_AUDIENCE": "shop"}
    assert Settings.from_environment(environment) == Settings("/keys", "shop", "gateway", "")
    assert Settings.from_environment({}) == Settings()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"keys": "/keys"}, "GATEWAY_IDENTITY_AUDIENCE is not"),
        ({"trust_headers": "yes"}, "GATEWAY_IDENTITY_TRUST_HEADERS is 'loopback', 'everyone'"),
        ({"keys": "{", "audience": "a"}, "GATEWAY_IDENTITY_KEYS is no JWK set: it is not JSON"),
        ({"keys": '{"keys": []}', "audience": "a"}, "no JWK set: it holds no Ed25519 key"),
        ({"keys": "foo://x", "audience": "a"}, "GATEWAY_IDENTITY_KEYS is no file's path, no URL"),
        ({"keys": "https:///keys", "audience": "a"}, "no URL"),
        ({"keys": "http://gateway:port/keys", "audience": "a"}, "no URL"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_named_at_the_start(settings, reason):
    with pytest.raises(SettingsInvalid, match=reason):
        Entrance(Settings(**settings))
