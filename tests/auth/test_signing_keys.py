"""Keys that the gateway signs with: they follow each other, and nobody is refused while they do."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.auth.keys import KeysUnusable, new_signing_key
from gateway.auth.signing_keys import SigningKeys

NOW = 1_800_000_000.0
OVERLAP = 600.0


@pytest.fixture
def keys(tmp_path: Path) -> SigningKeys:
    made = SigningKeys(tmp_path / "identity.jwks")
    made.ensure()
    return made


def kids(keys: SigningKeys, now: float) -> list[str]:
    return [key["kid"] for key in keys.public(now)]


def written(keys: SigningKeys) -> list[str]:
    return [entry["kid"] for entry in json.loads(keys.path.read_text())["keys"]]


def test_a_file_is_made_for_its_owner_alone_and_stays(keys: SigningKeys) -> None:
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    again = SigningKeys(keys.path)
    again.ensure()
    assert again.current(NOW).kid == keys.current(NOW).kid


def test_what_is_published_has_no_private_half(keys: SigningKeys) -> None:
    (public,) = keys.public(NOW)
    assert sorted(public) == ["alg", "crv", "kid", "kty", "use", "x"]
    assert (public["kty"], public["alg"], public["use"]) == ("OKP", "EdDSA", "sig")


def test_secrets_and_keys_of_others_are_not_published_and_not_retired(keys: SigningKeys) -> None:
    mine = new_signing_key()
    theirs = {name: value for name, value in new_signing_key().items() if name != "d"}
    secret = {"kty": "oct", "kid": "secret", "alg": "HS256", "k": "c2VjcmV0" * 6}
    keys.path.write_text(json.dumps({"keys": [secret, mine, theirs]}))
    keys.load()
    assert kids(keys, NOW) == [mine["kid"]]
    new = keys.rotate(NOW, OVERLAP).kid
    keys.rotate(NOW + 3 * OVERLAP, OVERLAP)
    assert written(keys)[:3] == ["secret", theirs["kid"], new]


def test_a_new_key_is_published_before_it_signs_and_the_old_one_until_its_tokens_are_over(
    keys: SigningKeys,
) -> None:
    old = keys.current(NOW).kid
    new = keys.rotate(NOW, OVERLAP).kid
    assert kids(keys, NOW) == [old, new]
    assert keys.current(NOW + OVERLAP - 1).kid == old
    assert keys.current(NOW + OVERLAP).kid == new
    assert kids(keys, NOW + 2 * OVERLAP - 1) == [old, new]
    assert kids(keys, NOW + 2 * OVERLAP) == [new]


def test_two_rotations_in_a_row_leave_no_moment_without_a_key(keys: SigningKeys) -> None:
    keys.rotate(NOW, OVERLAP)
    keys.rotate(NOW + 10, OVERLAP)
    for second in range(0, 3 * int(OVERLAP), 5):
        key = keys.current(NOW + second)
        assert key.kid in kids(keys, NOW + second)


def test_a_rotation_with_a_shorter_overlap_takes_the_place_of_a_key_not_in_use_yet(keys: SigningKeys) -> None:
    old = keys.current(NOW).kid
    waiting = keys.rotate(NOW, OVERLAP).kid
    done = keys.rotate(NOW + 10, 0.0)
    assert (done.before, done.replaced) == ((old,), (waiting,))
    assert written(keys) == [done.kid] and keys.current(NOW + OVERLAP).kid == done.kid


def test_what_has_retired_leaves_the_file_with_the_next_rotation(keys: SigningKeys) -> None:
    old = keys.current(NOW).kid
    new = keys.rotate(NOW, OVERLAP).kid
    newer = keys.rotate(NOW + 3 * OVERLAP, OVERLAP).kid
    assert old not in written(keys)
    assert written(keys) == [new, newer]
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600


def test_of_rotations_at_the_same_time_none_is_lost(keys: SigningKeys) -> None:
    def rotate(number: int) -> list[str]:
        return [SigningKeys(keys.path).rotate(NOW, OVERLAP).kid for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        made = [kid for some in pool.map(rotate, range(4)) for kid in some]
    assert set(written(keys)) > set(made) and len(set(made)) == 20


async def test_another_process_has_the_new_key_and_keeps_the_good_ones_when_the_file_breaks(
    keys: SigningKeys, caplog: pytest.LogCaptureFixture
) -> None:
    other = SigningKeys(keys.path)
    other.load()
    assert not await other.reload_if_changed()
    new = keys.rotate(NOW, OVERLAP).kid
    assert await other.reload_if_changed()
    assert new in kids(other, NOW)
    keys.path.write_text("{")
    assert not await other.reload_if_changed()
    assert not await other.reload_if_changed()
    assert new in kids(other, NOW)
    assert caplog.text.count("The last good signing keys stay in use") == 1


def test_a_file_without_a_key_that_may_sign_says_so(keys: SigningKeys) -> None:
    keys.path.write_text(json.dumps({"keys": [{**new_signing_key(), "gw_use_after": NOW + 60}]}))
    keys.load()
    with pytest.raises(KeysUnusable, match=r"identity\.jwks: none of its keys can sign now"):
        keys.current(NOW)


def test_a_file_that_others_may_read_is_refused(keys: SigningKeys) -> None:
    keys.path.chmod(0o644)
    with pytest.raises(KeysUnusable, match="others may read it"):
        keys.load()
