"""What the handbook says of the admin API works as it stands there, with curl and a shell."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from tests.admin.v1.api import TEXT, api_of

pytestmark = pytest.mark.asyncio
HANDBOOK = Path(__file__).parents[3] / "config" / "README.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
async def test_the_examples_of_the_handbook_work(tmp_path: Path) -> None:
    section = HANDBOOK.read_text().split("\n## The admin API\n")[1].split("\n## ")[0]
    (script,) = re.findall(r"^```bash\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    text = TEXT.replace("name: notes", "name: reports")
    async with api_of(tmp_path, text) as api:
        address = api.admin.url("").removeprefix("http://")
        script = f"set -e\n{script.replace('127.0.0.1:8081', address)}"
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", script),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, output.decode()
        assert api.live.text == text + "    body_limit: 5MiB\n"
        page = (await api("GET", "/revisions?limit=5")).body["revisions"]
        assert [(one["author"], one["reason"]) for one in page] == [
            ("local", "5 MiB were enough"),
            ("local", "6 MiB"),
            ("local", ""),
            ("local", "larger uploads"),
            ("local", "new customer"),
        ]
