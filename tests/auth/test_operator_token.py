"""The local token of operators: made at the first start, private, and followed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.auth.keys import KeysUnusable
from gateway.auth.operator_token import OperatorToken

pytestmark = pytest.mark.asyncio


def made(folder: Path) -> tuple[OperatorToken, str]:
    token = OperatorToken(folder / "operator.token")
    token.ensure()
    return token, token.path.read_text().strip()


async def test_it_is_made_once_private_and_long_and_is_the_same_after_a_restart(tmp_path: Path) -> None:
    token, text = made(tmp_path)
    assert re.fullmatch("gwop_[A-Za-z0-9_-]{43}", text)
    assert token.path.stat().st_mode & 0o777 == 0o600
    again, same = made(tmp_path)
    assert same == text and again.is_it(text) and token.is_it(text)
    for wrong in ("", text[:-1], text + "A", text.lower(), "gwop_\udcff", "gwop_" + "A" * 43):
        assert not token.is_it(wrong)
    assert text not in repr(vars(token))


async def test_a_file_that_is_deleted_is_made_again_with_another_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token, old = made(tmp_path)
    token.path.unlink()
    assert token.is_it(old), "nobody looked yet"
    await token.refresh()
    new = token.path.read_text().strip()
    assert new != old and token.is_it(new) and not token.is_it(old)
    assert old not in caplog.text and new not in caplog.text


async def test_a_file_that_is_put_there_counts(tmp_path: Path) -> None:
    token, old = made(tmp_path)
    new = tmp_path / "new"
    new.write_text("gwop_" + "b" * 43)
    new.chmod(0o600)
    new.replace(token.path)
    await token.refresh()
    assert token.is_it("gwop_" + "b" * 43) and not token.is_it(old)


@pytest.mark.parametrize(
    ("mode", "text", "reason"),
    [
        (0o640, "", "others may read or change"),
        (0o604, "", "others may read or change"),
        (0o602, "", "others may read or change"),
        (0o600, "gwop_short", "holds no token"),
        (0o600, "\n", "holds no token"),
        (0o600, "x" * 2000, "larger than"),
    ],
)
async def test_a_file_that_cannot_be_trusted_keeps_the_process_from_starting_and_later_lets_nobody_in(
    tmp_path: Path, mode: int, text: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    token, old = made(tmp_path)
    if text:
        token.path.write_text(text)
    token.path.chmod(mode)
    with pytest.raises(KeysUnusable, match=reason) as refused:
        OperatorToken(token.path).ensure()
    assert "a new one is made" in str(refused.value) and old not in str(refused.value)
    for _ in range(3):
        await token.refresh()
        assert not token.is_it(old)
    assert caplog.text.count("not taken any more") == 1 and old not in caplog.text
    token.path.unlink()
    await token.refresh()
    assert token.is_it(token.path.read_text().strip())


async def test_a_link_is_followed_and_one_to_nowhere_is_refused(tmp_path: Path) -> None:
    _, text = made(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "operator.token")
    token = OperatorToken(link)
    token.ensure()
    assert token.is_it(text)
    link.unlink()
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(KeysUnusable):
        OperatorToken(link).ensure()
