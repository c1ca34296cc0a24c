"""What a line of `listen` says."""

from __future__ import annotations

import pytest

from gateway.core.process import listeners
from gateway.core.process.listeners import Listen
from gateway.core.process.settings import parse_process
from gateway.core.routing.problems import Problems


def listen(text: str, **sections: dict[str, str]) -> tuple[Listen, ...]:
    admin = {"listen": "127.0.0.1:1"}
    return parse_process({"gateway": {"listen": text}, "admin": admin, **sections}, "/conf").listen


@pytest.mark.parametrize(
    ("text", "listens"),
    [
        ("*:80 [::1]:81 h:82", [Listen("0.0.0.0", 80), Listen("::1", 81), Listen("h", 82)]),
        ("h:80, h:81", [Listen("h", 80), Listen("h", 81)]),
        ("\nh:80 proxy\n\nh:81\n", [Listen("h", 80, proxy=True), Listen("h", 81)]),
        ("h:80 redirect=https, h:81 proxy h:82", [
            Listen("h", 80, redirect="https"), Listen("h", 81, proxy=True), Listen("h", 82)
        ]),
        ("proxy:80 tls:81", [Listen("proxy", 80), Listen("tls", 81)]),
        ("unix:/run/g.sock", [Listen(path="/run/g.sock", mode=0o660)]),
        ("unix:///run/g.sock mode=0666 proxy", [Listen(path="/run/g.sock", mode=0o666, proxy=True)]),
        ("unix:/run/a=b.sock mode=600", [Listen(path="/run/a=b.sock", mode=0o600)]),
    ],
)  # fmt: skip
def test_each_address_has_the_options_behind_it(text: str, listens: list[Listen]) -> None:
    assert list(listen(text)) == listens


@pytest.mark.parametrize(
    ("text", "reason", "hint"),
    [
        ("proxy", "options stand there without an address", "127.0.0.1:8080 proxy"),
        ("h:80, proxy", "options stand there without an address", "127.0.0.1:8080 proxy"),
        ("h:80 prox", "the option 'prox' of h:80 is unknown", "did you mean proxy?"),
        ("h:80 TLS=a", "the option 'TLS' of h:80 is unknown", "did you mean tls=NAME?"),
        ("h:80 ssl=a", "the option 'ssl' of h:80 is unknown", "tls=NAME"),
        ("h:80 backlog=9", "the option 'backlog' of h:80 is unknown", "known here: proxy, tls=NAME"),
        ("h:80 proxy=v2", "'proxy=v2' of h:80 has a value", "both versions"),
        ("h:80 proxy proxy", "'proxy' of h:80 is there twice", "keep one"),
        ("h:80 tls", "'tls' of h:80 names no section", "[tls:NAME]"),
        ("h:80 tls=", "'tls=' of h:80 names no section", "[tls:NAME]"),
        ("h:80 tls=edge", "there is no section [tls:edge], which h:80 names", "add [tls:edge]"),
        ("h:80 redirect=http", "'redirect=http' of h:80 is not offered", "redirect=https"),
        ("h:80 mode=0600", "h:80 has a mode, and no file", "leave it out"),
        ("unix:/g mode=0060", "'mode=0060' of unix:/g is no mode", "mode=0660"),
        ("unix:/g mode=rw", "'mode=rw' of unix:/g is no mode", "mode=0660"),
        ("unix:g.sock", "'unix:g.sock' is no path of a unix socket", "unix:/run/"),
        ("unix:", "'unix:' is no path of a unix socket", "unix:/run/"),
        ("unix:/run/", "'unix:/run/' is no path of a unix socket", "unix:/run/"),
        ("/run/g.sock", "'/run/g.sock' is no address", "write unix:/run/g.sock"),
        (f"unix:/{'x' * 99}", "has 100 bytes", "99 at most"),
        ("unix:/g unix:///g", "unix:/g stands there twice", "leave one"),
    ],
)
def test_what_a_line_cannot_mean_is_said_with_what_to_write(text: str, reason: str, hint: str) -> None:
    with pytest.raises(Problems) as caught:
        listen(text)
    (found,) = caught.value.items
    assert found.where == "[gateway].listen"
    assert reason in found.reason
    assert hint in found.hint


def test_two_unix_sockets_clash_by_their_path_only() -> None:
    one, other, port = Listen(path="/a"), Listen(path="/b"), Listen("h", 0)
    assert one.clashes(one) and not one.clashes(other) and not one.clashes(port) and not port.clashes(one)
    with pytest.raises(Problems) as caught:
        parse_process({"gateway": {"listen": "unix:/g"}, "admin": {"listen": "unix:/g"}}, "/conf")
    (found,) = caught.value.items
    assert (found.where, found.hint) == ("[admin].listen", "choose another path")


def test_a_url_is_that_of_a_listener_which_takes_plain_requests() -> None:
    behind, other, plain = Listen("h", 1, proxy=True), Listen("h", 2, redirect="https"), Listen("h", 3)
    assert listeners.url_of([Listen(path="/g"), behind, other]) == ""
    assert listeners.url_of([behind, Listen("h", 4, tls="edge")]) == "https://h:4"
    assert listeners.url_of([Listen("h", 4, tls="edge"), plain]) == "http://h:3"
    assert [one.line for one in (behind, other)] == ["h:1 proxy", "h:2 redirect=https"]


def test_those_whom_a_proxy_speaks_for_are_not_on_this_machine() -> None:
    assert Listen("127.0.0.1", 1).is_local and Listen(path="/g").is_local
    assert not Listen("127.0.0.1", 1, proxy=True).is_local
    assert not Listen(path="/g", proxy=True).is_local
    assert not Listen("10.0.0.1", 1).is_local
