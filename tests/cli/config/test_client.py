"""The client of the admin API, on the wire: what it says when there is no admin API, and where it sends the
token."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gateway.cli.config import client as admin
from gateway.cli.config.client import AdminClient, Refused, Unreachable
from gateway.cli.main import main
from gateway.core.config.operator import TOKEN_FILE
from gateway.planes import conf
from tests.conf import write_conf
from tests.support.issuer_server import authority
from tests.support.ports import free_port

TOKEN = "gwop_" + "x" * 43


class Other(BaseHTTPRequestHandler):
    """Some server. seen: the Authorization of each request."""

    status, headers_sent, content = 200, {"Content-Type": "application/json"}, b"{}"
    seen: list[str | None] = []

    def do_GET(self) -> None:
        self.seen.append(self.headers["Authorization"])
        self.send_response(self.status)
        for name, value in self.headers_sent.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    do_PUT = do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], tls: object = None) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http{'s' if tls is not None else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answering(status: int = 200, content: bytes = b"{}", **headers: str) -> type[Other]:
    sent = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    members = {"status": status, "content": content, "headers_sent": sent, "seen": []}
    return type("Answering", (Other,), members)


def client(url: str, token: str = TOKEN, **more: bool) -> AdminClient:
    return AdminClient(url, token, named="--admin names it", no_token="there is none", **more)


# --- where the token goes --------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://10.0.0.7:8081", "http://ops.example", "http://[fe80::1]:8081"])
def test_a_token_does_not_go_to_another_machine_in_the_clear(url: str) -> None:
    with pytest.raises(ValueError, match="plain http to another machine") as caught:
        client(url)
    assert TOKEN not in str(caught.value)
    client(url, insecure=True)
    client(url, "")  # there is nothing to protect


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8081",
        "http://localhost:8081",
        "http://[::1]:8081",
        "http://127.1",
        "https://ops.example",
    ],
)
def test_on_this_machine_and_over_tls_it_may_go(url: str) -> None:
    assert client(url).url == url


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8081", "ftp://x", "http://", "http://x:0", "http://x:y", "http://[::1", "", "/tmp/sock"],
)
def test_what_is_no_url_is_said_to_be_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"write it as http://127.0.0.1:8081"):
        client(url)


@pytest.mark.parametrize("url", ["http://bob:secret@127.0.0.1", "http://127.0.0.1/?token=secret"])
def test_a_password_in_the_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="write the URL alone") as caught:
        client(url)
    assert "secret" not in str(caught.value)


def test_a_redirect_is_not_followed_with_the_token() -> None:
    with serving(elsewhere := answering()) as other:
        with serving(answering(307, Location=f"{other}/steal")) as url, pytest.raises(Refused):
            client(url).get("/admin/v1/config")
    assert elsewhere.seen == []


def test_proxies_of_the_environment_do_not_see_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(proxy := answering()) as elsewhere, serving(here := answering()) as url:
        monkeypatch.setenv("http_proxy", elsewhere)
        monkeypatch.setenv("ALL_PROXY", elsewhere)
        client(url).get("/admin/v1/config")
    assert (proxy.seen, here.seen) == ([], [f"Bearer {TOKEN}"])


def test_a_url_may_have_a_path_in_front() -> None:
    with serving(answering()) as url:
        assert client(f"{url}/ops/gw/").get("/admin/v1/nodes").where == f"{url}/ops/gw/admin/v1/nodes"


def test_a_unix_socket_is_asked_and_gets_the_token_which_stays_on_the_machine() -> None:
    with TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{folder}/a")
        listening.listen()
        asked: list[bytes] = []

        def respond() -> None:
            connection, _ = listening.accept()
            asked.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            connection.close()

        thread = threading.Thread(target=respond)
        thread.start()
        found = AdminClient(f"unix:{folder}/a", TOKEN, named="--admin names it").get("/admin/v1/nodes")
        thread.join()
        assert found.where == f"unix:{folder}/a/admin/v1/nodes"
        assert b"Host: localhost" in asked[0] and TOKEN.encode() in asked[0]
    with pytest.raises(Unreachable, match=r"does the gateway run|is it an admin listener"):
        AdminClient(f"unix:{folder}/a", named="--admin names it").get("/admin/v1/nodes")


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("unix:/run/a", "unix:/run/a"),
        ("unix:/run/a 127.0.0.1:81", "http://127.0.0.1:81"),
        ("*:81 proxy", "each of [admin] listen is for a proxy"),
    ],
)
def test_the_admin_listener_is_asked_where_this_machine_reaches_it(
    tmp_path: Path, listen: str, url: str
) -> None:
    config = conf.read(str(write_conf(tmp_path, admin=listen)))
    try:
        assert admin.url_of(config) == url
    except ValueError as error:
        assert url in str(error)


# --- what is wrong ---------------------------------------------------------------------------------


def test_nobody_listens() -> None:
    with pytest.raises(Unreachable) as caught:
        client(url := f"http://127.0.0.1:{free_port()}").get("/admin/v1/config")
    assert str(caught.value) == f"{url}: connection refused; does the gateway run? --admin names it"


def test_a_change_whose_response_is_lost_may_have_been_made() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            connection, _ = listening.accept()
            connection.recv(65536)
            connection.close()

        for method, unknown in (("PUT", True), ("GET", False)):
            thread = threading.Thread(target=hang_up)
            thread.start()
            with pytest.raises(Unreachable) as caught:
                client(f"http://127.0.0.1:{listening.getsockname()[1]}").call(method, "/x", headers={})
            thread.join()
            assert ("whether it was done is not known" in str(caught.value)) == unknown


def test_a_server_that_is_something_else_is_asked_about() -> None:
    with serving(answering(content=b"<html>")) as url:
        with pytest.raises(Unreachable, match="gave no JSON; is it the admin listener of this version"):
            client(url).get("/admin/v1/config").json()
    with serving(answering(404, b"not here")) as url:
        with pytest.raises(Refused, match="answered 404; is it the admin listener of this version"):
            client(url).get("/admin/v1/config")


def test_a_refusal_is_told_in_its_own_words_with_what_helps() -> None:
    body = json.dumps({"code": "unauthenticated", "detail": "No token."}).encode()
    with serving(answering(401, body)) as url:
        with pytest.raises(Refused, match=r"No token. The token that was shown is not accepted."):
            client(url).get("/x")
        with pytest.raises(Refused, match=r"No token. There is none."):
            client(url, "").get("/x")
    body = json.dumps({"code": "limited", "detail": "Too many."}).encode()
    with serving(answering(429, body, Retry_After="7")) as url:
        with pytest.raises(Refused, match=r"Too many. Try again in 7 s."):
            client(url).get("/x")


def test_tls_is_spoken_and_a_foreign_certificate_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, certificate = authority(tmp_path)
    with serving(answering(), context) as url:
        with pytest.raises(Unreachable, match=r"its certificate is not trusted: .*SSL_CERT_FILE"):
            client(url).get("/x")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert client(url).get("/x").json() == {}
    with serving(answering()) as url, pytest.raises(Unreachable, match="is it plain http"):
        client(url.replace("http", "https")).get("/x")


# --- which token -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [TOKEN, f"{TOKEN}\n", f"Bearer {TOKEN}", f"\nAuthorization: Bearer {TOKEN}\n"]
)
def test_a_token_file_may_hold_a_header_too(text: str) -> None:
    assert admin.clean(text, "file") == TOKEN


@pytest.mark.parametrize("text", ["", " \n", f"{TOKEN}\n{TOKEN}", f"{TOKEN}ä", f"{TOKEN}\0"])
def test_what_is_no_token_is_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"^file: it holds no token") as caught:
        admin.clean(text, "file")
    assert TOKEN not in str(caught.value)


def test_the_local_token_is_for_the_gateway_of_the_process_config_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = answering(content=b'{"nodes": [], "available": true}')
    with serving(seen) as url:
        conf = write_conf(tmp_path, admin=url.removeprefix("http://"))
        (tmp_path / "var").mkdir()
        (tmp_path / "var" / TOKEN_FILE).write_text(f"{TOKEN}\n")
        other = tmp_path / "token"
        other.write_text("of-the-file")
        assert main(["nodes", "-c", str(conf)]) == 0
        assert main(["nodes", "-c", str(conf), "--admin", url]) == 0
        monkeypatch.setenv(admin.TOKEN_VARIABLE, "of-the-environment")
        assert main(["nodes", "-c", str(conf), "--admin", url]) == 0
        assert main(["nodes", "-c", str(conf)]) == 0
        assert main(["nodes", "-c", str(conf), "--token-file", str(other)]) == 0
    names = ("of-the-environment", "of-the-environment", "of-the-file")
    assert seen.seen == [f"Bearer {TOKEN}", None, *(f"Bearer {name}" for name in names)]
    assert TOKEN not in "".join(capsys.readouterr())
