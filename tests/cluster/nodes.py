"""What runs on the nodes: two gateways, and a store node with Redis, ZooKeeper and MongoDB's stand-in."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import yaml

from tests.cluster.nets import Namespace, start

ROOT = Path(__file__).resolve().parents[2]
STORE = "10.99.0.3"
REDIS, ZOOKEEPER, MONGODB = 6379, 2181, 27017
GATEWAYS = {"a": "10.98.0.1", "b": "10.98.0.2"}
PORT, ADMIN = 8080, 8081
RATE = 20  # requests of `limited` in a second, at both gateways together
TENANTS = {"acme": {}, "limited": {"rate_limit": {"rate": f"{RATE}/s", "burst": RATE}}}
_ZOOKEEPER = Path("/usr/share/java/zookeeper.jar")
_ZOO_CFG = "dataDir={}\nclientPort={}\nclientPortAddress={}\ntickTime=500\nadmin.enableServer=false\n"


def missing() -> str:
    """Why the store node cannot run here; "" when it can."""
    if shutil.which("redis-server") is None:
        return "there is no redis-server (Debian: redis-server)"
    if shutil.which("java") is None or not _ZOOKEEPER.exists():
        return "there is no ZooKeeper (Debian: zookeeper)"
    return ""


class Program:
    """One process on a node, which can be ended and started again."""

    def __init__(self, name: str, node: Namespace, command: list[str], folder: Path) -> None:
        self.name, self._folder = name, folder
        self.inside_node = node.inside
        self._command = node.inside(command)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it may take a while until it serves."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{self.name}.out").open("ab") as output:
            self._process = start(self._command, stdout=output, stderr=output, cwd=ROOT)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; after SIGKILL it can be started again."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            if number == signal.SIGKILL:
                self._process.wait()

    @property
    def told(self) -> str:
        """The end of what it printed."""
        path = self._folder / f"{self.name}.out"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""


def store_programs(node: Namespace, folder: Path) -> dict[str, Program]:
    """Redis, ZooKeeper, MongoDB's stand-in."""
    data = folder / "zookeeper"
    data.mkdir(parents=True)
    (folder / "zoo.cfg").write_text(_ZOO_CFG.format(data, ZOOKEEPER, STORE))
    java = ["java", "-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", str(_ZOOKEEPER)]
    redis = ["redis-server", "--bind", STORE, "--port", str(REDIS), "--dir", str(folder)]
    redis += ["--appendonly", "yes", "--protected-mode", "no"]
    mongodb = [sys.executable, "-m", "nx_27017.nx_27017", "--data-dir", "memory", "--host", STORE]
    mongodb += ["--port", str(MONGODB), "--pid-file", str(folder / "nx.pid")]
    commands = {
        "redis": redis,
        "zookeeper": [*java, "org.apache.zookeeper.server.ZooKeeperServerMain", str(folder / "zoo.cfg")],
        "mongodb": [*mongodb, "--log-file", str(folder / "nx.log")],
    }
    return {name: Program(name, node, command, folder) for name, command in commands.items()}


def gateway(name: str, node: Namespace, folder: Path) -> Program:
    """A gateway with its own data folder. Both sign with the same keys."""
    own = folder / name
    own.mkdir()
    (folder / "routing.yaml").write_text(routing())
    conf = f"""[gateway]
listen = {GATEWAYS[name]}:{PORT}
workers = 1
routing = ../routing.yaml
data = var
[admin]
listen = {GATEWAYS[name]}:{ADMIN} 127.0.0.1:{ADMIN}
[tokens]
keys = {folder}/keys.jwks
[store]
uri = mongodb://{STORE}:{MONGODB}/shop?serverSelectionTimeoutMS=1000&socketTimeoutMS=3000&connectTimeoutMS=1000
[shared]
uri = redis://{STORE}:{REDIS}
[config]
source = zookeeper
servers = {STORE}:{ZOOKEEPER}
"""
    (own / "gateway.conf").write_text(conf)
    command = [sys.executable, "-m", "gateway", "serve", "-c", str(own / "gateway.conf")]
    return Program(name, node, command, own)


def routing(*more: str) -> str:
    """The live config. more: tenants."""
    route = {"name": "documents", "path": "/documents/{rest*}", "strip": "/documents", "target": "documents"}
    tenants = {**TENANTS, **{name: {} for name in more}}
    return yaml.safe_dump({"version": 1, "tenants": tenants, "routes": [route]})


def command(conf: Path, *arguments: str) -> str:
    """What a command of the gateway's prints."""
    found = [sys.executable, "-m", "gateway", *arguments, "-c", str(conf)]
    return subprocess.run(found, cwd=ROOT, check=True, capture_output=True, text=True, env=os.environ).stdout
