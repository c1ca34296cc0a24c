"""Which listeners would take the same port."""

from __future__ import annotations

import pytest

from gateway.core.listeners import clash, text
from gateway.core.problems import Problems
from gateway.core.process import parse_process


@pytest.mark.parametrize(
    ("one", "other", "clashes"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "::", True),
        ("::1", "::", True),
        ("0.0.0.0", "::", True),
        ("localhost", "127.0.0.1", True),
        ("LOCALHOST.", "::1", True),
        ("localhost", "0.0.0.0", True),
        ("gateway.internal", "0.0.0.0", True),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
        ("0:0:0:0:0:0:0:1", "::1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("::1", "0.0.0.0", False),
        ("::1", "127.0.0.1", False),
        ("a.internal", "b.internal", False),
    ],
)
def test_the_same_port_clashes_where_one_host_covers_the_other(one: str, other: str, clashes: bool) -> None:
    assert clash((one, 8080), (other, 8080)) is clashes
    assert clash((other, 8080), (one, 8080)) is clashes
    assert not clash((one, 8080), (other, 8081))
    assert not clash((one, 0), (other, 0))


def test_an_address_is_told_as_it_is_written() -> None:
    assert text(("::1", 80)) == "[::1]:80"
    assert text(("localhost", 80)) == "localhost:80"


def problems(**sections: dict[str, str]) -> list[tuple[str, str, str]]:
    with pytest.raises(Problems) as caught:
        parse_process(sections, "/conf")
    return [(problem.where, problem.reason, problem.mend) for problem in caught.value.items]


def test_the_admin_listener_cannot_have_the_public_one_s_port() -> None:
    (found,) = problems(gateway={"listen": "0.0.0.0:8080"}, admin={"listen": "127.0.0.1:9000 [::]:8080"})
    assert found[1] == "[::]:8080 is taken by [gateway] listen = 0.0.0.0:8080"
    assert "[admin]" in found[0]
    assert "another port" in found[2]


def test_an_address_that_is_there_twice_is_told() -> None:
    (found,) = problems(gateway={"listen": "127.0.0.1:8080, localhost:8080"})
    assert found[1] == "localhost:8080 is taken by 127.0.0.1:8080 beside it"
