"""What gateway.conf names and cannot be opened: the message has the key, the path, the reason and a hint."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.auth.keys import KeysUnusable
from gateway.config.ports import ConfigRefused
from gateway.core.errors import StoreUnavailable
from gateway.setting_errors import SettingUnusable, named_by
from tests.harness import running


def a_file(path: Path) -> None:
    path.write_text("")


def a_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("setting", "field", "value", "make", "reason", "hint"),
    [
        ("[log] access", "access_log", "{}", a_folder, "it is a folder", "name a file"),
        ("[log] access", "access_log", "{}/a.log", a_file, "is a file", "name another folder"),
        ("[log] access", "access_log", "{}/b/a.log", a_file, "is a file", "name another folder"),
        ("[gateway] data", "data", "{}", a_file, "is a file", "name another folder"),
        ("[gateway] data", "data", "{}/data", a_file, "is a file", "name another folder"),
        ("[tokens] keys", "keys", "{}", a_folder, "it is a directory", "name a file"),
        ("[tokens] keys", "keys", "{}/keys", a_file, "is a file", "name another folder"),
        ("[store] uri", "store_uri", "sqlite:{}", a_file, "cannot be used", "must be a folder"),
    ],
)
async def test_each_path_of_the_process_config_that_cannot_be_used_is_told_with_its_key(
    tmp_path: Path,
    setting: str,
    field: str,
    value: str,
    make: Callable[[Path], None],
    reason: str,
    hint: str,
) -> None:
    wrong = tmp_path / "wrong"
    make(wrong)
    named = {field: value.format(wrong), "path": "etc/gateway.conf"}
    with pytest.raises((OSError, KeysUnusable, StoreUnavailable)) as caught:
        async with running(tmp_path, {"version": 1}, **named):
            pass
    told = str(caught.value)
    assert told.startswith(f"{setting} in etc/gateway.conf: ")
    assert value.format(wrong).removeprefix("sqlite:") in told
    assert reason in told
    assert hint in told
    assert "Errno" not in told


@pytest.mark.parametrize(
    ("number", "reason", "hint"),
    [
        (errno.ENOSPC, "no space is left", "make room"),
        (errno.EDQUOT, "quota", "make room"),
        (errno.EROFS, "read-only", "mount it"),
        (errno.EACCES, "permission denied", "let the user with id"),
        (errno.EIO, "", "look at its disk"),
    ],
)
def test_a_fault_of_the_disk_is_told_with_the_key_that_names_the_place(
    number: int, reason: str, hint: str
) -> None:
    with pytest.raises(SettingUnusable) as caught, named_by("[log] access", "g.conf", "/var/log/access.log"):
        raise OSError(number, "as the system says it")
    told = str(caught.value)
    assert told.startswith("[log] access in g.conf: /var/log/access.log: ")
    assert reason in told
    assert hint in told
    assert "Errno" not in told


def test_an_error_that_has_words_of_its_own_keeps_its_class() -> None:
    class InUse(OSError):
        pass

    with pytest.raises(InUse, match=r"^in use$"), named_by("[gateway] data", "g.conf", "/data"):
        raise InUse("in use")


async def test_a_routing_config_that_cannot_be_read_is_told_with_the_key_that_names_it(
    tmp_path: Path,
) -> None:
    missing = tmp_path / "missing.yaml"
    with pytest.raises(ConfigRefused) as caught:
        async with running(tmp_path, {"version": 1}, routing=str(missing), path="etc/gateway.conf"):
            pass
    (problem,) = caught.value.problems
    assert caught.value.path == missing
    assert "[gateway] routing in etc/gateway.conf" in problem.hint


async def test_a_problem_inside_the_routing_config_is_told_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigRefused) as caught:
        async with running(tmp_path, {"version": 1, "rotues": []}):
            pass
    (problem,) = caught.value.problems
    assert "[gateway] routing" not in problem.hint
