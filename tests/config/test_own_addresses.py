"""A backend's address that leads back to the gateway is refused, however it is written."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import yaml

from gateway.cli.main import main
from gateway.config import own_addresses
from gateway.core.model import Address, Backend
from gateway.core.process.listeners import Listen
from tests import harness
from tests.conf import write_conf

NAMES = {"localhost": ("127.0.0.1", "::1"), "me.example": ("10.9.9.9", "127.0.0.1"), "other": ("10.9.9.9",)}


def find(host: str) -> tuple[str, ...]:
    if host in NAMES:
        return NAMES[host]
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return tuple(str(info[4][0]) for info in found)


def is_own(host: str, port: int, *listeners: Listen) -> bool:
    backends = {"b": Backend("b", "http", (Address("x", "10.9.9.9", 1), Address("y", host, port)))}
    found = own_addresses.problems(backends, [("[gateway]", listen) for listen in listeners], find)
    assert [problem.path for problem in found] in ([], [("backends", "b", "addresses", 1)])
    return bool(found)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "me.example", "0.0.0.0", "::ffff:127.0.0.1", "127.1", "2130706433", "0x7f.1"],
)
def test_every_spelling_of_it_is_its_own(host: str) -> None:
    assert is_own(host, 8080, Listen("127.0.0.1", 8080))
    assert is_own(host, 8080, Listen("0.0.0.0", 8080))
    assert is_own(host, 8080, Listen("10.1.1.1", 8080), Listen("::", 8080))
    assert is_own(host, 8080, Listen("localhost", 8080))
    for spelling in ("*", "0", "127.1", "::ffff:127.0.0.1", "LOCALHOST."):
        assert is_own(host, 8080, Listen(spelling, 8080))
    assert not is_own(host, 8081, Listen("127.0.0.1", 8080))
    assert not is_own(host, 8080, Listen("127.0.0.2", 8080)) or host == "127.0.0.2"


@pytest.mark.parametrize(
    ("host", "listen", "own"),
    [
        ("::1", "::1", True),
        ("0:0:0:0:0:0:0:1", "[::1]", True),
        ("::1", "::", True),
        ("::", "::", True),
        ("::", "::1", True),
        ("::1", "127.0.0.1", False),
        ("::1", "0.0.0.0", False),
        ("127.0.0.1", "::1", False),
        ("127.3.2.1", "0.0.0.0", True),
        ("other", "0.0.0.0", False),
        ("8.8.8.8", "::", False),
        ("unknown.invalid", "0.0.0.0", False),
    ],
)
def test_which_address_reaches_which_listener(host: str, listen: str, own: bool) -> None:
    assert is_own(host, 8080, Listen(listen, 8080)) is own


def test_a_listener_on_all_addresses_is_reached_by_each_that_this_machine_has() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # sends nothing, and tells our address on the way there
        except OSError:
            pytest.skip("this machine has no address but loopback")
        mine = str(sock.getsockname()[0])
    assert is_own(mine, 8080, Listen("0.0.0.0", 8080))
    assert not is_own(mine, 8080, Listen("127.0.0.1", 8080))


def test_a_unix_socket_is_known_by_its_path_through_links_too(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    own = [("[gateway]", Listen(path=f"{tmp_path}/folder/g")), ("[gateway]", Listen("127.0.0.1", 80))]
    for path, found in (("link/g", 1), ("folder/g", 1), ("folder/other", 0)):
        backends = {"b": Backend("b", "http", (Address("x", path=f"{tmp_path}/{path}"),))}
        assert len(own_addresses.problems(backends, own, find)) == found


def routing(address: str) -> str:
    backends = {"app": {"kind": "http", "addresses": [address]}}
    return yaml.safe_dump(harness.routing([harness.route("svc", "app")], backends=backends), sort_keys=False)


@pytest.mark.parametrize(("port", "key"), [(8080, "[gateway]"), (8081, "[admin]")])
def test_check_refuses_it_with_the_listener_and_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], port: int, key: str
) -> None:
    conf = write_conf(tmp_path, routing(f"http://localhost:{port}"))
    conf.write_text(conf.read_text())
    listen, admin = "127.0.0.1:8080", "127.0.0.1:8081"
    conf = write_conf(tmp_path, routing(f"http://localhost:{port}"), listen=listen, admin=admin)
    assert main(["check", "-c", str(conf)]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert f"({key} listen = 127.0.0.1:{port})" in told
    conf.write_text(conf.read_text().replace("[gateway]", "[gateway]\nvia_loops = 1"))
    assert main(["check", "-c", str(conf)]) == 0


def test_a_listener_on_every_address_is_known_by_its_star(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = write_conf(tmp_path, routing("http://localhost:8080"), listen="*:8080", admin="127.0.0.1:8081")
    assert main(["check", "-c", str(conf)]) == 1
    assert "its own address" in " ".join(capsys.readouterr().err.split()).replace("this gateway's", "its")
    conf = write_conf(tmp_path, routing("http://localhost:9"), listen="*:8080", admin="127.0.0.1:8080")
    assert main(["check", "-c", str(conf)]) == 1
    assert "127.0.0.1:8080 is taken by" in " ".join(capsys.readouterr().err.split())


async def test_an_edit_of_the_live_config_to_it_is_refused(tmp_path: Path) -> None:
    async with harness.running(tmp_path, yaml.safe_load(routing("http://127.0.0.1:9"))) as gateway:
        _, port = harness.address(gateway)
        (tmp_path / "routing.yaml").write_text(routing(f"http://localhost:{port}"))
        assert not await gateway.live.reload()
        assert gateway.live.refusal is not None
        (problem,) = gateway.live.refusal.problems
        assert problem.path == ("backends", "app", "addresses", 0)
        assert problem.line > 0
