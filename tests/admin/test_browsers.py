"""Which requests are a page's of another origin, and which bodies a page could send without being asked."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from gateway.admin import browsers
from gateway.core.errors import Forbidden, UnsupportedMediaType


def head(**headers: str) -> CIMultiDict[str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return CIMultiDict({"Host": "127.0.0.1:8081", **named})


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8081", "http://127.0.0.1:8081"),
        ("localhost:8081", "http://localhost:8081"),
        ("LOCALHOST.:8081", "http://localhost:8081"),
        ("[::1]:8081", "http://[::1]:8081"),
        ("ops.example", "https://ops.example"),
        ("ops.example", "http://ops.example"),
        ("ops.example:443", "https://ops.example"),
        ("ops.example:8443", "https://ops.example:8443"),
    ],
)
def test_a_page_of_our_own_origin_may(host: str, origin: str) -> None:
    for site in ({}, {"Sec_Fetch_Site": "same-origin"}):
        browsers.check("POST", head(Host=host, Origin=origin, **site))


@pytest.mark.parametrize(
    "origin",
    [
        "null", "", "http://evil.example", "http://127.0.0.1", "http://127.0.0.1:8080", "http://localhost:8081",
        "http://127.0.0.1:8081.evil.example", "http://127.0.0.1:8081@evil.example", "file://",
        "http://127.0.0.1:8081/", "https://127.0.0.1", "chrome-extension://abc", "127.0.0.1:8081",
        "http://evil.example http://127.0.0.1:8081", "http://127.0.0.1:8081, http://evil.example",
    ],
)  # fmt: skip
def test_a_page_of_any_other_origin_may_not_whatever_the_method(origin: str) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        with pytest.raises(Forbidden):
            browsers.check(method, head(Origin=origin))
    with pytest.raises(Forbidden):
        browsers.check("POST", head(Origin=origin, Sec_Fetch_Site="same-origin"))


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "SAME-ORIGIN", "same-origin, cross-site"])
def test_a_browser_that_names_another_site_is_believed_with_and_without_an_origin(site: str) -> None:
    for origin in ({}, {"Origin": "http://127.0.0.1:8081"}):
        for method in ("GET", "POST", "DELETE"):
            with pytest.raises(Forbidden):
                browsers.check(method, head(Sec_Fetch_Site=site, **origin))


def test_a_link_may_lead_here_and_neither_a_frame_nor_a_form_may() -> None:
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    browsers.check("GET", head(**link))
    for method, more in (
        ("GET", {"Sec_Fetch_Dest": "iframe"}),
        ("GET", {"Sec_Fetch_Mode": "no-cors"}),
        ("POST", {}),
        ("POST", {"Origin": "http://evil.example"}),
    ):
        with pytest.raises(Forbidden):
            browsers.check(method, head(**{**link, **more}))


def test_programs_that_are_no_browsers_say_nothing_and_may() -> None:
    browsers.check("POST", head())
    browsers.check("POST", head(Sec_Fetch_Site="none"))


@pytest.mark.parametrize("kind", [*browsers.MEDIA_TYPES, "Application/JSON; charset=utf-8"])
def test_a_change_may_hold_what_a_browser_asks_for_before_it_sends_it(kind: str) -> None:
    browsers.check_content(head(Content_Length="2", Content_Type=kind))


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain", "multipart/form-data; boundary=a", "application/x-www-form-urlencoded", "",
        "text/plain; application/json", "application/json, text/plain", "application/octet-stream",
    ],
)  # fmt: skip
def test_a_change_may_not_hold_what_a_form_can_send(kind: str) -> None:
    for length in ({"Content_Length": "2"}, {"Transfer_Encoding": "chunked"}):
        with pytest.raises(UnsupportedMediaType):
            browsers.check_content(head(Content_Type=kind, **length))
    browsers.check_content(head(Content_Type=kind, Content_Length="0"))
