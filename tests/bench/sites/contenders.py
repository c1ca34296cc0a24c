"""What takes part, each with its config: the gateway, nginx, HAProxy, Caddy, a proxy on ClientSession, and
the backend alone."""

from __future__ import annotations

import base64
import json
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import yaml

from gateway.auth.keys import issue
from gateway.core.jwt.issuer import local_issuer
from tests.bench import machine
from tests.bench.sites.backend import BODY, LARGE
from tests.bench.sites.servers import Server
from tests.support.ports import free_port

CONF = Path(__file__).parents[1] / "conf"
ROUTES = 1000  # in the gateway's routing config
_POLICY = "HS256 token, scope, tenant rate, identity headers, request id, JSON log"


class ContenderWrong(Exception):
    """A contender does not do what is said of it, so its figures would mean nothing."""


@dataclass(frozen=True)
class Contender:
    """One server under test. does: what its requests go through; policy: whether it checks tokens."""

    name: str
    does: str
    policy: bool = False
    prefix: str = "/bench"


CONTENDERS = {
    "gateway": Contender("gateway", f"{_POLICY}, metrics, {ROUTES:,} routes; verified tokens cached", True),
    "nginx": Contender("nginx", "bare proxy"),
    "haproxy": Contender("haproxy", f"{_POLICY}; verified on each request", True),
    "caddy": Contender("caddy", "bare proxy"),
    "client": Contender("client", "bare proxy on aiohttp's ClientSession (client_proxy.py)"),
    "direct": Contender("direct", "no proxy: the backend on the load core", prefix=""),
}


def _nginx_user() -> str:
    """A line for nginx: started by root it would become another user, who cannot read the bench's folder."""
    return "user root;" if os.geteuid() == 0 else ""


def missing() -> list[str]:
    """The programs that are not installed here."""
    return [name for name in ("nginx", "haproxy", "caddy") if machine.find(name) is None]


@dataclass
class Site:
    """One bench's folder, ports and secrets."""

    folder: Path
    backend_port: int = field(default_factory=free_port)
    secret: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)

    def fill(self, name: str, port: int, **more: object) -> Path:
        """A config of conf/ with its @PLACES@ filled in, written to the folder. Gives its path."""
        places = {
            "FOLDER": self.folder,
            "PORT": port,
            "BACKEND": self.backend_port,
            "SECRET": self.secret,
            "BODY": BODY,
            "USER": _nginx_user(),
            **more,
        }
        text = (CONF / name).read_text()
        for place, value in places.items():
            text = text.replace(f"@{place}@", str(value))
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    def token(self, scope: str = "bench:read bench:write", tenant: str = "acme") -> str:
        """A token that the gateway and HAProxy take alike. The gateway's keys must have been written."""
        rule = local_issuer("", algorithms=("HS256",))
        return issue(self.folder / "keys.jwks", rule, tenant, scope, "bench", 3600.0)

    def write_keys(self) -> None:
        value = base64.urlsafe_b64encode(self.secret.encode()).rstrip(b"=").decode()
        path = self.folder / "keys.jwks"
        path.touch(mode=0o600)
        path.write_text(json.dumps({"keys": [{"kid": "bench", "kty": "oct", "alg": "HS256", "k": value}]}))

    def routing(self, extra: str = "") -> str:
        """The routing config: the measured route among many. extra: a public path that is served as well."""
        scopes = {"read": ["bench:read"], "write": ["bench:write"]}
        bench = {"name": "bench", "path": "/bench/{rest*}", "strip": "/bench"}
        bench |= {"target": "fast", "scopes": scopes}
        others = [
            {"name": f"service-{n}", "path": f"/service-{n}/{{id}}/items", "target": "fast", "scopes": scopes}
            for n in range(ROUTES - 1)
        ]
        edited = [{"name": "edited", "path": extra, "target": "fast", "public": True}] if extra else []
        document = {
            "version": 1,
            # The headers are what the others set; the signature comes on top of them.
            "backends": {
                "fast": {
                    "kind": "http",
                    "identity": "both",
                    "addresses": [f"http://127.0.0.1:{self.backend_port}"],
                }
            },
            "tenants": {"acme": {"rate_limit": {"rate": "1000000/s", "burst": 1000000}}},
            "routes": [bench, *edited, *others[: ROUTES - 1 - len(edited)]],
        }
        return yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False)

    def beside(self, name: str) -> Site:
        """A folder of its own in this one, for another gateway before the same backend with the same keys."""
        site = Site(self.folder / name, self.backend_port, self.secret)
        site.folder.mkdir()
        return site


