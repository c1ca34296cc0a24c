"""What the pages of the console show, at the sizes and in the themes in which they are looked at. Pictures of
them stay in the test's folder, or where CONSOLE_SHOTS says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.console.running import HTML, THREADS, shop
from tests.support.browser import Tab, browser
from tests.support.chromium import CHROMIUM

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
LONG = "a-name-that-goes-on-and-on-" * 2 + "x"
PAGES = {  # by the fragment of the address: what is there once the page is complete
    "now": ".token",
    "routes": "td",
    "routes/catalog": ".facts",
    "config": ".ink .y-key",
    "config/history": "td",
    "config/revisions/1": ".ink .y-key",
    "config/diff/1/live": ".panel",
    "tenants": "td",
    f"tenants/{LONG}": ".facts",
    "audit": "td",
    "nodes": "td",
}
LOOKS = ((1280, False), (390, True))
# A module of the page itself, asked by the page.
MERGE = """import("./console/js/editor/merge.js").then(({merge}) => [
  merge("a\\nb\\nc\\nd", "A\\nb\\nc\\nd", "a\\nb\\nc\\nD\\ne", "r2"),
  merge("a\\nb\\nc", "a\\nx\\nc", "a\\ny\\nc", "r2"),
  merge("a\\nb\\nc", "a\\nx\\nc", "a\\nx\\nc", "r2"),
  merge("a\\nb\\nc", "a\\nc", "a\\nb\\nc\\nd", "r2"),
])"""


async def test_all_pages_fit_and_the_queue_of_a_backend_is_drawn_tenant_by_tenant(tmp_path: Path) -> None:
    shots = Path(os.environ.get("CONSOLE_SHOTS") or tmp_path / "shots")
    shots.mkdir(parents=True, exist_ok=True)
    async with shop(tmp_path / "shop") as running, browser(tmp_path / "profile") as chromium:
        running.call("acme", 12)
        running.call("globex", 5)
        running.call(LONG, 2)
        tab = await chromium.tab(running.url)
        await signs_in_by_hand(tab, running.token)
        await the_queue_is_drawn(tab)
        for width, dark in LOOKS:
            await tab.shown(width, dark=dark)
            for page, complete in PAGES.items():
                await tab.run(f"location.hash = '#/{page}'")
                await tab.until(f"document.querySelector('#main {complete}')")
                name = f"{page.replace('/', '-').replace(LONG, 'long')}-{width}{'-dark' if dark else ''}.png"
                await tab.screenshot(shots / name)
                wide = await tab.run(
                    "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                )
                assert wide <= 0, (page, width)
        await back_leads_to_the_page_before(tab)
        await keys_work(tab)
        await two_edits_are_merged(tab)
        running.let_go.set()
        await tab.run("location.hash = '#/now'")
        await tab.until("document.querySelectorAll('#main .seat.taken').length === 0")
        assert await running.statuses() == {200}
        assert await tab.run("[window.ran === undefined, document.querySelectorAll('img').length]") == [
            True,
            0,
        ]
        assert tab.said == []


async def signs_in_by_hand(tab: Tab, token: str) -> None:
    await tab.click(".who button", "Sign in")
    await tab.until("document.activeElement.id === 'token'")
    await tab.type(token)
    await tab.press("Enter")
    await tab.until("document.querySelector('.who-name').textContent === 'local'")


async def the_queue_is_drawn(tab: Tab) -> None:
    """All seats are taken, and who waits stands in a lane of their own, which leads to them."""
    card = "[...document.querySelectorAll('.backend')].find(one => one.ariaLabel === 'Backend catalog')"
    await tab.until(f"{card}.querySelectorAll('.seat.taken').length === {THREADS}")
    await tab.until(f"{card}.querySelectorAll('.token:not(.flying)').length === {19 - THREADS}")
    tenants = await tab.run(f"[...{card}.querySelectorAll('.lane-name')].map(one => one.textContent).sort()")
    assert {"acme", "globex"} <= set(tenants) <= {"acme", "globex", LONG}
    await tab.click(".lane-name", "acme")
    await tab.until("document.querySelector('#main h1').textContent.includes('acme')")
    await tab.until(f"document.body.innerText.includes({HTML!r})")  # its name, which is no markup
    await tab.until("/\\d+ of 4 inside, \\d+ waiting/.test(document.body.innerText)")


async def back_leads_to_the_page_before(tab: Tab) -> None:
    await tab.run("location.hash = '#/routes?q=pric'")
    await tab.until("document.querySelectorAll('#main tbody tr').length === 1")
    await tab.click("#main td a", "pricing")
    await tab.until("document.querySelector('#main h1').textContent.includes('pricing')")
    await tab.click("form.try button", "Try")
    await tab.until("document.querySelector('.steps .good')?.textContent === 'passed on'")
    await tab.run("history.back()")
    await tab.until("document.querySelectorAll('#main tbody tr').length === 1")


async def keys_work(tab: Tab) -> None:
    await tab.press("/")
    await tab.until("document.activeElement.type === 'search'")
    await tab.run("document.activeElement.blur()")
    await tab.press("g")
    await tab.press("n")
    await tab.until("location.hash === '#/now'")
    await tab.press("?")
    await tab.until("document.querySelector('dialog .keys')")
    await tab.press("Escape")
    await tab.until("!document.querySelector('dialog')")
    await tab.press("t")
    assert await tab.run("document.documentElement.dataset.theme") == "light"


async def two_edits_are_merged(tab: Tab) -> None:
    apart, against, same, both = await tab.run(MERGE)
    assert apart == {"text": "A\nb\nc\nD\ne", "conflicts": 0}
    assert against["conflicts"] == 1 and "<<<<<<< yours\nx\n=======\ny\n>>>>>>> r2" in against["text"]
    assert same == {"text": "a\nx\nc", "conflicts": 0}
    assert both == {"text": "a\nc\nd", "conflicts": 0}
