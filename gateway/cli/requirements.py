"""Private names of other packages that the gateway uses, and whether the installed versions have them.

Checked before anything else is imported: a package of another version ends the start with one clear text,
not a request with an AttributeError. A test derives the names from the classes that inherit, so the list is
complete, and shrinks when a use is gone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module, metadata

EXIT_CODE = 78  # sysexits(3), EX_CONFIG
PYTHON = (3, 11)


@dataclass(frozen=True)
class Need:
    """What is needed of a package. version: as pyproject.toml pins it. used: a class (`module:name`). names:
    of its attributes, including those that instances get in `__init__`."""

    package: str
    version: str
    used: str
    names: tuple[str, ...]


NEEDS = (
    Need("aiohttp", "3.14.5", "aiohttp.web_response:StreamResponse", ("_keep_alive",)),
    Need("aiohttp-cors", "0.8.1", "aiohttp_cors:ResourceOptions", ()),
    Need("asab", "25.15", "asab:Application", ("_stop_event",)),
    Need("asab", "25.15", "asab.web:WebContainer", ("_start", "_stop")),
)


@dataclass(frozen=True)
class Mismatch:
    """What is wrong with an installed package. fatal: the gateway cannot run with it."""

    text: str
    package: str
    wanted: str
    fatal: bool = True


def mismatches(needs: Iterable[Need] = NEEDS, *, by_version: bool = False) -> Iterator[Mismatch]:
    """One for each package that is missing, of another version, or lacks what is used of it. by_version:
    what has the version that is wanted is believed to have all, for importing it takes half a second."""
    by_package: dict[str, list[Need]] = {}
    for need in needs:
        by_package.setdefault(need.package, []).append(need)
    for package, its_needs in by_package.items():
        wanted = its_needs[0].version
        try:
            found = metadata.version(package)
        except metadata.PackageNotFoundError:
            yield Mismatch(f"{package} is not installed; {wanted} is wanted.", package, wanted)
            continue
        if by_version and found == wanted:
            continue
        missing = [text for need in its_needs for text in _missing(need)]
        if not missing and found == wanted:
            continue
        said = f"{package} {found} is installed, and {wanted} is wanted."
        fatal = bool(missing) or found.split(".")[:2] != wanted.split(".")[:2]
        yield Mismatch(" ".join([said, *missing]), package, wanted, fatal)


def _missing(need: Need) -> Iterator[str]:
    module, _, name = need.used.partition(":")
    try:
        used = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        yield f"{module}.{name} cannot be had ({error})."
        return
    lacks = [name for name in need.names if not _has(used, name)]
    if lacks:
        yield f"{module}.{name} has no {', '.join(lacks)}."


def _has(used: type, name: str) -> bool:
    if hasattr(used, name):
        return True
    made = (getattr(vars(base).get("__init__"), "__code__", None) for base in used.__mro__)
    return any(name in code.co_names for code in made if code is not None)


def fatal_mismatch(needs: Iterable[Need] = NEEDS, *, by_version: bool = False) -> str:
    """Why the gateway cannot run with this Python and these packages, with a hint; "" when it can. Mismatches
    that may be harmless are warnings on standard error. by_version: as in `mismatches`."""
    if sys.version_info < PYTHON:
        this, oldest = (".".join(map(str, version[:3])) for version in (sys.version_info, PYTHON))
        return f"gateway: this is Python {this}, and {oldest} or newer is wanted. Make an environment of it."
    found = list(mismatches(needs, by_version=by_version))
    fatal = [mismatch for mismatch in found if mismatch.fatal]
    if not fatal:
        for mismatch in found:
            sys.stderr.write(f"gateway: warning: {mismatch.text}\n")
        return ""
    wanted = " ".join(f"'{mismatch.package}=={mismatch.wanted}'" for mismatch in found)
    lines = [f"gateway: {mismatch.text}" for mismatch in found]
    return "\n".join([*lines, f"hint: {sys.executable} -m pip install {wanted}"])
