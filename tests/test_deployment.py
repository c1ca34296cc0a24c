"""The files for systemd, Kubernetes and Swarm: they fit the gateway, each other, and what reads them."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.app import Gateway
from gateway.cli import process_config
from gateway.cli.main import main
from gateway.core.process.settings import ProcessConfig
from tests import harness
from tests.eventually import eventually

ROOT = Path(__file__).parents[1] / "config"
SYSTEMD, KUBERNETES, SWARM = ROOT / "systemd", ROOT / "kubernetes", ROOT / "swarm"


# --- systemd -----------------------------------------------------------------------------------------


def unit(name: str) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, strict=False)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(SYSTEMD / name)
    return found


def test_the_service_is_told_of_and_stopped_as_the_gateway_does_it() -> None:
    service = unit("gateway.service")["Service"]
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    assert int(service["WatchdogSec"]) > 0
    assert service["ExecStart"].split()[1:] == ["serve", "-c", "/etc/gateway/gateway.conf"]
    assert "-HUP $MAINPID" in service["ExecReload"]
    assert service["KillMode"] == "mixed"  # the workers are told by their master
    assert int(service["TimeoutStopSec"]) > ProcessConfig.__dataclass_fields__["drain"].default
    assert unit("gateway.socket")["Socket"]["ListenStream"].endswith(":8080")


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for name in ("gateway.service", "gateway.socket"):
        text = (SYSTEMD / name).read_text().replace("/opt/gateway/bin/gateway", shutil.which("true") or "")
        (tmp_path / name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", *map(str, tmp_path.iterdir())]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    said = [line for line in checked.stderr.splitlines() if str(tmp_path) in line]
    assert (checked.returncode, said) == (0, [])


def test_a_rotated_log_is_let_go_by_the_signal_that_reopens_it() -> None:
    text = (SYSTEMD / "gateway.logrotate").read_text()
    assert "--signal=SIGUSR1 gateway.service" in text and "--kill-who=main" in text
    assert "delaycompress" in text and "copytruncate" not in text  # which loses lines


# --- Kubernetes --------------------------------------------------------------------------------------


def objects() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert {*listed, "kustomization.yaml"} == {path.name for path in KUBERNETES.glob("*.yaml")}
    for name in listed:
        for one in yaml.safe_load_all((KUBERNETES / name).read_text()):
            found[f"{one['kind']}/{one['metadata']['name']}"] = one
    return found


def pod() -> dict[str, Any]:
    spec = objects()["Deployment/gateway"]["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def test_kubernetes_has_all_fields_of_the_objects() -> None:
    program = shutil.which("kubernetes-validate")
    if program is None:
        assert os.environ.get("KUBERNETES_SCHEMAS") != "required", "kubernetes-validate is not installed"
        pytest.skip("kubernetes-validate is not installed (it has all schemas, which are 100 MB)")
    files = [str(path) for path in KUBERNETES.glob("*.yaml") if path.name != "kustomization.yaml"]
    checked = subprocess.run([program, "--strict", *files], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_all_objects_select_the_pods_of_the_deployment_by_one_label() -> None:
    found = objects()
    template = found["Deployment/gateway"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        found["Deployment/gateway"]["spec"]["selector"]["matchLabels"],
        found["Service/gateway"]["spec"]["selector"],
        found["Service/gateway-admin"]["spec"]["selector"],
        found["PodDisruptionBudget/gateway"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy/gateway"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector == template for selector in selectors)
    target = found["HorizontalPodAutoscaler/gateway"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", "gateway")
    assert "replicas" not in found["Deployment/gateway"]["spec"]  # it would be set back with each apply


def test_the_pods_are_probed_drained_and_limited_as_the_config_says(tmp_path: Path) -> None:
    data = objects()["ConfigMap/gateway"]["data"]
    for name, text in data.items():
        (tmp_path / name).write_text(text)
    config = process_config.load(str(tmp_path / "gateway.conf"))
    assert main(["check", "-c", str(tmp_path / "gateway.conf"), str(tmp_path / "routing.yaml")]) == 0
    (container,) = pod()["containers"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert ports == {"http": config.listen[0].port, "admin": config.admin[0].port}
    for name, path in (("startup", "/readyz"), ("liveness", "/livez"), ("readiness", "/readyz")):
        assert container[f"{name}Probe"]["httpGet"] == {"path": path, "port": "admin"}
    assert pod()["terminationGracePeriodSeconds"] > config.pre_stop + config.drain
    readiness = container["readinessProbe"]
    assert config.pre_stop > readiness["periodSeconds"] * readiness["failureThreshold"]
    folder = next(one for one in container["volumeMounts"] if one["name"] == "config")
    assert "subPath" not in folder  # a single file would never follow
    assert pod()["securityContext"]["runAsNonRoot"]
    rights = container["securityContext"]
    assert rights["readOnlyRootFilesystem"] and rights["capabilities"] == {"drop": ["ALL"]}


def test_the_autoscaler_asks_for_a_metric_that_the_gateway_has() -> None:
    rule = (KUBERNETES / "README.md").read_text()
    (_, metric) = objects()["HorizontalPodAutoscaler/gateway"]["spec"]["metrics"]
    assert f"as: {metric['pods']['metric']['name']}" in rule
    sources = "".join(path.read_text() for path in (ROOT.parent / "gateway/admission").glob("*.py"))
    asked = set(re.findall(r"(gateway_queue_\w+?)_(?:sum|count)", rule))
    assert len(asked) == 1 and f'"{asked.pop()}"' in sources


class Mounted:
    """A ConfigMap's folder, as a kubelet makes and changes it: files are links into `..data`, which is a link
    to a folder of one version, and is swapped by a rename."""

    def __init__(self, folder: Path, files: dict[str, str]) -> None:
        self._folder = folder
        self._version = 0
        folder.mkdir()
        self.swap(files)
        for name in files:
            (folder / name).symlink_to(f"..data/{name}")

    def swap(self, files: dict[str, str]) -> None:
        self._version += 1
        version = self._folder / f"..2026_01_01_{self._version}"
        version.mkdir()
        for name, text in files.items():
            (version / name).write_text(text)
        link = self._folder / "..data_tmp"
        link.symlink_to(version.name)
        before = (self._folder / "..data").resolve() if self._version > 1 else None
        link.replace(self._folder / "..data")
        if before is not None:
            shutil.rmtree(before)


def routes(*names: str) -> str:
    return yaml.safe_dump(harness.routing([harness.route(name, "documents") for name in names]))


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    yield Mounted(tmp_path / "config", {"routing.yaml": routes("a")})


async def test_a_swap_of_a_config_maps_folder_is_a_live_edit_and_a_bad_one_is_refused(
    tmp_path: Path, mounted: Mounted
) -> None:
    config = harness.process_config(tmp_path, routing=str(tmp_path / "config/routing.yaml"))
    gateway = Gateway(config)
    await gateway.start()

    def live() -> list[str]:
        return [route.name for route in gateway.live.current.table.routes]

    try:
        assert live() == ["a"]
        mounted.swap({"routing.yaml": routes("a", "b")})
        await eventually(lambda: live() == ["a", "b"])
        mounted.swap({"routing.yaml": "version: 7\n"})
        await eventually(lambda: gateway.live.refusal is not None)
        assert live() == ["a", "b"]
        mounted.swap({"routing.yaml": routes("c")})
        await eventually(lambda: live() == ["c"])
        assert gateway.live.refusal is None
    finally:
        await gateway.drain()


# --- Swarm -------------------------------------------------------------------------------------------


def test_the_stack_mounts_a_clean_config_at_the_paths_that_it_names() -> None:
    stack = yaml.safe_load((SWARM / "stack.yaml").read_text())
    gateway = stack["services"]["gateway"]
    config = process_config.load(str(SWARM / "gateway.conf"))
    assert main(["check", "-c", str(SWARM / "gateway.conf")]) == 0
    for one in gateway["configs"]:
        file = stack["configs"][one["source"]]["file"]
        assert (SWARM / file).exists() and one["target"] == f"/config/{Path(file).name}"
        assert "VERSION" in stack["configs"][one["source"]]["name"]  # one that is there cannot be changed
    keys, identity = (one["target"] for one in gateway["secrets"])
    assert keys == config.keys
    assert f"cp -f {identity} {config.data}/ && exec gateway serve " in gateway["command"][-1]
    assert [one["name"] for one in stack["secrets"].values()] == ["gateway_keys", "gateway_identity"]
    told = stack["services"]["hello"]["environment"]
    assert told["GATEWAY_IDENTITY_ISSUER"] == config.tokens.issuer
    assert told["GATEWAY_IDENTITY_KEYS"].startswith(f"http://tasks.gateway:{config.listen[0].port}/")
    assert gateway["ports"][0]["target"] == config.listen[0].port
    assert f":{config.admin[0].port}/readyz" in gateway["healthcheck"]["test"][1]
    assert int(gateway["stop_grace_period"].rstrip("s")) > config.pre_stop + config.drain
