"""What is printed once the gateway serves: the addresses, a curl for each backend, where the config is."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from rich.rule import Rule
from rich.text import Text

from gateway import console
from gateway.app import Gateway
from gateway.core.compile import DOCUMENTS
from gateway.services.keys import issue

_DEMO_TTL = 12 * 3600.0


def show(gateway: Gateway, config_path: str) -> None:
    """Print it to standard output."""
    config = gateway.config
    public = f"http://{_reachable(*config.listen[0])}"
    rows = [("public", public), ("admin", f"http://{_reachable(*config.admin[0])}/admin/config")]
    rows.append(("routing", f"{_short(config.routing)}  (live: edit it while it runs)"))
    rows.append(("process", f"{_short(config_path)}  (a restart changes it)"))
    rows.append(("data", _short(config.data)))
    out = console.out
    out.print(Rule("The gateway is ready", style="green"))
    out.print(console.pairs(rows))
    curls = list(_curls(gateway, public))
    if curls:
        out.print(
            "\nTry it; the header file holds a demo token (12 h). A token of your own: gateway token --help"
        )
        for curl in curls:
            out.print(Text(curl, style="cyan"))
    out.print(Rule("Ctrl-C stops all of it", style="green"))


def _curls(gateway: Gateway, public: str) -> Iterable[str]:
    """One ready-to-paste command for the documents and each supervised backend that has a sample."""
    snapshot = gateway.live.current
    tenant = next((name for name, tenant in snapshot.tenants.items() if not tenant.disabled), None)
    if tenant is None:
        return
    header = _demo_header(gateway, tenant)
    paths = [route.strip + "/" for route in snapshot.table.routes if route.target_name == DOCUMENTS]
    running = {state["name"] for state in gateway.supervisor.states()}
    paths += [c.sample for c in gateway.config.commands if c.sample and c.name in running]
    for path in paths:
        yield f"curl -H @{shlex.quote(str(header))} {public}{path}"


def _demo_header(gateway: Gateway, tenant: str) -> Path:
    """A token with every scope that the routes ask for, as a header in a file of mode 0600: it is on no
    screen, in no shell history and in no process list."""
    config = gateway.config
    scopes: set[str] = set()
    for route in gateway.live.current.table.routes:
        scopes |= route.read_scopes | route.write_scopes
    token = issue(Path(config.keys), config.tokens, tenant, " ".join(sorted(scopes)), "demo", _DEMO_TTL)
    path = Path(os.path.abspath(config.data)) / "demo-token.header"  # noqa: PTH100
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"Authorization: Bearer {token}\n")
    return path


def _reachable(host: str, port: int) -> str:
    """The address as a client on this machine writes it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _short(path: str) -> str:
    """Relative to here when it lies below."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)
