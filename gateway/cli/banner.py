"""What `gateway up` and `serve` print once the gateway is ready: addresses, config files, commands to try."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable
from pathlib import Path

from rich.rule import Rule
from rich.text import Text

from gateway.auth.keys import KeysUnusable
from gateway.cli import console, demo
from gateway.core.errors import GatewayError
from gateway.core.process.listeners import Listen, url_of
from gateway.core.routing.compile_routes import DOCUMENTS
from gateway.planes.running import Running
from gateway.runtime.scheduling import workers

L = logging.getLogger(__name__)
_LAST_LINES = 10


async def prepare(gateway: Running) -> None:
    """Post the demo's seed, if the config names one. Failures are logged, and end nothing."""
    tenant = _tenant(gateway)
    url = url_of(gateway.bound)
    if not gateway.config.seed or tenant is None or not url:
        return
    try:
        seed = demo.read_seed(Path(gateway.config.seed))
        header = demo.header_file(gateway.config, tenant, gateway.live.current.table.routes)
        failures = await demo.post_seed(seed, url, header)
    except (KeysUnusable, GatewayError, OSError, ValueError) as error:
        failures = [str(error)]
    for text in failures:
        L.warning("Not in the demo: %s", text)


def _tenant(gateway: Running) -> str | None:
    """The tenant of the demo: the first that is not disabled."""
    tenants = gateway.live.current.tenants
    return next((name for name, tenant in tenants.items() if not tenant.disabled), None)


def show(gateway: Running, config_path: str, *, with_demo: bool, option: str = "") -> None:
    """Print the banner to standard output. with_demo: with a demo token, and a curl for each backend. option:
    what commands need to find this config, `-c PATH` where it is not a default one."""
    config = gateway.config
    public, console_at = url_of(config.listen), url_of(config.admin)
    program = console.program()
    rows = [("public", _shown(config.listen))]
    if console_at:
        rows.append(("admin", f"{console_at}/  (the console; signed in: {program} console{option})"))
    else:
        rows.append(("admin", _shown(config.admin)))
    if config.live.source == "file":
        rows.append(("routing", f"{console.short(config.routing)}  (live: edit it while it runs)"))
    else:
        edit = f"{program} edit{option}"
        rows.append(("routing", f"[config] source = {config.live.source}  (live: {edit})"))
    by = "a restart" if workers(config.workers) == 1 else f"{program} reload{option}"
    rows.append(("process", f"{console.short(config_path)}  ({by} changes it)"))
    rows.append(("data", console.short(config.data)))
    out = console.out
    live = gateway.live
    if live.synced:
        out.print(Rule("The gateway is ready", style="green"))
    else:
        out.print(Rule("The gateway serves the last good config", style="yellow"))
    out.print(console.pairs(rows))
    if with_demo and public:
        try:
            _show_curls(list(_curls(gateway, public)), option)
        except (KeysUnusable, GatewayError, OSError) as error:
            out.print(Text(f"\nNo commands to try, for there is no demo token: {error}", style="yellow"))
    if not gateway.store_available:
        text = "\nThe documents' store is not there (see the log). Documents are answered 503 until it is;"
        out.print(Text(f"{text} all else is served.", style="bold red"))
    if not live.synced:
        text = f"\n{live.source.name} could not be read yet (see the log). /readyz says 503 until it is."
        out.print(Text(text, style="bold red"))
    _show_failures(gateway)
    out.print(Rule("Ctrl-C stops all of it", style="green"))


def _shown(listens: Iterable[Listen]) -> str:
    """Where clients are served: what can be called from here by its URL, all else as it is written."""
    return "  ".join(one.url or one.line for one in listens)


def _show_failures(gateway: Running) -> None:
    """Print the backends that do not run, each with the reason, the end of its output, and a hint."""
    for failure in gateway.supervisor.failures:
        text = Text(f"\nBackend {failure.name} does not run: {failure.reason}\n", style="bold red")
        for line in failure.lines[-_LAST_LINES:]:
            text.append(f"    {line}\n", style="not bold red")
        if failure.hint:
            text.append(f"  hint: {failure.hint}\n", style="green")
        text.append("  All else is served, and it is started again and again.", style="not bold default")
        console.out.print(text)


def _show_curls(curls: list[str], option: str) -> None:
    if not curls:
        return
    own = f"{console.program()} token{option} --help"
    console.out.print(Text(f"\nTry it; the header file holds a demo token (12 h). One of your own: {own}"))
    for curl in curls:
        console.out.print(Text(curl, style="cyan"))


def _curls(gateway: Running, public: str) -> Iterable[str]:
    """One ready-to-paste command for the documents and each supervised backend that has a sample.

    Raises KeysUnusable, GatewayError, OSError when no demo token can be made.
    """
    snapshot = gateway.live.current
    tenant = _tenant(gateway)
    if tenant is None:
        return
    header = demo.header_file(gateway.config, tenant, snapshot.table.routes)
    documents = [route for route in snapshot.table.routes if route.target_name == DOCUMENTS]
    paths = [route.strip + "/" for route in documents if not route.methods or "GET" in route.methods]
    running = {s["name"] for s in gateway.supervisor.states() if s["state"] == "running"}
    paths += [c.sample for c in gateway.config.commands if c.sample and c.name in running]
    for path in paths:
        yield f"curl -H @{shlex.quote(str(header))} {public}{path}"
