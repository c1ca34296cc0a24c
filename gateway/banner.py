"""What is printed once the gateway serves: the addresses, where the config is, and commands to try."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.rule import Rule
from rich.text import Text

from gateway import console
from gateway.app import Gateway
from gateway.core.compile import DOCUMENTS
from gateway.core.errors import GatewayError
from gateway.core.model import Route
from gateway.edge.listener import reachable
from gateway.services.keys import KeysUnusable, issue
from gateway.store import durable

_LAST_LINES = 10
_DEMO_TTL = 12 * 3600.0
_OPERATORS = "gateway:"  # scopes of this kind rule the gateway itself: never in a file for trying things out


def show(gateway: Gateway, config_path: str, *, demo: bool) -> None:
    """Print it to standard output. demo: also make a demo token, and show a curl for each backend."""
    config = gateway.config
    public = f"http://{reachable(*config.listen[0])}"
    rows = [("public", public), ("admin", f"http://{reachable(*config.admin[0])}/admin/config")]
    rows.append(("routing", f"{console.short(config.routing)}  (live: edit it while it runs)"))
    rows.append(("process", f"{console.short(config_path)}  (a restart changes it)"))
    rows.append(("data", console.short(config.data)))
    out = console.out
    out.print(Rule("The gateway is ready", style="green"))
    out.print(console.pairs(rows))
    if demo:
        try:
            _show_curls(list(_curls(gateway, public)))
        except (KeysUnusable, GatewayError, OSError) as error:
            out.print(Text(f"\nNo commands to try, for there is no demo token: {error}", style="yellow"))
    _show_failures(gateway)
    out.print(Rule("Ctrl-C stops all of it", style="green"))


def _show_failures(gateway: Gateway) -> None:
    """The backends that do not run, each with its reason, the end of what it printed, and what to do."""
    for failure in gateway.supervisor.failures:
        text = Text(f"\nBackend {failure.name} does not run: {failure.reason}\n", style="bold red")
        for line in failure.lines[-_LAST_LINES:]:
            text.append(f"    {line}\n", style="not bold red")
        if failure.hint:
            text.append(f"  hint: {failure.hint}\n", style="green")
        text.append("  All else is served, and it is started again and again.", style="not bold default")
        console.out.print(text)


def _show_curls(curls: list[str]) -> None:
    if not curls:
        return
    console.out.print(
        "\nTry it; the header file holds a demo token (12 h). A token of your own: gateway token --help"
    )
    for curl in curls:
        console.out.print(Text(curl, style="cyan"))


def _curls(gateway: Gateway, public: str) -> Iterable[str]:
    """One ready-to-paste command for the documents and each supervised backend that has a sample.

    Raises KeysUnusable, GatewayError, OSError when no demo token can be made.
    """
    snapshot = gateway.live.current
    tenant = next((name for name, tenant in snapshot.tenants.items() if not tenant.disabled), None)
    if tenant is None:
        return
    header = _demo_header(gateway, tenant)
    documents = [route for route in snapshot.table.routes if route.target_name == DOCUMENTS]
    paths = [route.strip + "/" for route in documents if not route.methods or "GET" in route.methods]
    running = {s["name"] for s in gateway.supervisor.states() if s["state"] == "running"}
    paths += [c.sample for c in gateway.config.commands if c.sample and c.name in running]
    for path in paths:
        yield f"curl -H @{shlex.quote(str(header))} {public}{path}"


def _demo_header(gateway: Gateway, tenant: str) -> Path:
    """A token with every scope that the routes ask for but those of operators, as a header in a file of mode
    0600: it is on no screen, in no shell history and in no process list."""
    config = gateway.config
    scope = " ".join(demo_scopes(gateway.live.current.table.routes))
    token = issue(Path(config.keys), config.tokens, tenant, scope, "demo", _DEMO_TTL)
    path = Path(os.path.abspath(config.data)) / "demo-token.header"  # noqa: PTH100
    with durable.replacing(path) as file:
        file.write(f"Authorization: Bearer {token}\n".encode())
    return path


def demo_scopes(routes: Iterable[Route[Any]]) -> list[str]:
    """What a demo token may do: all that the routes ask for, and nothing that rules the gateway."""
    scopes: set[str] = set()
    for route in routes:
        by_method = route.method_scopes.values()
        scopes |= route.read_scopes.union(route.write_scopes, route.manage_scopes, *by_method)
    return sorted(scope for scope in scopes if not scope.startswith(_OPERATORS))
