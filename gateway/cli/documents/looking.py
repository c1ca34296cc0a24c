"""gateway documents tenants | verify: who has documents, how many, and whether all is as it was written."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from gateway.cli import console
from gateway.cli.documents.engine import Engine, reason
from gateway.core.errors import NotFound, StoreUnavailable
from gateway.store.operator import TenantSize


async def tenants(arguments: argparse.Namespace, engine: Engine) -> int:
    """Print the tenants with documents, and their sizes. Returns 1 when one cannot be read."""
    sizes: list[TenantSize] = []
    broken: dict[str, str] = {}
    for tenant in await engine.operator.tenants():
        engine.meter.begin(f"reading {tenant}")
        try:
            sizes.append(await engine.operator.size(tenant))
        except NotFound:  # deleted meanwhile
            continue
        except StoreUnavailable as error:
            broken[tenant.value] = reason(error)
    engine.meter.end()
    if arguments.json:
        rows = [{**asdict(size), "tenant": size.tenant.value} for size in sizes]
        failed = [{"tenant": name, "reason": why} for name, why in broken.items()]
        print(json.dumps({"store": engine.location, "tenants": rows, "failed": failed}, indent=2))
    else:
        if sizes:
            console.out.print(_table(sizes))
        elif not broken:
            console.err.print(f"no tenant has documents in {engine.location}", markup=False)
        for why in broken.values():
            console.fail(why)
    return 1 if broken else 0


def _table(sizes: list[TenantSize]) -> Table:
    footer = len(sizes) > 1
    table = Table(box=None, pad_edge=False, show_footer=footer, header_style="bold", footer_style="bold")
    stored = console.amount(sum(size.stored_bytes for size in sizes))
    table.add_column("TENANT", footer=console.count(len(sizes), "tenant"), style="cyan")
    totals = (
        ("COLLECTIONS", f"{sum(size.collections for size in sizes):,}"),
        ("DOCUMENTS", f"{sum(size.documents for size in sizes):,}"),
        ("JSON", console.amount(sum(size.bytes for size in sizes))),
        ("ON DISK", stored),
    )
    for title, total in totals:
        table.add_column(title, footer=total, justify="right")
    for size in sizes:
        texts = console.amount(size.bytes), console.amount(size.stored_bytes)
        table.add_row(size.tenant.value, f"{size.collections:,}", f"{size.documents:,}", *texts)
    return table


async def verify(arguments: argparse.Namespace, engine: Engine) -> int:
    """Verify the data of the named tenants, or of all. Returns 1 when something is wrong."""
    found: dict[str, tuple[str, ...]] = {}
    for tenant in await engine.chosen(arguments.tenants):
        engine.meter.begin(f"verifying {tenant}")
        try:
            found[tenant.value] = await engine.operator.verify(tenant)
        except NotFound:  # deleted meanwhile
            continue
        engine.meter.end()
        if not arguments.json:
            _print_verdict(tenant.value, found[tenant.value])
    wrong = any(found.values())
    if arguments.json:
        rows = [{"tenant": name, "problems": list(problems)} for name, problems in found.items()]
        print(json.dumps({"store": engine.location, "whole": not wrong, "tenants": rows}, indent=2))
    elif not found:
        console.err.print(f"no tenant has documents in {engine.location}", markup=False)
    return 1 if wrong else 0


def _print_verdict(tenant: str, problems: tuple[str, ...]) -> None:
    if not problems:
        console.out.print(Text("whole ", style="bold green").append(tenant, style="not bold default"))
        return
    text = Text("wrong ", style="bold red").append(tenant, style="not bold default")
    for problem in problems:
        text.append(f"\n    {problem}", style="red")
    hint = f"save what can be read (gateway documents export {tenant} -o DIR), stop the gateway, put a backup"
    hint += f" in place (gateway documents restore DIR {tenant} --force); an index alone: declare it anew"
    console.out.print(text.append(f"\n    hint: {hint}", style="green"))
