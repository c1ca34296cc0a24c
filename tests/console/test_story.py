"""An operator's story at the console, in a real browser, against a gateway process."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.console.running import HTML, Shop, shop
from tests.console.test_pages import signs_in_by_hand
from tests.eventually import eventually
from tests.support.browser import Tab, browser
from tests.support.chromium import CHROMIUM

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
CONTROL = 2
SECRET = "hunter2hunter2"
# The browser's clock is an hour late.
LATE = "Date.now = (now => () => now() - 3600e3)(Date.now)"
# A rehearsal of which nothing is heard, until it fails.
HOLD_REHEARSALS = """(() => {
  const ask = fetch, held = new Promise((_, fail) => { window.fail = fail; });
  window.fetch = (url, ...more) => String(url).includes("config:rehearse") ? held : ask(url, ...more);
})()"""
AREA = "document.querySelector('.editor textarea')"
ORIGINAL, LIMITED = "strip: /catalog\n", "strip: /catalog\n    body_limit: 2MiB\n"


async def replace(tab: Tab, old: str, new: str) -> None:
    """Select a text in the editor, and type another."""
    await tab.until(f"{AREA}?.value.includes({json.dumps(old)})")
    select = "at => { area.focus(); area.setSelectionRange(at, at + old.length); }"
    await tab.run(
        f"(() => {{ const area = {AREA}, old = {json.dumps(old)}; ({select})(area.value.indexOf(old)); }})()"
    )
    await tab.type(new)


def shows(text: str, where: str = "document.body") -> str:
    return f"{where}.innerText.includes({json.dumps(text)})"


def said(text: str) -> str:
    """Whether the page said it in passing, also when that is gone again."""
    return f"window.passed.some(one => one.includes({json.dumps(text)}))"


async def live(tab: Tab, number: int) -> None:
    await tab.until(f"document.querySelector('.live-revision').textContent === 'r{number}'")


async def apply(tab: Tab, reason: str, confirm_within: str = "") -> None:
    """By the dialog, which the keyboard opens."""
    await tab.until("!document.querySelector('.edit-bar button.primary').disabled")
    await tab.run(f"{AREA}.focus()")
    await tab.press("s", CONTROL)
    await tab.until("document.activeElement.id === 'reason'")
    await tab.type(reason)
    if confirm_within:
        await tab.click("#confirm-on")
        await tab.run("document.getElementById('confirm-within').select()")
        await tab.run("document.getElementById('confirm-within').focus()")
        await tab.type(confirm_within)
    await tab.until("!document.querySelector('dialog .dialog-body').innerText.includes('Rehearsing')")
    await tab.press("Enter")
    await tab.until("!document.querySelector('dialog')")


async def signed_in(tab: Tab, running: Shop) -> None:
    """By the ticket that `gateway console` brings, which is nowhere afterwards."""
    url = await running.ticket()
    await tab.open(url)
    await tab.until(said("Signed in as local"))
    assert "ticket" not in await tab.run("location.href")
    assert running.token not in await tab.run("JSON.stringify({...sessionStorage, ...localStorage})")


async def test_an_edit_is_checked_rehearsed_applied_and_goes_back_unless_it_is_confirmed(
    tmp_path: Path,
) -> None:
    async with shop(tmp_path / "shop") as running, browser(tmp_path / "profile") as chromium:
        original = running.text
        running.let_go.set()
        running.call("acme", 3)
        assert await running.statuses() == {200}
        mine, other = await chromium.tab(), await chromium.tab(running.url)
        await signed_in(mine, running)
        await other.run(LATE)
        await live(other, 1)
        await mine.run("location.hash = '#/config'")
        await bad_edit_is_shown_at_its_line(mine, running)
        await text_survives_a_reload(mine)
        await replace(mine, "target: nowhere", "target: catalog")
        await mine.until(shows("No change."))

        await replace(mine, ORIGINAL, LIMITED)
        await mine.until(shows("No problem found"))
        await mine.until(shows("body_limit", "document.querySelector('.changes')"))
        await mine.until(shows("Each would be answered as before."))
        await apply(mine, HTML, "8s")
        for tab in (mine, other):
            await live(tab, 2)
        told = f"Revision 2 is live, by local: {HTML}"
        await other.until(said(told))  # and as text
        await other.until(
            "/ in 0:0\\d /.test(document.querySelector('.strip.warn:not([hidden])')?.textContent)"
        )
        await mine.until("/^0:0\\d$/.test(document.querySelector('.pending .countdown').textContent)")
        for tab in (mine, other):  # nobody confirmed
            await live(tab, 3)
        await mine.until(f"{AREA}.value === {json.dumps(original)}")
        assert running.text == original

        await replace(mine, ORIGINAL, LIMITED)
        await apply(mine, "smaller bodies", "10m")
        await mine.click(".pending button", "Confirm")
        await mine.until(said("Revision 4 is confirmed"))
        await mine.until("document.querySelector('.pending').hidden")
        await roll_back(mine, running, original)
        await a_viewer_is_told_to_sign_in(other)
        for tab in (mine, other):
            assert await tab.run("[window.ran === undefined, document.querySelectorAll('img').length]") == [
                True,
                0,
            ]
            assert tab.said == []


async def bad_edit_is_shown_at_its_line(tab: Tab, running: Shop) -> None:
    await replace(tab, "target: catalog", "target: nowhere")
    beside = await tab.until("document.querySelector('.ink .wrong .beside')?.textContent")
    number = running.text.split("\n").index("    target: catalog") + 1
    assert "nowhere" in beside
    assert await tab.run("document.querySelector('.numbers .bad').textContent.trim()") == str(number)
    assert await tab.run("document.querySelector('.edit-bar button.primary').disabled")


async def text_survives_a_reload(tab: Tab) -> None:
    await tab.call("Page.reload")
    await eventually(lambda: "dialog: beforeunload" in tab.said)  # leaving asks
    tab.said.clear()
    await tab.until(f"{AREA}?.value.includes('target: nowhere')")
    await tab.until("document.querySelector('.ink .wrong .beside')")


async def roll_back(tab: Tab, running: Shop, original: str) -> None:
    await tab.run("location.hash = '#/config/history'")
    await tab.click("tr:has([href='#/config/revisions/1']) button", "Roll back")
    await tab.until(shows("body_limit", "document.querySelector('dialog')"))
    await tab.until("document.activeElement.textContent === 'Roll back'")
    await tab.press("Enter")
    await live(tab, 5)
    await tab.until(shows("as r1"))
    assert running.text == original


async def a_viewer_is_told_to_sign_in(tab: Tab) -> None:
    assert await tab.run(shows("Viewing only"))
    await tab.run("location.hash = '#/config/history'")
    await tab.click("button", "Roll back")
    await tab.until(shows("Operator's token", "document.querySelector('dialog')"))
    await tab.press("Escape")
    await tab.until("!document.querySelector('dialog')")


async def test_an_edit_that_is_late_meets_what_others_changed_meanwhile(tmp_path: Path) -> None:
    async with shop(tmp_path / "shop") as running, browser(tmp_path / "profile") as chromium:
        tab = await chromium.tab(f"{running.url}#/config")
        await replace(tab, ORIGINAL, LIMITED)
        await the_text_of_a_viewer_is_made_whole(tab, running)
        await tab.until(shows("No problem found"))
        theirs = running.text.replace("weight: 2", "weight: 3")
        head = (await running.ask("GET", "config"))["revision"]
        types = {"Content-Type": "application/yaml", "If-Match": f'"{head["digest"]}"'}
        await running.ask("PUT", f"config?reason={quote('more for acme')}", theirs.encode(), **types)
        await tab.until(shows("is live since you began: more for acme"))
        await tab.click("button", "Bring it into my text")
        await tab.until(shows("Both edits are together now."))
        await nothing_is_applied_before_its_rehearsal_is_there(tab, "both")
        await live(tab, 3)
        assert running.text == theirs.replace(ORIGINAL, LIMITED)
        assert tab.said == []


async def the_text_of_a_viewer_is_made_whole(tab: Tab, running: Shop) -> None:
    """Who is not signed in sees *** for what resembles a secret; that is not applied later."""
    assert SECRET in running.text and not await tab.run(f"{AREA}.value.includes({SECRET!r})")
    await signs_in_by_hand(tab, running.token)
    edited = running.text.replace(ORIGINAL, LIMITED)
    await tab.until(f"{AREA}.value === {json.dumps(edited)}")


async def nothing_is_applied_before_its_rehearsal_is_there(tab: Tab, reason: str) -> None:
    """When there is none, to go without it is a choice of its own."""
    await tab.until("!document.querySelector('.edit-bar button.primary').disabled")
    await tab.run(HOLD_REHEARSALS)
    await tab.click(".edit-bar button.primary")
    await tab.until("document.activeElement.id === 'reason'")
    await tab.type(reason)
    button = "document.querySelector('dialog footer .primary')"
    assert await tab.run(f"{button}.disabled")
    await tab.run("window.fail(new TypeError('away'))")
    await tab.until(f"!{button}.disabled")
    await tab.press("Enter")
    await tab.until("document.activeElement.required && document.activeElement.type === 'checkbox'")
    await tab.click("dialog label", "Apply without a rehearsal")
    await tab.run(f"{button}.click()")
    await tab.until("!document.querySelector('dialog')")
