"""Who gets the page and who the JSON, and that nothing in it is taken for markup."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from gateway.core import front_page
from gateway.core.model import Route

CHROMIUM = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (CHROMIUM, True), (FIREFOX, True),
        ("text/html", True), ("TEXT/HTML", True), ("text/*", True),
        ("text/html, */*", True), ("text/html;charset=utf-8", True), ("text/html;q=0.1", True),
        ("", False), ("*/*", False),
        ("application/json", False), ("application/json, text/plain, */*", False),
        ("text/html;q=0", False),
        ("text/html;q=0.5, application/json", False), ("text/html;q=0.5, */*", False),
        ("text/html, application/json", False), ("text/html;q=x", False), ("text/htmlx", False),
        ("text/html;q=2", False),
        ("text/plain", False), (",,;q=1,", False), ("text/html;q=0.5,*/*;q=0.1", True),
    ],
)  # fmt: skip
def test_html_is_for_those_who_ask_for_it(accept: str, html: bool) -> None:
    assert front_page.prefers_html([accept]) is html


def test_several_lines_of_accept_are_one() -> None:
    assert not front_page.prefers_html(["text/html;q=0.5", "application/json"])
    assert not front_page.prefers_html([])


class _Texts(HTMLParser):
    """The texts and the attributes of a page, and its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.elements: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


EVIL = "</code><script>alert(1)</script>\"'&"


def test_words_of_the_config_are_text_and_nothing_else() -> None:
    links = {EVIL: "https://a.example/?a=1&b='2'"}
    page = front_page.make(
        EVIL, EVIL, links, [Route("orders", "/orders/{rest*}", "x", None, host="b.example")]
    )
    read = _Texts()
    read.feed(page.html().decode())
    assert "script" not in read.elements
    assert read.texts.count(EVIL) == 4  # the title twice, how to get a token, the link's name
    assert read.addresses == ["data:,", "https://a.example/?a=1&b='2'"]
    assert "b.example/orders/{rest*}" in read.texts
    assert json.loads(page.json()) == {
        "title": EVIL,
        "token": EVIL,
        "links": links,
        "routes": [
            {"name": "orders", "host": "b.example", "path": "/orders/{rest*}", "methods": [], "token": True}
        ],
    }


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("ask `x <y>` now", "<p>ask <code>x &lt;y&gt;</code> now</p>"),
        ("one\ntwo", "<p>one</p>\n<p>two</p>"),
        ("a ` alone", "<p>a ` alone</p>"),
    ],
)
def test_how_to_get_a_token_is_lines_with_code(text: str, html: str) -> None:
    assert html in front_page.make("t", text, {}).html().decode()


def test_routes_are_told_only_when_they_are_given() -> None:
    page = front_page.make("t", "", {})
    assert "routes" not in json.loads(page.json())
    assert "<table" not in page.html().decode()


def test_nothing_is_fetched_from_elsewhere() -> None:
    read = _Texts()
    read.feed(front_page.make("t", "x", {}, [Route("a", "/a", "x", None, public=True)]).html().decode())
    assert read.addresses == ["data:,"]
    assert "link" in read.elements and "img" not in read.elements and "script" not in read.elements


def test_each_address_of_ours_begins_with_what_proxies_have_stripped() -> None:
    links = {"API": "/pricing/openapi.json", "Help": "https://help.example/", "Mail": "mailto:a@b.example"}
    routes = [Route("a", "/a/{rest*}", "x", None), Route("b", "/b", "x", None, host="b.example")]
    page = front_page.make("see /a", "`curl /a`", links, routes)
    prefix = "/api'&x"  # each may be part of a path, and means something in HTML
    read = _Texts()
    read.feed(page.html(prefix).decode())
    assert read.addresses == [
        "data:,", f"{prefix}/pricing/openapi.json", "https://help.example/", "mailto:a@b.example",
    ]  # fmt: skip
    assert f"{prefix}/a/{{rest*}}" in read.texts and f"b.example{prefix}/b" in read.texts
    assert "see /a" in read.texts and "curl /a" in read.texts, "words of the operator are not ours"
    data = json.loads(page.json(prefix))
    assert data["links"] == {**links, "API": f"{prefix}/pricing/openapi.json"}
    assert [route["path"] for route in data["routes"]] == [f"{prefix}/a/{{rest*}}", f"{prefix}/b"]
    assert page.html("") == page.html() and page.json() is page.json(), "made once"


@pytest.mark.parametrize("mark", ["\uffff", "\\uffff", "\0", "\\u0000"])
def test_no_word_of_the_config_is_taken_for_the_place_of_a_prefix(mark: str) -> None:
    page = front_page.make(mark, mark, {mark: f"/{mark}"})
    assert page.json("/api").count(b"/api") == page.html("/api").count(b"/api") == 1
