"""gateway edit, against a gateway that runs: nothing that was typed is lost."""

from __future__ import annotations

import re
import stat
import sys
from pathlib import Path

import pytest

from tests.cli.config.conftest import BAD, ROUTING, SLOWER, Operated

pytestmark = pytest.mark.whole


class Editor:
    """An editor that does what was prepared, one step for each time that it is opened."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._script = folder / "editor.py"
        monkeypatch.setenv("EDITOR", f"{sys.executable} '{self._script}' --wait")
        monkeypatch.setenv("TMPDIR", str(folder))
        monkeypatch.setattr("tempfile.tempdir", None)

    def does(self, *steps: str) -> None:
        """steps: Python, with `path`; `write(text)`, `text` as it is opened."""
        self._script.write_text(
            "import pathlib, sys\n"
            f"folder = pathlib.Path({str(self.folder)!r})\n"
            "assert sys.argv[1] == '--wait'\n"
            "path = pathlib.Path(sys.argv[2])\n"
            "seen = len(list(folder.glob('seen*')))\n"
            "text = path.read_text()\n"
            "(folder / f'seen{seen}').write_text(text)\n"
            "(folder / f'mode{seen}').write_text(f'{path.stat().st_mode & 0o777:o} {path.suffix}')\n"
            "write = path.write_text\n"
            f"exec({steps!r}[seen])\n"
        )

    def seen(self, number: int) -> str:
        return (self.folder / f"seen{number}").read_text()

    def left(self) -> list[Path]:
        return sorted(self.folder.glob("gateway-*"))


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Editor:
    return Editor(tmp_path, monkeypatch)


def test_an_edit_is_checked_and_made_live_and_leaves_no_file(operated: Operated, editor: Editor) -> None:
    editor.does("write(text.replace('5s', '9s'))")
    code, out, _ = operated.run("edit", "-m", "longer")
    assert code == 0
    assert "~ timeouts.total  5s -> 9s" in out
    assert operated.live()[1] == SLOWER
    assert editor.seen(0) == ROUTING
    assert (editor.folder / "mode0").read_text() == "600 .yaml"
    assert editor.left() == []


def test_a_text_that_is_left_as_it_is_changes_nothing(operated: Operated, editor: Editor) -> None:
    before = operated.live()
    for step, told in (("pass", "Nothing was changed"), ("write('')", "The text is empty")):
        editor.does(*[step] * 2)
        code, out, err = operated.run("edit")
        assert (code, out) == (0, "")
        assert told in err
    assert operated.live() == before
    assert editor.left() == []


def test_a_bad_edit_is_opened_again_with_the_problems_on_top(operated: Operated, editor: Editor) -> None:
    editor.does(f"write({BAD!r})", "write(text.replace('fats', 'fast').replace('5s', '9s'))")
    assert operated.run("edit").code == 0
    assert operated.live()[1] == SLOWER
    again = editor.seen(1)
    assert again.endswith(BAD)
    lines = again.splitlines()
    assert lines[0].startswith("#! This is not live: it has problems.")
    (at,) = re.findall(r"line (\d+): routes\[0\].target: ", again)
    assert "target: fats" in lines[int(at) - 1]


def test_an_edit_that_is_given_up_is_kept_without_our_lines(operated: Operated, editor: Editor) -> None:
    before = operated.live()
    editor.does(f"write({BAD!r})", "pass")
    code, _, err = operated.run("edit")
    assert code == 1
    (kept,) = editor.left()
    assert f"{kept}:10  routes[0].target" in err
    assert f"Your text is kept in {kept}" in err
    assert kept.read_text() == BAD
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert operated.live() == before


def test_an_editor_that_fails_changes_nothing_and_what_it_wrote_is_kept(
    operated: Operated, editor: Editor
) -> None:
    before = operated.live()
    editor.does("write(text.replace('5s', '9s')); sys.exit(3)", "sys.exit(3)")
    code, _, err = operated.run("edit")
    assert code == 1
    assert "ended with exit code 3; nothing was changed" in err
    (kept,) = editor.left()
    assert kept.read_text() == SLOWER
    assert operated.live() == before
    kept.unlink()
    assert operated.run("edit").code == 1
    assert editor.left() == []  # it is what is live


def test_bytes_that_are_no_text_are_kept(operated: Operated, editor: Editor) -> None:
    editor.does(r"path.write_bytes(b'version: 1 # \xff\n')")
    code, _, err = operated.run("edit")
    assert code == 1
    assert "it is not UTF-8" in err
    (kept,) = editor.left()
    assert kept.read_bytes() == b"version: 1 # \xff\n"


def test_an_editor_that_is_not_there_is_named(operated: Operated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL", "/nowhere/editor -x")
    code, _, err = operated.run("edit")
    assert code == 1
    assert "the editor '/nowhere/editor -x' cannot be run: No such file or directory" in err
    assert "VISUAL or EDITOR" in err
    monkeypatch.setenv("VISUAL", "vi 'x")
    assert "VISUAL: No closing quotation" in operated.run("edit").err


def test_a_config_that_changed_meanwhile_is_shown_and_the_text_kept(
    operated: Operated, editor: Editor
) -> None:
    base, _ = operated.live()
    other = operated.file(ROUTING.replace("name: open", "name: opened"))
    command = [sys.executable, "-m", "gateway", "apply", other, "-y", "-c", str(operated.conf)]
    editor.does(
        f"import subprocess; subprocess.run({command!r}, check=True); write(text.replace('5s', '9s'))"
    )
    code, _, err = operated.run("edit")
    assert code == 1
    assert f"revision {base} is not live any more; nothing was changed" in err
    assert f"{base + 1} by local" in err and "route opened" in err
    (kept,) = editor.left()
    assert kept.read_text() == SLOWER
    assert operated.live()[0] == base + 1