@contextmanager
def backend(site: Site) -> Iterator[Server]:
    """The fast backend: nginx where it is installed, else a plain one in Python."""
    nginx = machine.find("nginx")
    if nginx:
        with (site.folder / "large").open("wb") as file:
            file.truncate(LARGE)
        command = [nginx, "-p", str(site.folder), "-c", str(site.fill("backend.conf", site.backend_port))]
    else:
        command = [sys.executable, "-m", "tests.bench.sites.backend", str(site.backend_port)]
    with Server("backend", command, site.backend_port, site.folder, machine.LOAD_CORE) as server:
        yield server


def server(
    name: str,
    site: Site,
    core: int | None = machine.SERVER_CORE,
    routing: str = "",
    config: str = "",
    workers: int = 1,
    redis: str = "",
) -> Server:
    """The contender's server, not yet started. Writes its config to the site's folder. core None: any.
    routing: the gateway's, else the site's; workers: the gateway's; redis: what it shares, by its URI.
    config: the file in conf/, else the contender's own."""
    port = free_port()
    env: dict[str, str] = {}
    if name == "gateway":
        site.write_keys()
        (site.folder / "routing.yaml").write_text(routing or site.routing())
        path = site.fill("gateway.conf", port, ADMIN=free_port(), WORKERS=workers)
        if redis:
            path.write_text(f"{path.read_text()}\n[shared]\nuri = {redis}\n")
        command = [sys.executable, "-m", "gateway", "serve", "-c", str(path)]
    elif name == "nginx":
        path = site.fill(config or "nginx.conf", port)
        command = [str(machine.find("nginx")), "-p", str(site.folder), "-c", str(path)]
    elif name == "haproxy":
        path = site.fill(config or "haproxy.cfg", port)
        command = [str(machine.find("haproxy")), "-db", "-q", "-f", str(path)]
    elif name == "client":
        command = [sys.executable, "-m", "tests.bench.sites.client_proxy", str(port), str(site.backend_port)]
    else:
        path = site.fill("Caddyfile", port)
        command = [str(machine.find("caddy")), "run", "--adapter", "caddyfile", "--config", str(path)]
        env = {"GOMAXPROCS": "1", "XDG_DATA_HOME": str(site.folder), "XDG_CONFIG_HOME": str(site.folder)}
    return Server(name, command, port, site.folder, core, env)


def check(contender: Contender, port: int, site: Site) -> None:
    """Make sure that it answers rightly, and keeps the policy that is said of it. Raises ContenderWrong."""
    good = {"Authorization": f"Bearer {site.token()}"}
    _expect(contender, "a good token", _get(port, f"{contender.prefix}/item", good), 200, BODY)
    if not contender.policy:
        return
    flawed = good["Authorization"][:-4] + "AAAA"
    other = {"Authorization": f"Bearer {site.token('other:read')}"}
    _expect(contender, "no token", _get(port, f"{contender.prefix}/item", {}), 401)
    flawed_answer = _get(port, f"{contender.prefix}/item", {"Authorization": flawed})
    _expect(contender, "a flawed token", flawed_answer, 401)
    _expect(contender, "a token without the scope", _get(port, f"{contender.prefix}/item", other), 403)
    forged = {**good, "X-Tenant": "globex"} if contender.name == "haproxy" else good
    status, text = _get(port, f"{contender.prefix}/seen", forged)
    seen = json.loads(text) if status == 200 else {}
    wanted = {"tenant": "acme", "subject": "bench", "scopes": "bench:read bench:write", "authorization": ""}
    wanted |= {"for": "127.0.0.1", "prefix": "/bench"}
    if not seen.get("id") or any(seen.get(name) != value for name, value in wanted.items()):
        raise ContenderWrong(f"{contender.name}: the backend was told {text!r} (status {status})")


def _get(port: int, path: str, headers: dict[str, str]) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def _expect(
    contender: Contender, what: str, answer: tuple[int, str], status: int, body: str | None = None
) -> None:
    if answer[0] != status or (body is not None and answer[1] != body):
        raise ContenderWrong(
            f"{contender.name}: with {what} it answered {answer[0]} {answer[1][:200]!r}, not {status}"
        )
