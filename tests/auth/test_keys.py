"""Keys on disk, and tokens that are signed with them."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.auth.keys import (
    KeysUnusable,
    ensure_secret,
    ensure_signing_key,
    issue,
    read_keys,
    signing_key,
)
from gateway.core.errors import Unauthenticated
from gateway.core.jwt.issuer import local_issuer
from gateway.core.jwt.verify import verify

RULE = local_issuer("")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ensure_signing_key(tmp_path / "keys.jwks")
    return tmp_path / "keys.jwks"


# --- the files -------------------------------------------------------------------------------------


def test_a_new_key_file_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys.jwks"
    before = os.umask(0)
    try:
        assert ensure_signing_key(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [p.name for p in path.parent.iterdir()] == ["keys.jwks"]
    assert signing_key(read_keys(path, RULE.algorithms)).algorithms[0] == "EdDSA"


def test_a_key_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.jwks"
    ensure_signing_key(path)
    before = path.read_bytes()
    assert not ensure_signing_key(path)
    assert path.read_bytes() == before


def test_processes_that_start_together_agree_on_one_key_file(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from gateway.auth.keys import ensure_signing_key, ensure_secret\n"
        "print('up', flush=True); sys.stdin.readline(); folder = pathlib.Path(sys.argv[1])\n"
        "made = ensure_signing_key(folder / 'keys.jwks'); secret = ensure_secret(folder / 'secret')\n"
        "print(int(made), (folder / 'keys.jwks').read_bytes().hex(), secret.hex())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=30)[0].split() for process in processes]
    assert sorted(made for made, _, _ in answers) == ["0", "0", "0", "1"]
    assert len({content for _, content, _ in answers}) == 1
    assert len({secret for _, _, secret in answers}) == 1


def test_a_secret_stays_the_same(tmp_path: Path) -> None:
    secret = ensure_secret(tmp_path / "s")
    assert len(secret) == 32
    assert ensure_secret(tmp_path / "s") == secret
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"c2hvcnQ=\n", base64.b64encode(b"x" * 31), b"!" * 44, b"\xff" * 44, b"a" * 43],
    ids=["empty", "blank", "short", "31 bytes", "junk", "bytes", "torn"],
)
def test_a_secret_that_is_none_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeysUnusable, match=f"{path}: it holds no secret of 32 bytes; remove it") as caught:
        ensure_secret(path)
    assert not content.strip() or repr(content.strip())[2:-1] not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_secret_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    ensure_secret(tmp_path / "s")
    (tmp_path / "s").chmod(mode)
    with pytest.raises(KeysUnusable, match="others may read or change"):
        ensure_secret(tmp_path / "s")


def test_a_secret_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with pytest.raises(KeysUnusable, match="it is a directory, and no regular file"):
        ensure_secret(tmp_path / "s")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_signing_keys_that_others_may_read_are_refused(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(KeysUnusable, match=f"chmod 600 {path}"):
        read_keys(path, RULE.algorithms)


def test_public_keys_may_be_readable_by_all(path: Path) -> None:
    document = json.loads(path.read_text())
    del document["keys"][0]["d"]
    path.write_text(json.dumps(document))
    path.chmod(0o644)
    with pytest.raises(KeysUnusable, match="no key can sign"):
        signing_key(read_keys(path, RULE.algorithms))


def test_a_key_to_sign_with_may_be_named(path: Path) -> None:
    keys = read_keys(path, RULE.algorithms)
    (key,) = keys
    assert signing_key(keys, key.kid or "") is key
    with pytest.raises(KeysUnusable, match="'other'"):
        signing_key(keys, "other")


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\xfe", b'{"keys": [{"kid": "a"}]}'])
def test_a_bad_key_file_is_named_and_its_content_is_not(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "keys.jwks"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeysUnusable, match=str(path)):
        read_keys(path, RULE.algorithms)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["FIFO", "directory"])
def test_what_is_no_regular_file_is_named_by_its_kind_and_not_waited_for(
    tmp_path: Path, make: Callable[[Path], None], request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.id
    make(tmp_path / "k")
    with pytest.raises(KeysUnusable, match=f"it is a {kind}"):
        read_keys(tmp_path / "k", RULE.algorithms)
    with pytest.raises(KeysUnusable, match=f"it is a {kind}"):
        ensure_secret(tmp_path / "k")


# --- issue -----------------------------------------------------------------------------------------


def test_an_issued_token_verifies(tmp_path: Path) -> None:
    path = tmp_path / "keys.jwks"
    ensure_signing_key(path)
    token = issue(path, RULE, "acme", "a b", "me", 60)
    who = verify(token, read_keys(path, RULE.algorithms), RULE, time.time())
    assert (who.tenant.value, who.subject, who.scope_text) == ("acme", "me", "a b")


@pytest.mark.parametrize(
    ("tenant", "scope", "subject"), [("Acme", "", "a"), ("acme", "a  b", "a"), ("acme", "", "")]
)
def test_a_token_that_the_gateway_would_refuse_is_not_issued(
    path: Path, tenant: str, scope: str, subject: str
) -> None:
    with pytest.raises(Unauthenticated):
        issue(path, RULE, tenant, scope, subject, 60)
