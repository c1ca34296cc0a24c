"""docker-compose.yml is the system of config/: read without an engine, its commands run as processes."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from backends.identity import Settings
from gateway.auth.keys import issue
from gateway.cli import process_config
from gateway.cli.main import main
from gateway.core.jwt.issuer import local_issuer
from tests.eventually import poll
from tests.store.mongo import server
from tests.support.ports import free_port

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
ROUTING = yaml.safe_load((ROOT / "config/compose/routing.yaml").read_text())
ALL: dict[str, Any] = COMPOSE["services"]
SERVICES = {name: service for name, service in ALL.items() if "profiles" not in service}
CLUSTER = ALL.keys() - SERVICES.keys()
BACKENDS: dict[str, Any] = ROUTING["backends"]
DOCKERFILE: str = SERVICES["gateway"]["build"]["dockerfile_inline"]
IMAGE = "gateway:local"


def words(command: str | list[str]) -> list[str]:
    """As Compose has them where the environment sets nothing."""
    found = shlex.split(command) if isinstance(command, str) else command
    return [re.sub(r"\$\{\w+:-(.*?)\}", r"\1", word) for word in found]


def test_every_backend_of_the_routing_config_is_a_service_with_a_health_check_on_its_port() -> None:
    assert set(SERVICES) == {"gateway", "mongodb", *BACKENDS}
    for name, backend in BACKENDS.items():
        assert backend["addresses"] == [f"http://{name}:8000"]
        command = " ".join(words(SERVICES[name]["command"]))
        assert "0.0.0.0:8000" in command or "--host 0.0.0.0 --port 8000" in command
        assert "http://127.0.0.1:8000/healthz" in SERVICES[name]["healthcheck"]["test"][-1]


def test_threads_are_as_many_as_the_routing_config_says() -> None:
    for name, backend in BACKENDS.items():
        command = words(SERVICES[name]["command"])
        started = int(command[command.index("--threads") + 1]) if "--threads" in command else None
        assert started == backend.get("threads")


def test_the_routing_config_is_clean() -> None:
    assert main(["check", str(ROOT / "config/compose/routing.yaml")]) == 0


def test_routes_and_tenants_are_those_of_the_system_without_containers() -> None:
    plain = yaml.safe_load((ROOT / "config/routing.yaml").read_text())
    assert ROUTING["routes"] == plain["routes"]
    assert ROUTING["tenants"] == plain["tenants"]

    def without_addresses(backends: dict[str, Any]) -> dict[str, Any]:
        return {name: {**backend, "addresses": None} for name, backend in backends.items()}

    assert without_addresses(BACKENDS) == without_addresses(plain["backends"])


def test_commands_of_backends_differ_from_the_supervised_ones_only_in_where_they_listen() -> None:
    for command in process_config.load(str(ROOT / "config/gateway.conf")).commands:
        supervised = set(command.argv) - {"{python}"}
        container = set(words(SERVICES[command.name]["command"])) - {"python"}
        listening = {"--bind", "unix:{socket}", "0.0.0.0:8000", "--uds", "--socket", "{socket}"}
        listening |= {"--host", "0.0.0.0", "--port", "8000", "--listen"}
        assert supervised - listening == container - listening


def test_each_backend_knows_its_own_name_and_where_the_gateways_keys_are() -> None:
    config = process_config.load(str(ROOT / "config/compose/gateway.conf"))
    for name in BACKENDS:
        told = SERVICES[name]["environment"]
        settings = Settings.from_environment(told)
        assert (settings.audience, settings.issuer) == (name, config.tokens.issuer)
        assert settings.keys == "http://gateway:8080/.well-known/jwks.json"
        assert "GATEWAY_IDENTITY_TRUST_HEADERS" not in told


def test_only_the_gateway_publishes_ports_and_they_are_those_it_listens_on() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["gateway"]
    config = process_config.load(str(ROOT / "config/compose/gateway.conf"))
    listening = {str(one.port) for one in (*config.listen, *config.admin)}
    published = [port.rsplit(":", 2) for port in SERVICES["gateway"]["ports"]]
    assert {inside for _, _, inside in published} == listening
    assert {address for address, _, _ in published} == {"127.0.0.1"}
    assert config.commands == ()


def test_a_backend_shares_a_network_with_the_gateway_alone_and_has_no_way_out() -> None:
    for name in [*BACKENDS, "mongodb"]:
        (network,) = SERVICES[name]["networks"]
        members = [service for service, described in SERVICES.items() if network in described["networks"]]
        assert set(members) == {"gateway", name}
        assert COMPOSE["networks"][network]["internal"] is True
    assert COMPOSE["networks"]["public"] == {}  # ports cannot be published from an internal network


def test_no_container_runs_as_root_or_writes_outside_its_volume() -> None:
    for service in ALL.values():
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        if service["image"] == IMAGE:
            assert DOCKERFILE.rstrip().endswith("USER 10001")
            assert "user" not in service
        else:
            assert service["user"] not in ("root", "0")
        for volume in service.get("volumes", []):
            source, target, *mode = volume.split(":")
            data = ("/data",) if service["image"] == IMAGE else ("/data/db", "/data", "/datalog")
            assert (source in COMPOSE["volumes"] and target in data) or mode == ["ro"]


def test_mongodb_becomes_the_replica_set_that_the_config_names_before_the_gateway_starts() -> None:
    uri = process_config.load(str(ROOT / "config/compose/gateway.conf")).store_uri
    host, name = uri.split("/")[2], uri.partition("replicaSet=")[2]
    command = SERVICES["mongodb"]["command"]
    assert command[command.index("--replSet") + 1] == name
    check = SERVICES["mongodb"]["healthcheck"]["test"][-1]
    assert f"_id: '{name}'" in check and f"host: '{host}'" in check and "isWritablePrimary" in check
    assert SERVICES["gateway"]["depends_on"]["mongodb"] == {"condition": "service_healthy"}
    assert set(SERVICES["gateway"]["depends_on"]) == {"mongodb", *BACKENDS}


def test_the_image_gets_the_pinned_packages_and_is_built_with_them() -> None:
    copied, installs = DOCKERFILE.index("constraints.txt"), DOCKERFILE.index("pip install")
    pinned = "RUN PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt "
    assert copied < DOCKERFILE.index(pinned) < installs


def test_one_service_builds_the_image_that_all_of_ours_run_and_none_pulls_it() -> None:
    ours = [name for name, service in ALL.items() if service["image"] == IMAGE]
    assert set(ours) == {"gateway", "gateway-2", *BACKENDS}
    assert [name for name, service in ALL.items() if "build" in service] == ["gateway"]
    assert {ALL[name]["pull_policy"] for name in ours} == {"never"}


def test_no_user_of_the_host_reaches_a_backend_past_the_gateway() -> None:
    """Docker gives the host an address on every bridge, an internal one too, unless it is told not to."""
    for name, network in COMPOSE["networks"].items():
        if name != "public":
            assert network["driver_opts"] == {"com.docker.network.bridge.inhibit_ipv4": "true"}


def test_every_health_check_is_one_line_for_a_shell() -> None:
    """podman splits the words of a CMD array anew."""
    for service in SERVICES.values():
        kind, line, *more = service["healthcheck"]["test"]
        assert kind == "CMD-SHELL" and not more
        assert subprocess.run(["sh", "-n", "-c", line]).returncode == 0
        assert "$" not in line, "compose would replace it"
        program, option, text = shlex.split(line.replace("--quiet --eval", "-c"))
        assert (program, option) in (("python", "-c"), ("mongosh", "-c"))
        if program == "python":
            compile(text, "health check", "exec")


def test_the_image_is_readable_for_its_user_whatever_the_umask_of_the_checkout(tmp_path: Path) -> None:
    lines = DOCKERFILE.replace("\\\n", " ").splitlines()
    (run,) = [line for line in lines if line.startswith("RUN")]
    assert lines.index(run) > max(n for n, line in enumerate(lines) if line.startswith("COPY"))
    command = run.rpartition("&&")[2].strip()
    assert command == "chmod -R a+rX /app"
    (folder := tmp_path / "gateway").mkdir(mode=0o700)
    (folder / "app.py").touch(mode=0o600)
    subprocess.run(shlex.split(command.replace("/app", str(tmp_path))), check=True)
    assert (folder.stat().st_mode & 0o777, (folder / "app.py").stat().st_mode & 0o777) == (0o755, 0o644)


def test_how_to_make_what_is_mounted_readable_is_said_where_it_is_read_first() -> None:
    mounted = [volume for service in SERVICES.values() for volume in service.get("volumes", [])]
    folders = {volume.split(":")[0] for volume in mounted if volume.startswith("./")}
    assert folders == {"./config/compose"}
    assert "#   chmod -R a+rX config\n" in (ROOT / "docker-compose.yml").read_text().partition("name:")[0]


def test_a_cluster_is_two_gateways_that_share_limits_config_and_keys_behind_a_proxy_that_asks_them() -> None:
    assert {"gateway-2", "haproxy", "redis", "zookeeper"} == CLUSTER
    first, second = ALL["gateway"], ALL["gateway-2"]
    assert words(second["command"])[-1] == "/config/cluster.conf"
    assert first["command"][-1] == "/config/${GATEWAY_CONF:-gateway}.conf"
    assert first["networks"].keys() == second["networks"].keys()
    for key in ("volumes", "environment", "stop_grace_period", "healthcheck"):
        assert first[key] == second[key]
    cluster = process_config.load(str(ROOT / "config/compose/cluster.conf"))
    plain = process_config.load(str(ROOT / "config/compose/gateway.conf"))
    assert (cluster.live.source, cluster.live.servers) == ("zookeeper", ("zookeeper:2181",))
    assert "redis://redis:6379" in (ROOT / "config/compose/cluster.conf").read_text()
    assert (cluster.listen, cluster.tokens, cluster.store_uri) == (
        plain.listen,
        plain.tokens,
        plain.store_uri,
    )
    proxy = (ROOT / "config/compose/haproxy.cfg").read_text()
    reached = [one["networks"]["cluster"]["ipv4_address"] for one in (first, second)]
    assert re.findall(r"server \w+ ([\d.]+):8080", proxy) == reached
    assert "GET uri /readyz" in proxy and "check port 8081" in proxy
    for name in ("redis", "zookeeper"):
        assert ALL[name]["networks"] == ["cluster"] and "ports" not in ALL[name]
    assert COMPOSE["networks"]["cluster"]["internal"] is True
    assert ALL["haproxy"]["ports"] == ["127.0.0.1:8090:8080"]


def test_the_address_of_the_proxy_in_front_and_no_other_may_say_who_a_client_is() -> None:
    fixed = {
        name: service["networks"]["cluster"]["ipv4_address"]
        for name, service in ALL.items()
        if isinstance(service["networks"], dict) and service["networks"]["cluster"]
    }
    assert ROUTING["trusted_proxies"] == [fixed["haproxy"]]
    assert len(set(fixed.values())) == len(fixed) == 3
    (given,) = COMPOSE["networks"]["cluster"]["ipam"]["config"]
    for address in map(ip_address, fixed.values()):
        assert address in ip_network(given["subnet"])
        assert address not in ip_network(given["ip_range"]), "another container could get it first"
    proxy = (ROOT / "config/compose/haproxy.cfg").read_text()
    assert "set-header X-Forwarded-For %[src]" in proxy and "del-header x-forwarded- -m beg" in proxy


def test_zookeeper_keeps_its_data_in_the_volumes_and_listens_where_the_gateways_ask() -> None:
    """The image writes a config where it finds none, into a folder that is read-only here."""
    volumes = [volume.split(":") for volume in ALL["zookeeper"]["volumes"]]
    (mounted,) = [volume for volume in volumes if volume[0].startswith("./")]
    assert mounted[1:] == ["/conf/zoo.cfg", "ro"]
    lines = (ROOT / mounted[0]).read_text().splitlines()
    told = dict(line.split("=") for line in lines if not line.startswith("#"))
    kept = {volume[1] for volume in volumes if volume[0] in COMPOSE["volumes"]}
    assert {told["dataDir"], told["dataLogDir"]} == kept
    cluster = process_config.load(str(ROOT / "config/compose/cluster.conf"))
    assert cluster.live.servers == (f"zookeeper:{told['clientPort']}",)


def test_no_folder_of_an_image_is_hidden_by_memory_with_a_mode_of_its_own() -> None:
    """Some runtimes keep the mode of the folder that is there, so who may write is not ours to say."""
    for service in ALL.values():
        assert not [folder for folder in service.get("tmpfs", []) if ":" in folder]


def test_haproxy_lets_requests_end_and_is_not_killed_while_it_does() -> None:
    proxy = (ROOT / "config/compose/haproxy.cfg").read_text()
    (seconds,) = re.findall(r"hard-stop-after (\d+)s", proxy)
    assert int(seconds) == process_config.load(str(ROOT / "config/compose/cluster.conf")).drain
    assert int(ALL["haproxy"]["stop_grace_period"].rstrip("s")) > int(seconds)


def test_haproxy_starts_where_it_may_have_few_files(tmp_path: Path) -> None:
    """A daemon gives containers a limit of its own, which they cannot raise."""
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed")
    port = free_port()
    text = (ROOT / "config/compose/haproxy.cfg").read_text().replace("bind :8080", f"bind 127.0.0.1:{port}")
    (tmp_path / "haproxy.cfg").write_text(re.sub(r"(server \w+) [\d.]+:", r"\1 127.0.0.1:", text))
    command = ["sh", "-c", 'ulimit -n 1000 && exec haproxy -db -f "$0"', str(tmp_path / "haproxy.cfg")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ended_or_listens() -> bool:
        with socket.socket() as client:
            return process.poll() is not None or client.connect_ex(("127.0.0.1", port)) == 0

    try:
        poll(ended_or_listens)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_haproxy_takes_its_config() -> None:
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed")
    checked = subprocess.run(
        ["haproxy", "-c", "-f", str(ROOT / "config/compose/haproxy.cfg")], capture_output=True, timeout=60
    )
    assert checked.returncode == 0, checked.stderr.decode()


def test_bodies_are_spooled_to_the_volume_and_not_into_memory() -> None:
    gateway = SERVICES["gateway"]
    folder = gateway["environment"]["TMPDIR"]
    assert folder not in gateway["tmpfs"]
    assert f"gateway-data:{folder}" in gateway["volumes"]


def test_what_the_image_copies_is_there() -> None:
    for line in DOCKERFILE.splitlines():
        if line.startswith("COPY"):
            assert [name for name in line.split()[1:-1] if not (ROOT / name).exists()] == []


@contextmanager
def run(name: str, folder: Path, replaced: dict[str, str]) -> Iterator[list[str]]:
    """The service's command as a plain process. Gives its health check. Both with their texts replaced."""

    def local(word: str) -> str:
        for old, new in replaced.items():
            word = word.replace(old, new)
        return word

    service = SERVICES[name]
    (folder / name).mkdir(exist_ok=True)
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    told = {key: local(value) for key, value in service.get("environment", {}).items()}
    env |= {**told, "DATA": str(folder / name), "TMPDIR": str(folder)}
    command = [local(word) for word in words(service["command"])]
    process = subprocess.Popen(command, cwd=ROOT, env=env, start_new_session=True)
    try:
        yield ["env", f"PATH={env['PATH']}", "sh", "-c", local(service["healthcheck"]["test"][1])]
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def healthy(check: list[str]) -> bool:
    return subprocess.run(check, capture_output=True).returncode == 0


