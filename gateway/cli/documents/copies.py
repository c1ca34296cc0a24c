"""gateway documents backup, restore: a tenant's whole data as one file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.text import Text

from gateway.cli import console
from gateway.cli.documents.engine import Engine, Unusable, reason
from gateway.core.errors import GatewayError, NotFound, NotSupportedByStore, StoreUnavailable
from gateway.core.model import TenantId
from gateway.runtime import durable

SUFFIX = ".db"


async def backup(arguments: argparse.Namespace, engine: Engine) -> int:
    """Copy the named tenants' data, or everybody's, to files. Returns 1 when a tenant could not be copied;
    the others are."""
    chosen = await engine.chosen(arguments.tenants)
    if not chosen:
        raise Unusable(f"no tenant has documents in {engine.location}: there is nothing to copy")
    targets = _targets(Path(arguments.target), chosen)
    for target in targets.values():
        if target.exists():
            raise Unusable(f"{target} is there already; name another folder or file, or move it away")
    done: list[dict[str, object]] = []
    failed: list[dict[str, str]] = []
    for tenant, target in targets.items():
        engine.meter.begin(f"copying {tenant}")
        durable.make_folder(target.parent)
        try:
            size = await engine.operator.backup(tenant, target)
        except NotSupportedByStore:
            raise
        except (GatewayError, OSError) as error:
            engine.meter.end()
            failed.append({"tenant": tenant.value, "reason": reason(error)})
            continue
        done.append({"tenant": tenant.value, "file": str(target), "bytes": size})
        engine.meter.end()
        if not arguments.json:
            _print_done("copied", f"{tenant}  {target}  {console.amount(size)}")
    if arguments.json:
        print(json.dumps({"copied": done, "failed": failed}, indent=2))
    else:
        for item in failed:
            console.fail(f"{item['tenant']} was not copied: {item['reason']}")
    return 1 if failed else 0


def _targets(target: Path, chosen: tuple[TenantId, ...]) -> dict[TenantId, Path]:
    """Where each tenant's copy goes. Raises Unusable."""
    if target.suffix != SUFFIX or target.is_dir():
        if target.exists() and not target.is_dir():
            raise Unusable(f"{target} is a file; name a folder, or a new file that ends in {SUFFIX}")
        return {tenant: target / f"{tenant}{SUFFIX}" for tenant in chosen}
    if len(chosen) > 1:
        names = ", ".join(map(str, chosen))
        raise Unusable(f"{target} is for one tenant, and there are {names}; name one of them, or a folder")
    return {chosen[0]: target}


async def restore(arguments: argparse.Namespace, engine: Engine) -> int:
    """Put backups in place. Without --force nothing is touched when a tenant has documents already. Ends at
    the first failure, and returns 1."""
    sources = _sources(Path(arguments.source), arguments.tenants)
    if not arguments.force:
        await _refuse_data(engine, sources)
    left = list(sources)
    done: list[dict[str, object]] = []
    why = ""
    for tenant, source in sources.items():
        engine.meter.begin(f"restoring {tenant}")
        try:
            size = await engine.operator.restore(tenant, source, replace=arguments.force)
        except NotSupportedByStore:
            raise
        except (GatewayError, OSError) as error:
            engine.meter.end()
            why = reason(error)
            break
        left.remove(tenant)
        done.append({"tenant": tenant.value, "collections": size.collections, "documents": size.documents})
        engine.meter.end()
        if not arguments.json:
            _print_done("restored", f"{tenant}  {console.count(size.documents, 'document')}  from {source}")
    names = [tenant.value for tenant in left]
    if arguments.json:
        print(json.dumps({"restored": done, "not_restored": names, "reason": why}, indent=2))
    elif why:
        console.fail(f"{why.removesuffix('.')}. Not restored, and as they were: {', '.join(names)}.")
    return 1 if why else 0


def _sources(source: Path, named: list[TenantId]) -> dict[TenantId, Path]:
    """The file of each tenant to be restored. Raises Unusable."""
    if not source.exists():
        raise Unusable(f"there is no {source}; name a folder or a file that `gateway documents backup` made")
    if not source.is_dir():
        if len(named) != 1:
            hint = f"name the tenant: gateway documents restore {source} TENANT"
            raise Unusable(f"{source} is one tenant's data; {hint}")
        return {named[0]: source}
    if named:
        found = {tenant: source / f"{tenant}{SUFFIX}" for tenant in named}
    else:
        found = {_owner(path): path for path in sorted(source.glob(f"*{SUFFIX}"))}
    for path in found.values():
        if not path.is_file():
            raise Unusable(f"there is no {path}; look at what the folder holds")
    if not found:
        raise Unusable(f"{source} holds no backups (TENANT{SUFFIX})")
    return found


def _owner(path: Path) -> TenantId:
    try:
        return TenantId(path.stem)
    except ValueError:
        hint = f"move it away, or name the tenant: gateway documents restore {path} TENANT"
        raise Unusable(f"{path} is not called after a tenant; {hint}") from None


async def _refuse_data(engine: Engine, sources: dict[TenantId, Path]) -> None:
    """Raises Unusable when a tenant has documents already."""
    holders = []
    for tenant in sources:
        try:
            size = await engine.operator.size(tenant)
        except NotFound:
            continue
        except StoreUnavailable as error:
            holders.append(f"{tenant} ({reason(error)})")
            continue
        if size.collections:
            holders.append(f"{tenant} ({console.count(size.documents, 'document')})")
    if holders:
        raise Unusable(
            f"there is data already in {engine.location}: {', '.join(holders)}; nothing was changed. Add"
            " --force to replace it, or name a tenant that has none"
        )


def _print_done(done: str, text: str) -> None:
    console.out.print(Text(f"{done} ", style="bold green").append(text, style="not bold default"))
