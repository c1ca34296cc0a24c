"""`gateway init` makes a folder in which `gateway up` works; the wheel is enough, and holds no more."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.cli import init, main
from gateway.core.routing.settings import json_schema
from tests.eventually import poll
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
MADE = {"gateway.conf", "routing.yaml", "routing.schema.json", "hello.py", ".gitignore", "var"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_is_made_with_config_keys_a_token_and_a_backend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.main(["init", "some/shop"]) == 0
    folder = tmp_path / "some" / "shop"
    assert names(folder) == MADE
    assert names(tmp_path) == {"some"} and names(tmp_path / "some") == {"shop"}
    for name, mode in (("var", 0o700), ("var/keys.jwks", 0o600), ("var/demo-token.header", 0o600)):
        assert stat.S_IMODE((folder / name).stat().st_mode) == mode
    assert os.access(folder / "hello.py", os.R_OK)
    said = capsys.readouterr().out
    assert "cd some/shop" in said and "gateway up" in said
    assert (folder / "var" / "demo-token.header").read_text().split()[-1] not in said
    monkeypatch.chdir(folder)
    assert main.main(["check"]) == 0, "the config is found without -c"
    assert main.main(["explain", "GET", "/hello/world"]) == 1  # there is no token


def test_the_folder_may_be_the_one_that_one_is_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".gitignore").write_text("mine")
    monkeypatch.chdir(tmp_path)
    assert main.main(["init"]) == 0
    assert names(tmp_path) == MADE | {"notes.txt"}
    assert (tmp_path / ".gitignore").read_text() == "mine"
    assert "cd " not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["gateway.conf", "routing.yaml", "hello.py", "routing.schema.json"])
def test_nothing_that_is_there_is_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / name).symlink_to("nowhere")  # the name is taken, whatever is behind it
    assert main.main(["init", str(tmp_path)]) == 1
    assert names(tmp_path) == {name}
    assert name in capsys.readouterr().err


@pytest.mark.parametrize("there", ["var/demo-token.header", "var/keys.jwks", "config/gateway.conf"])
def test_a_system_that_is_there_keeps_its_token_its_keys_and_its_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    """As of a checkout after `make up`: a new gateway.conf would be found before that in config/."""
    (tmp_path / there).parent.mkdir()
    (tmp_path / there).write_text("mine")
    monkeypatch.chdir(tmp_path)
    assert main.main(["init"]) == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / there]
    assert (tmp_path / there).read_text() == "mine"
    assert there.partition("/")[0] in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", " "])
def test_a_variable_that_is_not_set_is_not_taken_for_the_folder_one_is_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.main(["init", name]) == 1
    assert names(tmp_path) == set()
    assert "empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("/proc/x", "cannot make a gateway in /proc/x: nothing can be made there"),
        ("/proc/x/y", "/proc/x/y"),
        ("a\0b", "NUL"),
        ("x" * 300, "its name is too long"),
    ],
)
def test_a_folder_that_cannot_be_made_is_told_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.main(["init", name]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert said in told and "Errno" not in told and "embedded" not in told


@pytest.mark.parametrize("command", ["init", "check", "up", "explain GET /", "documents tenants"])
def test_a_folder_that_was_removed_below_ones_feet_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main.main(command.split()) == 1
    assert "was removed; cd to one that is there" in " ".join(capsys.readouterr().err.split())


def test_a_file_where_the_folder_should_be_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shop").write_text("mine")
    assert main.main(["init", str(tmp_path / "shop")]) == 1
    assert "shop" in capsys.readouterr().err


def test_its_schema_is_that_of_this_version(tmp_path: Path) -> None:
    written = dict(init.files())
    assert '"front_page"' in written["routing.schema.json"]
    assert str(json_schema()["$schema"]) in written["routing.schema.json"]


# --- the wheel ---


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but what the wheel installs. Its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("gateway", "backends"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "-q"]
    build = [*pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", str(folder), str(source)]
    ran = subprocess.run(build, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        held = set(file.namelist())
    assert {name.partition("/")[0] for name in held} == {"gateway", "gateway-0.1.0.dist-info"}
    assert {"gateway/py.typed", "gateway/cli/template/hello.py", "gateway/documents/README.md"} <= held
    target = folder / "site"
    install = [
        *pip,
        "install",
        "--no-deps",
        "--no-index",
        "--no-compile",
        "--target",
        str(target),
        str(wheel),
    ]
    ran = subprocess.run(install, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    shutil.rmtree(source)
    return target


@contextmanager
def running(site: Path, folder: Path) -> Iterator[Path]:
    """`gateway up` in the folder; gives the file that holds what it printed."""
    said = folder / "var" / "said"
    with said.open("wb") as file:
        process = subprocess.Popen(
            [site / "bin" / "gateway", "up"], cwd=folder, env=environment(site), stdout=file, stderr=file
        )
    try:
        poll(lambda: "Ctrl-C stops" in said.read_text() or process.poll() is not None, said.read_text)
        assert process.poll() is None, said.read_text()
        yield said
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def environment(site: Path) -> dict[str, str]:
    # Each process would compile all of the gateway where a shell says that no bytecode is written.
    return {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": ""}


@pytest.mark.whole
def test_who_has_only_the_wheel_gets_a_gateway_that_answers(installed: Path, tmp_path: Path) -> None:
    def gateway(*arguments: str, folder: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [installed / "bin" / "gateway", *arguments],
            cwd=folder, env=environment(installed), capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    made = gateway("init", "shop")
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "shop"
    where = "import gateway; print(gateway.__file__)"
    ran = subprocess.run(
        [sys.executable, "-c", where], cwd=folder, env=environment(installed), capture_output=True, text=True
    )
    assert ran.stdout.startswith(str(installed)), "it is the wheel's, not that of the project"
    config = folder / "gateway.conf"
    public, admin = free_port(), free_port()
    text = config.read_text().replace(":8080", f":{public}").replace(":8081", f":{admin}")
    config.write_text(text.replace("[gateway]", "[gateway]\nworkers = 1"))
    before = names(folder)
    with running(installed, folder) as said:
        (advised,) = re.findall(r"^curl .*$", made.stdout, re.MULTILINE)
        curls = [
            advised.replace(":8080", f":{public}"),
            *re.findall(r"^curl .*$", said.read_text(), re.MULTILINE),
        ]
        assert len(curls) == 3
        for curl in curls:
            words = [*shlex.split(curl), "-sS", "-w", "\n%{http_code}"]
            ran = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=30)
            body, _, status = ran.stdout.rpartition("\n")
            assert status == "200", (curl, ran)
            assert '"acme"' in body or '"items"' in body
        with urllib.request.urlopen(f"http://127.0.0.1:{public}/", timeout=30) as answer:
            assert b"demo-token.header" in answer.read()
        token = gateway("token", "--tenant", "acme", "--scope", "hello:read", folder=folder).stdout.strip()
        words = [
            "curl",
            "-sS",
            "-H",
            f"Authorization: Bearer {token}",
            f"http://127.0.0.1:{public}/hello/you",
        ]
        ran = subprocess.run(words, capture_output=True, text=True, timeout=30)
        assert '"hello": "you"' in ran.stdout
    assert names(folder) == before, "nothing outside var/ is written"


@pytest.mark.parametrize("on_path", [True, False])
def test_the_command_that_is_printed_runs_in_the_shell_that_it_is_pasted_into(
    tmp_path: Path, on_path: bool
) -> None:
    """A newcomer's PATH does not have the environment; the name alone would be "command not found"."""
    gateway = Path(sys.executable).with_name("gateway")
    environment = {"PATH": f"{gateway.parent}:/usr/bin:/bin" if on_path else "/usr/bin:/bin"}
    run = {"env": environment, "cwd": tmp_path, "capture_output": True, "text": True, "check": True}
    said = subprocess.run([str(gateway), "init", "my [shop]"], **run).stdout
    change, command = re.findall(r"^(cd .*)\n(.* up)$", said, re.MULTILINE)[0]
    assert (command == "gateway up") is on_path
    ran = subprocess.run(["sh", "-c", f"{change}; {command.removesuffix('up')} --version"], **run).stdout
    assert ran.startswith("gateway ")
