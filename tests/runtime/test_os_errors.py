"""Why a program did not start is told by its cause: the kernel says No such file for most of them."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path

import pytest

from gateway.runtime.os_errors import explain_start_failure


def told(program: str, folder: Path, path: str = "/usr/bin:/bin") -> str:
    """What is told when it was run; in fact, for it is the kernel that has to refuse it."""
    try:
        subprocess.run([program], cwd=folder, env={"PATH": path}, check=False, capture_output=True)
    except OSError as error:
        return explain_start_failure(program, str(folder), path, error)
    raise AssertionError("it ran")


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (b"#!/no/such/python\nx\n", 0o755, "the interpreter '/no/such/python', which is not there"),
        (b"#! /no/such/python -u\n", 0o755, "the interpreter '/no/such/python', which is not there"),
        (b"#!/bin/sh\r\nx\r\n", 0o755, "carriage return"),
        (b"#!/etc\n", 0o755, "the interpreter '/etc', which this user cannot execute"),
        (b"#!\n", 0o755, "names no interpreter"),
        (b"print(1)\n", 0o755, "its first line names no interpreter, such as #!/bin/sh"),
        (b"", 0o755, "no program for this machine"),
        (b"#!/bin/sh\n", 0o644, "not executable"),
    ],
)
def test_a_script_that_does_not_start_is_told_with_what_is_wrong_with_it(
    tmp_path: Path, content: bytes, mode: int, reason: str
) -> None:
    script = tmp_path / "x.sh"
    script.write_bytes(content)
    script.chmod(mode)
    for program in ("./x.sh", str(script)):
        assert reason in told(program, tmp_path)
    assert reason in told("x.sh", tmp_path, f"{tmp_path}:/bin") or mode == 0o644


def test_what_is_not_there_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    assert told("./none", tmp_path) == "there is no such program"
    assert told("none-such", tmp_path) == "there is no such program on the PATH (/usr/bin:/bin)"
    assert told("./link", tmp_path) == "it is a link to what is not there"
    assert told("./folder", tmp_path) == "it is no file, and so no program"
    no_descriptors = OSError(errno.EMFILE, "x")
    assert "ulimit" in explain_start_failure("ls", "/", "/bin", no_descriptors), "it is not at fault"
    assert explain_start_failure("ls", "/", "/bin", OSError("s.sock is in the way")) == "s.sock is in the way"
    assert told("ls", tmp_path / "gone") == f"the folder {tmp_path / 'gone'} is not there, or is none"
