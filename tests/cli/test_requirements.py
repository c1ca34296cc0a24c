"""What is used of other packages beyond their public interface is listed, pinned and checked at the start."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import gateway
from gateway.cli import requirements
from gateway.cli.requirements import NEEDS, Mismatch, Need, mismatches

ROOT = Path(__file__).parents[2]
_private = re.compile(r"_[A-Za-z]\w*").fullmatch
# Of the standard library, and documented there.
_DOCUMENTED = {"_exit", "_replace", "_asdict", "_fields"}


def modules() -> list[Any]:
    found = pkgutil.walk_packages(gateway.__path__, "gateway.")
    return [importlib.import_module(info.name) for info in found if info.name != "gateway.__main__"]


def foreign(cls: type) -> list[type]:
    """The bases of a class of ours that other packages made."""
    return [
        b for b in cls.__mro__ if b.__module__.partition(".")[0] not in sys.stdlib_module_names | {"gateway"}
    ]


def named(tree: ast.AST) -> set[str]:
    """Every private name that the source reads, sets or defines as an attribute or a method."""
    found = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found |= {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    return {name for name in found if _private(name)}


def inherited() -> Iterator[tuple[type, str]]:
    """The base of another package and the name, for each private one that a class of ours shares with it."""
    for module in modules():
        for cls in vars(module).values():
            if not inspect.isclass(cls) or cls.__module__ != module.__name__ or not (bases := foreign(cls)):
                continue
            for name in named(ast.parse(inspect.getsource(cls).lstrip())):
                if requirements._has(bases[0], name):
                    yield bases[0], name


@cache
def trees() -> list[ast.Module]:
    return [ast.parse(path.read_text()) for path in sorted((ROOT / "gateway").rglob("*.py"))]


def imported() -> set[tuple[str, str]]:
    """Private names that are imported from other packages."""
    return {
        (node.module or "", alias.name)
        for tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and not (node.module or "gateway").startswith("gateway")
        for alias in node.names
        if _private(alias.name)
    }


def resolved(need: Need) -> type:
    module, _, name = need.used.partition(":")
    found: type = getattr(importlib.import_module(module), name)
    return found


def test_what_is_inherited_of_others_is_listed_and_nothing_else_is() -> None:
    listed = {(resolved(need), name) for need in NEEDS for name in need.names}
    assert set(inherited()) == listed


def test_private_names_that_are_imported_are_listed() -> None:
    listed = {tuple(need.used.split(":")) for need in NEEDS if _private(need.used.partition(":")[2])}
    assert imported() == listed


def test_no_private_attribute_is_read_that_is_neither_ours_nor_listed() -> None:
    ours: set[str] = set(_DOCUMENTED)
    read: set[str] = set()
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                (ours if isinstance(node.ctx, ast.Store) else read).add(node.attr)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                ours.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                ours.add(node.id)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                ours.add(node.value)  # __slots__
    listed = {name for need in NEEDS for name in need.names}
    assert {name for name in read if _private(name)} <= ours | listed


def test_the_versions_are_those_that_are_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    constraints = (ROOT / "constraints.txt").read_text().split()
    for need in NEEDS:
        assert f"{need.package}=={need.version}" in project["dependencies"]
        assert f"{need.package}=={need.version}" in constraints


def test_the_installed_packages_fit() -> None:
    assert list(mismatches()) == []
    assert requirements.fatal_mismatch() == ""


HAS, LACKS = "aiohttp.web_protocol:RequestHandler", "aiohttp.web_protocol:_NeverThere"


@pytest.mark.parametrize(
    ("need", "fatal", "parts"),
    [
        (Need("aiohttp", "3.14.5", HAS, ("_nothing", "_waiter")), True, ["RequestHandler has no _nothing."]),
        (Need("aiohttp", "3.14.5", LACKS, ()), True, ["_NeverThere cannot be had"]),
        (Need("aiohttp", "3.14.5", "aiohttp.gone:X", ()), True, ["aiohttp.gone.X cannot be had"]),
        (Need("aiohttp", "3.13.0", HAS, ()), True, ["3.14.5 is installed, and 3.13.0 is wanted"]),
        (Need("aiohttp", "3.14.0", HAS, ()), False, ["3.14.5 is installed, and 3.14.0 is wanted"]),
        (Need("aiohttp", "3.14.0", HAS, ("_nothing",)), True, ["3.14.0 is wanted", "has no _nothing"]),
        (
            Need("no-such-package", "1.0", "x:Y", ()),
            True,
            ["no-such-package is not installed; 1.0 is wanted."],
        ),
    ],
)
def test_a_mismatch_names_the_package_both_versions_and_what_is_missing(
    need: Need, fatal: bool, parts: list[str]
) -> None:
    (mismatch,) = mismatches([need])
    assert mismatch == Mismatch(mismatch.text, need.package, need.version, fatal)
    for part in parts:
        assert part in mismatch.text


def test_attributes_that_only_init_makes_are_found() -> None:
    class Base:
        def __init__(self) -> None:
            self._made = 1

    class Below(Base):
        pass

    assert requirements._has(Below, "_made") and not requirements._has(Below, "_other")


def run(folder: Path, version: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own that finds this version of aiohttp installed."""
    info = folder / f"aiohttp-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: aiohttp\nVersion: {version}\n")
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"}, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip


def test_with_another_version_the_command_says_what_to_install_and_exits_78(tmp_path: Path) -> None:
    ran = run(tmp_path, "3.99.0", "serve", "-c", str(ROOT / "config" / "gateway.conf"))
    assert (ran.returncode, ran.stdout) == (78, "")
    first, last = ran.stderr.splitlines()
    assert first == "gateway: aiohttp 3.99.0 is installed, and 3.14.5 is wanted."
    assert last == f"hint: {sys.executable} -m pip install 'aiohttp==3.14.5'"


def test_another_patch_that_has_all_is_a_warning(tmp_path: Path) -> None:
    ran = run(tmp_path, "3.14.99", "schema")
    assert ran.returncode == 0
    assert ran.stderr == "gateway: warning: aiohttp 3.14.99 is installed, and 3.14.5 is wanted.\n"