def becomes_healthy(check: list[str]) -> bool:
    return poll(lambda: healthy(check))


def test_over_tcp_a_backend_believes_the_gateway_and_no_neighbour(tmp_path: Path) -> None:
    """The commands of the file as processes on loopback, with their health checks; the backends get the
    gateway's keys from itself."""
    shutil.copytree(ROOT / "config/compose", tmp_path / "config")
    public, admin = str(free_port()), str(free_port())
    ports = {name: str(free_port()) for name in BACKENDS}
    conf, routing = tmp_path / "config/gateway.conf", tmp_path / "config/routing.yaml"
    text = conf.read_text().replace("[gateway]", "[gateway]\nworkers = 1")
    text = text.replace("/data", f"{tmp_path}/data")
    text = text.replace("0.0.0.0:8080", f"127.0.0.1:{public}")
    text = re.sub("uri = .*", f"uri = sqlite:{tmp_path}/documents", text)
    conf.write_text(text.replace("0.0.0.0:8081", f"127.0.0.1:{admin}"))
    text = routing.read_text()
    for name, port in ports.items():
        text = text.replace(f"http://{name}:8000", f"http://127.0.0.1:{port}")
    routing.write_text(text)
    paths = {"catalog": "/products", "reports": "/reports", "pricing": "/prices", "events": "/events"}
    scopes = " ".join(f"{name}:read" for name in BACKENDS)
    with ExitStack() as stack:
        local = {"0.0.0.0": "127.0.0.1", "http://gateway:8080": f"http://127.0.0.1:{public}"}
        inside = {"/config/": f"{tmp_path}/config/", "8081": admin}
        checks = [stack.enter_context(run("gateway", tmp_path, inside))]
        for name, port in ports.items():
            checks.append(stack.enter_context(run(name, tmp_path, {**local, "8000": port})))
        assert all(becomes_healthy(check) for check in checks)
        made = issue(tmp_path / "data/keys.jwks", local_issuer(""), "acme", scopes, "ann", 60)
        bearer = {"Authorization": f"Bearer {made}"}
        forged = {"X-Tenant": "acme", "X-Subject": "ann", "X-Scopes": scopes, "X-Forwarded-For": "127.0.0.1"}
        for name, path in paths.items():
            through = requests.get(f"http://127.0.0.1:{public}/{name}{path}", headers=bearer, timeout=30)
            assert through.status_code == 200, (name, through.text)
            for headers in ({}, forged, bearer):
                direct = requests.get(f"http://127.0.0.1:{ports[name]}{path}", headers=headers, timeout=30)
                assert direct.status_code == 401, name
                assert direct.headers["Content-Type"] == "application/problem+json"
    assert not any(healthy(check) for check in checks)


def test_the_gateways_command_serves_with_this_config(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config/compose", tmp_path / "config")
    conf = tmp_path / "config/gateway.conf"
    admin = str(free_port())
    text = conf.read_text().replace("[gateway]", "[gateway]\nworkers = 1")
    text = text.replace("0.0.0.0:8080", f"127.0.0.1:{free_port()}")
    text = text.replace("0.0.0.0:8081", f"127.0.0.1:{admin}").replace("= /data", f"= {tmp_path}/data")
    with server.serve(tmp_path) as uri:
        # The server of the tests is no replica set.
        conf.write_text(re.sub("uri = .*", f"uri = {server.database(uri)}", text))
        with run("gateway", tmp_path, {"/config/": f"{tmp_path}/config/", "8081": admin}) as check:
            assert becomes_healthy(check)
    assert not healthy(check)
