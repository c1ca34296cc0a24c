"""Which listeners would take the same port."""

from __future__ import annotations

import pytest

from gateway.core.process import listeners
from gateway.core.process.listeners import clash, parse, text
from gateway.core.process.settings import parse_process
from gateway.core.routing.problems import Problems, Wrong


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
        ("*", "127.0.0.1", True),
        ("*", "0.0.0.0", True),
        ("*", "::", True),
        ("[*]", "gateway.internal", True),
        ("0", "127.0.0.1", True),
        ("127.1", "127.0.0.1", True),
        ("0x7f.1", "localhost", True),
        ("0177.0.0.1", "127.0.0.1", True),
        ("2130706433", "127.0.0.1", True),
        ("::ffff:0.0.0.0", "127.0.0.1", True),
        ("::1%lo", "::1", True),
        ("demo.localhost", "127.0.0.1", True),
        ("fe80::1%eth0", "fe80::1%eth1", False),
        ("*", "::1", False),
        ("127.1", "127.0.0.2", False),
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


@pytest.mark.parametrize(
    ("entry", "listen"),
    [
        ("*:80", ("0.0.0.0", 80)),
        ("0:80", ("0.0.0.0", 80)),
        ("127.1:80", ("127.0.0.1", 80)),
        ("1.2.515:80", ("1.2.2.3", 80)),
        ("[::1]:80", ("::1", 80)),
        ("[::ffff:10.0.0.1]:80", ("10.0.0.1", 80)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
        ("::1:80", ("::1", 80)),
        ("Gateway_1.Internal.:0", ("gateway_1.internal", 0)),
        ("gäteway.example:65535", ("gäteway.example", 65535)),
    ],
)
def test_an_entry_is_read_in_its_one_spelling(entry: str, listen: tuple[str, int]) -> None:
    assert parse(entry) == listen
    assert parse(text(listen)) == listen


@pytest.mark.parametrize(
    ("entry", "fault", "meant"),
    [
        ("http://127.0.0.1:8080", "http:// is no part", "127.0.0.1:8080"),
        ("tcp://0.0.0.0:80/", "tcp:// is no part", "0.0.0.0:80"),
        ("http://user:s3cret@10.0.0.1:80", "http:// is no part", "10.0.0.1:80"),
        ("127.0.0.1:80/x", "a path", "127.0.0.1:80"),
        ("unix:/run/g.sock", "of TCP", None),
        ("/run/g.sock", "of TCP", None),
        ("$HOST:80", "variables", None),
        ("${HOST}:80", "variables", None),
        ("[]:80", "lacks the host", "127.0.0.1:80"),
        (":80", "lacks the host", "127.0.0.1:80"),
        ("8080", "lacks the host", "127.0.0.1:8080"),
        ("localhost", "lacks the port", "localhost:8080"),
        ("127.0.0.1", "lacks the port", "127.0.0.1:8080"),
        ("fd00::7", "lacks the port", "[fd00::7]:8080"),
        ("[::1]", "lacks the port", "[::1]:8080"),
        ("h:", "its port", None),
        ("h:x", "its port", None),
        ("h:65536", "its port", None),
        ("h:-1", "its port", None),
        ("h:٨٠", "its port", None),
        (f"h:{'9' * 5000}", "its port", None),
        ("256.1.1.1:80", "neither an IP address nor a name", None),
        ("1.2.3.4.5:80", "neither an IP address nor a name", None),
        ("host.08:80", "neither an IP address nor a name", None),
        ("[::1:80", "bracket", None),
        ("::1]:80", "bracket", None),
        ("[:::1]:80", "neither", None),
        ("[1.2.3.4]:80", "neither", None),
        ("a..b:80", "neither", None),
        ("-a:80", "neither", None),
        ("a@b:80", "neither", "b:80"),
        (f"{'a' * 64}:80", "neither", None),
        ("[fe80::1]:80", "needs its interface", None),
        ("*.example:80", "neither", None),
        ("%HOST%:80", "neither", None),
    ],
)
def test_what_could_never_be_listened_on_is_told_with_what_is_meant(
    entry: str, fault: str, meant: str | None
) -> None:
    with pytest.raises(Wrong) as caught:
        parse(entry)
    assert fault in caught.value.reason
    assert entry not in caught.value.reason
    assert caught.value.example() == meant


def test_the_hint_is_told_with_the_key_and_no_password_is() -> None:
    entries = "http://127.0.0.1:8080 http://user:s3cret@10.0.0.1:80 256.1.1.1:80"
    found = problems(gateway={"listen": entries})
    assert [where for where, _, _ in found] == ["[gateway].listen"] * 3
    assert [hint for _, _, hint in found] == [
        "write 127.0.0.1:8080", "write 10.0.0.1:80", "write host:port, as 127.0.0.1:8080"
    ]  # fmt: skip
    assert "s3cret" not in repr(found)


def test_an_address_is_told_as_it_is_written() -> None:
    assert text(("::1", 80)) == "[::1]:80"
    assert text(("localhost", 80)) == "localhost:80"


def problems(**sections: dict[str, str]) -> list[tuple[str, str, str]]:
    with pytest.raises(Problems) as caught:
        parse_process(sections, "/conf")
    return [(problem.where, problem.reason, problem.hint) for problem in caught.value.items]


def test_the_admin_listener_cannot_have_the_public_one_s_port() -> None:
    (found,) = problems(gateway={"listen": "0.0.0.0:8080"}, admin={"listen": "127.0.0.1:9000 [::]:8080"})
    assert found[1] == "[::]:8080 is taken by [gateway] listen = 0.0.0.0:8080"
    assert "[admin]" in found[0]
    assert "another port, such as [::]:8081" in found[2]


@pytest.mark.parametrize(
    ("public", "admin", "where", "hint"),
    [
        ("127.0.0.1:8081", None, "[gateway].listen", "127.0.0.1:8082"),
        ("127.0.0.1:8081 127.0.0.1:8082", None, "[gateway].listen", "127.0.0.1:8083"),
        ("0.0.0.0:8081", None, "[gateway].listen", "0.0.0.0:8082"),
        ("127.0.0.1:8081", "127.0.0.1:8081", "[admin].listen", "127.0.0.1:8082"),
        ("127.0.0.1:9000", "0.0.0.0:9000", "[admin].listen", "0.0.0.0:9001"),
    ],
)
def test_the_port_that_is_proposed_for_one_that_is_taken_is_free_and_stands_where_it_was_written(
    public: str, admin: str | None, where: str, hint: str
) -> None:
    more = {"admin": {"listen": admin}} if admin is not None else {}
    ((place, _, proposed),) = problems(gateway={"listen": public}, **more)
    assert place == where
    assert f"such as {hint}" in proposed
    for word in proposed.replace(",", " ").split():  # none of what is proposed is taken
        assert word not in public.split() and word != admin


def test_an_address_that_is_there_twice_is_told() -> None:
    (found,) = problems(gateway={"listen": "127.0.0.1:8080, localhost:8080"})
    assert found[1] == "localhost:8080 is taken by 127.0.0.1:8080 beside it"


@pytest.mark.parametrize(
    ("near", "taken", "free"),
    [
        (("h", 80), [("h", 80)], ("h", 81)),
        (("h", 80), [("h", 80), ("0.0.0.0", 81), ("other", 82)], ("h", 82)),
        (("::", 65535), [("127.0.0.1", 1024), ("h", 65535)], ("::", 1025)),
    ],
)
def test_a_port_that_is_proposed_is_not_taken(
    near: tuple[str, int], taken: list[tuple[str, int]], free: tuple[str, int]
) -> None:
    assert listeners.free_beside(near, taken) == free
