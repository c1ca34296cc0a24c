"""`make up` and `make test` on machines of every kind: which Python they take, what they install and say.

The interpreters are small scripts here, on a PATH that has nothing else.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
FILES = ("Makefile", "pyproject.toml", "constraints.txt", ".ci/install.sh")
TOOLS = ("make", "sh", "dirname", "head", "grep", "cat", "cksum", "rm", "mkdir", "cp", "chmod", "flock")
# Says what it is; makes an environment of itself; its pip writes down how it was called.
FAKE = """#!/bin/sh
case "$1 $2" in
"-E -c") {look} ;;
"-m venv")
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo "#!$PWD/$3/bin/python" >"$3/bin/pip" ;;
"-m pip")
    echo "$PIP_CONSTRAINT $PIP_BUILD_CONSTRAINT $*" >>pip.log
    [ -z "$NO_NETWORK" ] || exit 1
    for tool in ruff mypy gateway; do
        made=${{0%/*}}/$tool; echo '#!/bin/sh' >"$made"; echo "echo $tool runs" >>"$made"; chmod +x "$made"
    done ;;
"-m pytest") echo pytest runs ;;
esac
"""


class Machine:
    """A checkout in `folder` and a PATH with the tools that the Makefile needs."""

    def __init__(self, folder: Path, place: str = "checkout") -> None:
        self.bin, self.checkout = folder / "bin", folder / place
        self.bin.mkdir()
        for name in TOOLS:
            if found := shutil.which(name):
                (self.bin / name).symlink_to(found)
        for name in FILES:
            (self.checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.checkout / name)

    def python(self, name: str, look: str) -> Path:
        """A fake interpreter. look: what `-c` does."""
        path = self.bin / name
        path.write_text(FAKE.format(look=look))
        path.chmod(0o755)
        return path

    def make(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """The exit code, and all that is said."""
        ran = subprocess.run(
            ["make", *arguments], cwd=self.checkout, env={"PATH": str(self.bin), "HOME": "/", **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
        )  # fmt: skip
        return ran.returncode, ran.stdout

    @property
    def installed(self) -> list[str]:
        """How pip was called, each time."""
        log = self.checkout / "pip.log"
        return log.read_text().splitlines() if log.exists() else []


def fits(version: str = "3.12.4", base: str = "/opt/python") -> str:
    return f"echo 'fits {version} {base}'"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("name", "look", "said"),
    [
        ("python3", "echo old 3.10.13 /usr", "{path} is Python 3.10.13. Python 3.11 or newer is needed"),
        ("python", "echo old 2.7.18 /usr", "{path} is Python 2.7.18. Python 3.11 or newer is needed"),
        ("python3", "echo pypy 3.11.9 /usr", "{path} is pypy, which is not CPython."),
        ("python3.12", "exit 127", "{path} does not run."),
        ("python3.11", "echo no-venv 3.11.2 /usr", "has no venv module (Debian, Ubuntu: "),
        ("ruby", "", "there is no python3 on the PATH. Python 3.11 or newer is needed"),
    ],
)  # fmt: skip
def test_without_a_python_that_fits_one_line_says_what_was_found_and_what_to_do(
    machine: Machine, name: str, look: str, said: str
) -> None:
    path = machine.python(name, look)
    code, shown = machine.make("up")
    error, *rest = shown.splitlines()
    assert code != 0
    assert error.startswith("error: ") and said.format(path=path) in error
    assert error.endswith("make PYTHON=/path/to/python3.11 up")
    assert len(rest) == 1 and rest[0].startswith("make: ")
    assert not (machine.checkout / ".venv").exists()
    machine.python("python3.13", fits())
    assert machine.make("up")[0] == 0, "the failure spoils no later run"


def test_the_first_python_that_fits_is_taken_and_the_nearest_miss_is_named(machine: Machine) -> None:
    machine.python("python3.11", "exit 127")  # what a version manager leaves for one that is not chosen
    machine.python("python3", "echo old 3.9.1 /usr")
    assert "python3 is Python 3.9.1" in machine.make("up")[1]
    machine.python("python3.12", "echo no-venv 3.12.1 /usr")
    assert "python3.12-venv" in machine.make("up")[1]
    machine.python("python3.14", fits("3.14.0"))
    assert machine.make("up")[0] == 0
    assert "3.14.0" in (machine.checkout / ".venv" / "bin" / "python").read_text()


@pytest.mark.parametrize(
    ("look", "said"), [("echo old 3.8.18 /usr", "is Python 3.8.18"), (None, "is no program")]
)
def test_a_python_that_was_named_is_the_only_one_asked(machine: Machine, look: str | None, said: str) -> None:
    machine.python("python3", fits())
    named = machine.python("mine", look) if look else machine.bin / "mine"
    code, shown = machine.make("up", f"PYTHON={named}")
    assert code != 0 and said in shown
    assert machine.installed == []


def test_up_installs_once_at_the_pinned_versions_and_again_when_what_is_wanted_changes(
    machine: Machine,
) -> None:
    machine.python("python3", fits())
    assert "gateway runs" in machine.make("up")[1]
    pins = "constraints.txt constraints.txt -m pip install"
    assert [
        call.startswith(pins) and call.endswith("--editable .[backends]") for call in machine.installed
    ] == [True]
    assert machine.make("up") == (0, "gateway runs\n")
    os.utime(machine.checkout / "constraints.txt")  # what a change of branch and back does
    assert machine.make("up") == (0, "gateway runs\n")
    with (machine.checkout / "constraints.txt").open("a") as file:
        file.write("# renewed\n")
    assert "Installing" in machine.make("up")[1]
    assert len(machine.installed) == 2


def test_test_brings_what_up_needs_and_up_does_not_bring_what_test_needs(machine: Machine) -> None:
    machine.python("python3", fits())
    assert machine.make("up")[0] == 0
    assert machine.make("test")[1].endswith("ruff runs\nmypy runs\npytest runs\n")
    assert machine.make("up") == (0, "gateway runs\n")
    assert [call.rpartition(" ")[2] for call in machine.installed] == [".[backends]", ".[test]"]


def test_the_newest_are_tested_without_the_pins_and_in_an_environment_of_their_own(machine: Machine) -> None:
    machine.python("python3", fits())
    assert machine.make("up")[0] == 0
    before = (machine.checkout / ".venv" / ".up").read_text()
    for _ in range(2):  # there may be newer ones by now
        code, shown = machine.make("test-newest", PIP_CONSTRAINT="mine.txt")
        assert (code, shown.endswith("ruff runs\nmypy runs\npytest runs\n")) == (0, True)
    assert all(call.startswith("  -m pip install") and "--upgrade" in call for call in machine.installed[1:])
    assert len(machine.installed) == 3
    assert (machine.checkout / ".venv" / ".up").read_text() == before


def gone(machine: Machine) -> None:
    (machine.checkout / ".venv" / "bin" / "python").unlink()


def dangling(machine: Machine) -> None:
    gone(machine)
    (machine.checkout / ".venv" / "bin" / "python").symlink_to("/nowhere/python3.12")


def broken(machine: Machine) -> None:
    (machine.checkout / ".venv" / "bin" / "python").write_text("#!/nowhere/python\n")


def old(machine: Machine) -> None:
    (machine.checkout / ".venv" / "bin" / "python").write_text(FAKE.format(look="echo old 3.10.13 /usr"))


def without_pip(machine: Machine) -> None:
    (machine.checkout / ".venv" / "bin" / "pip").unlink()


def moved(machine: Machine) -> None:
    there = machine.checkout.with_name("elsewhere")
    machine.checkout.rename(there)
    machine.checkout = there


def interrupted(machine: Machine) -> None:
    (machine.checkout / ".venv" / ".installing").touch()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (gone, "its Python is gone"),
        (dangling, "its Python is gone"),
        (broken, "its Python does not run"),
        (old, "it is of Python 3.10.13"),
        (without_pip, "it has no pip, or was moved or copied here"),
        (moved, "it has no pip, or was moved or copied here"),
        (interrupted, "its installation was interrupted"),
    ],
)
def test_an_environment_that_cannot_be_used_is_replaced_and_that_is_said(
    machine: Machine, spoil, why: str
) -> None:
    machine.python("python3", fits())
    assert machine.make("up")[0] == 0
    spoil(machine)
    code, shown = machine.make("up")
    assert code == 0, shown
    assert shown.startswith(f"Replacing .venv: {why}")
    assert shown.endswith("gateway runs\n")
    assert machine.make("up") == (0, "gateway runs\n")


def test_an_environment_of_another_python_than_the_named_one_is_replaced(machine: Machine) -> None:
    machine.python("python3", fits("3.12.4"))
    assert machine.make("up")[0] == 0
    same = machine.python("same", fits("3.12.4"))
    assert machine.make("up", f"PYTHON={same}") == (0, "gateway runs\n")
    other = machine.python("other", fits("3.13.1"))
    assert "Replacing .venv: it is of Python 3.12.4" in machine.make("up", f"PYTHON={other}")[1]
    assert machine.make("up") == (0, "gateway runs\n"), "which python3 would be found does not matter then"


def test_a_spoilt_environment_is_kept_when_no_python_could_make_a_new_one(machine: Machine) -> None:
    machine.python("python3", fits())
    assert machine.make("up")[0] == 0
    broken(machine)
    machine.python("python3", "echo old 3.10.13 /usr")
    code, shown = machine.make("up")
    assert code != 0 and "is Python 3.10.13" in shown
    assert (machine.checkout / ".venv" / "bin" / "pip").exists()


def test_a_failed_installation_leaves_no_stamp_and_the_next_one_begins_anew(machine: Machine) -> None:
    machine.python("python3", fits())
    assert machine.make("up")[0] == 0
    (machine.checkout / "constraints.txt").write_text("changed==1\n")
    code, shown = machine.make("up", NO_NETWORK="1")
    assert code != 0 and "error: the packages could not be installed" in shown
    assert not (machine.checkout / ".venv" / ".up").exists()
    assert machine.make("up")[1].startswith("Replacing .venv: its installation was interrupted")


def test_a_checkout_may_have_spaces_and_quotes_in_its_path(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "it's a $HOME of mine/check out")
    machine.python("python3", fits(base="/opt/with space"))
    assert machine.make("up")[1].endswith("gateway runs\n")
    assert machine.make("up") == (0, "gateway runs\n")


def test_a_file_in_the_way_is_not_removed(machine: Machine) -> None:
    machine.python("python3", fits())
    (machine.checkout / ".venv").write_text("mine")
    code, shown = machine.make("up")
    assert code != 0 and "error: .venv is in the way" in shown
    assert (machine.checkout / ".venv").read_text() == "mine"


def test_it_works_with_a_real_python_and_its_pip(machine: Machine) -> None:
    """As far as the registry, which is not asked."""
    python = Path(sys.base_prefix, "bin", f"python3.{sys.version_info[1]}")
    (machine.bin / "python3").symlink_to(python)
    code, shown = machine.make("up", PIP_NO_INDEX="1")
    assert code != 0
    assert shown.startswith("Installing the gateway")
    assert "error: the packages could not be installed" in shown
    assert (machine.checkout / ".venv" / "bin" / "pip").exists()


def test_help_names_every_command(machine: Machine) -> None:
    (machine.bin / "awk").symlink_to(shutil.which("awk") or "")
    shown = machine.make("help")[1]
    for name in ("up", "test", "test-newest", "lock", "lint", "unit", "bench", "clean"):
        assert re.search(rf"^  make {name} +\w", shown, re.MULTILINE)


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    named = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): str(pin.specifier) for pin in named}


def test_every_package_that_is_needed_is_pinned_to_one_version_and_no_registry_is_named() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text and "--" not in text
    assert all(re.fullmatch(r"==[\w.]+", version) for version in pins().values())
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert 'requires = ["setuptools' in pyproject and "setuptools" in pins()
    needed, waiting = set(), [("gateway", frozenset({"backends", "regex", "test"}))]
    while waiting:
        name, extras = waiting.pop()
        for line in metadata.requires(name) or ():
            asked = Requirement(line)
            wanted = asked.marker is None or any(
                asked.marker.evaluate({"extra": e}) for e in (extras or {""})
            )
            found = canonicalize_name(asked.name)
            if wanted and (found, frozenset(asked.extras)) not in needed and found != "gateway":
                needed.add((found, frozenset(asked.extras)))
                waiting.append((found, frozenset(asked.extras)))
    assert len(needed) > 40
    assert {name for name, _ in needed} - set(pins()) == set()
