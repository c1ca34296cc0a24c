"""The files of the console as the admin listener serves them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.admin.console import pages
from gateway.core.process.listeners import Listen
from tests.support.admin import admin_of

STATIC = Path(pages.__file__).parent / "static"
SCRIPTS = sorted((STATIC / "js").rglob("*.js"))
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


async def test_a_browser_gets_the_page_and_a_program_is_told_that_nothing_is_there(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        status, headers, text = await asked.ask("/", **BROWSER)
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert text == (STATIC / "index.html").read_text()
        assert (await asked.ask("/"))[0] == 404
        assert (await asked.ask("/console/js/none.js"))[0] == 404
        assert (await asked.ask("/console/../pages.py"))[0] == 404


async def test_the_page_loads_and_runs_nothing_but_its_own_files(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        _, headers, text = await asked.ask("/", **BROWSER)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        loaded = re.findall(r'(?:src|href)="([^"]*)"', text)
        assert len(loaded) > 5
        for path in loaded:
            status, headers, _ = await asked.ask(f"/{path}")
            assert (status, headers["Cache-Control"]) == (200, "no-cache"), path
        assert not re.search(r"<script>|style=|\son\w+=", text)


async def test_a_file_that_the_browser_has_already_is_not_sent_again(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        _, headers, _ = await asked.ask("/console/js/app.js")
        status, again, text = await asked.ask("/console/js/app.js", **{"If-None-Match": headers["ETag"]})
        assert (status, text, again["ETag"]) == (304, "", headers["ETag"])


async def test_the_files_need_no_token_where_all_else_does(tmp_path: Path) -> None:
    async with admin_of(tmp_path, admin=(Listen("0.0.0.0"),)) as asked:
        assert (await asked.ask("/", **BROWSER))[0] == 200
        assert (await asked.ask("/console/js/app.js"))[0] == 200
        assert (await asked.ask("/admin/config"))[0] == 401


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.relative_to(STATIC).as_posix())
def test_a_script_imports_what_is_there_and_reads_no_text_as_markup(script: Path) -> None:
    text = script.read_text()
    for name in re.findall(r'from "([^"]+)"', text):
        assert (script.parent / name).resolve() in SCRIPTS, name
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|DOMParser", text)


def test_no_script_imports_itself_by_way_of_others() -> None:
    imports = {
        script: [
            (script.parent / name).resolve() for name in re.findall(r'from "([^"]+)"', script.read_text())
        ]
        for script in SCRIPTS
    }
    left = dict(imports)
    while done := [script for script, needs in left.items() if not any(need in left for need in needs)]:
        for script in done:
            del left[script]
    assert not left, "a cycle among these"


def test_a_folder_holds_few_files_and_a_file_few_lines() -> None:
    for folder in {script.parent for script in SCRIPTS}:
        assert len(list(folder.glob("*.js"))) <= 14
    assert max(len(script.read_text().splitlines()) for script in SCRIPTS) <= 400
