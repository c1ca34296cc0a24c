"""gateway documents copy: tenants from one store to another; with --move while gateways serve them."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.text import Text

from gateway.auth.keys import CURSOR_KEY, ensure_secret
from gateway.cli import console, process_config
from gateway.cli.documents import running
from gateway.cli.documents.engine import Engine, Unusable, reason
from gateway.core.errors import GatewayError, StoreUnavailable
from gateway.core.model import TenantId
from gateway.core.process import mongo_uri, store_uri
from gateway.core.process.settings import ProcessConfig
from gateway.store.moving.port import LogGone, Moves
from gateway.store.moving.store import SETTLE_SECONDS
from gateway.store.moving.tenant import NotMoved, Report, Side, TenantCopy
from gateway.store.opening import document_store, moves
from gateway.store.port import DocumentStore

_SHOWN = 16  # digits of a digest, for people


@dataclass(frozen=True, slots=True)
class Uris:
    """The stores' URIs, which may hold passwords: never shown. data: the data folder."""

    source: str
    target: str
    data: Path


@dataclass(frozen=True, slots=True)
class _Place:
    store: DocumentStore
    moves: Moves


def uris(arguments: argparse.Namespace, config: ProcessConfig) -> Uris:
    """The stores that are meant. Raises Unusable."""
    source = _uri(arguments.source, config, config.store_uri, "--from")
    target = _uri(arguments.target, config, config.store_next, "--to")
    if not target:
        raise Unusable("there is no target: name it with --to, or as [store] next in the config")
    if _location(source) == _location(target):
        raise Unusable(f"source and target are the same, {_location(source)}: name another one with --to")
    if arguments.move and (source, target) != (config.store_uri, config.store_next):
        text = "--move asks the gateways to follow, so both stores must be in the config:"
        raise Unusable(f"{text} [store] uri the source, [store] next the target; then restart the gateways")
    return Uris(source, target, Path(config.data))


def run(arguments: argparse.Namespace) -> int:
    """gateway documents copy: from the store that is meant, which need not be that of the config."""
    config = process_config.load(arguments.config)
    try:
        of = uris(arguments, config)
    except Unusable as error:
        console.fail(reason(error))
        return 1
    return running.run(partial(copy, uris=of), arguments, replace(config, store_uri=of.source))


async def copy(arguments: argparse.Namespace, engine: Engine, uris: Uris) -> int:
    """Copy, or move, the named tenants, or all. engine: of the source. Returns 1 when one was not."""
    done: dict[str, Report] = {}
    failed: dict[str, NotMoved] = {}
    to = _location(uris.target)
    source_key = "--from" if arguments.source is not None else "[store] uri"
    target_key = "--to" if arguments.target is not None else "[store] next"
    opened = _opened(uris.source, uris, source_key), _opened(uris.target, uris, target_key)
    async with opened[0] as source, opened[1] as target:
        run = _Run(engine, source, target, to if arguments.move else None, arguments.json)
        chosen = await engine.chosen(arguments.tenants)
        await run.each(chosen, done, failed)
        if arguments.move and not arguments.tenants and not failed:
            await target.moves.arrive_all()
            await source.moves.leave_all(to)
            await asyncio.sleep(SETTLE_SECONDS)
            left = (await source.moves.moved()).tenants
            new = [tenant for tenant in await engine.operator.tenants() if tenant.value not in left]
            await run.each(new, done, failed)
    if arguments.json:
        print(json.dumps(_as_json(engine.location, to, done, failed), indent=2))
    elif not done and not failed:
        console.err.print(f"no tenant has documents in {engine.location}", markup=False)
    if not arguments.json and arguments.move and not arguments.tenants and not failed:
        hint = f"all tenants are in {to}: make it [store] uri, remove [store] next, and restart the gateways"
        console.err.print(Text(f"    {hint}", style="green"))
    return 1 if failed else 0


class _Run:
    """to: the target's location where tenants are moved, None where they are copied."""

    def __init__(self, engine: Engine, source: _Place, target: _Place, to: str | None, quiet: bool) -> None:
        self._engine = engine
        self._source, self._target = source, target
        self._to, self._quiet = to, quiet

    async def each(
        self, tenants: Iterable[TenantId], done: dict[str, Report], failed: dict[str, NotMoved]
    ) -> None:
        """One tenant after the other. What one lacks keeps no other from it; a store that is away does."""
        left = set() if self._to is None else set((await self._source.moves.moved()).tenants)
        for tenant in tenants:
            if tenant.value in left:
                continue  # it was moved before
            try:
                done[tenant.value] = await self._one(tenant)
            except NotMoved as error:
                failed[tenant.value] = error
            except LogGone:
                hint = "run it again when less is written"
                failed[tenant.value] = NotMoved(f"{tenant} changes faster than it is copied: {hint}")
            except GatewayError as error:
                error.add_note(f"{tenant} was not copied as a whole: the same command goes on with it")
                raise
            finally:
                self._engine.meter.end()
            if not self._quiet:
                self._show(tenant.value, done, failed)

    async def _one(self, tenant: TenantId) -> Report:
        meter = self._engine.meter
        meter.begin(f"copying {tenant}")
        source = Side(self._source.store.tenant(tenant), self._source.moves)
        target = Side(self._target.store.tenant(tenant), self._target.moves)

        def show(done: int, total: int, step: str) -> None:
            meter.show(done, total, f"{step} {done:,}")

        return await TenantCopy(tenant, source, target, show).run(self._to)

    def _show(self, name: str, done: dict[str, Report], failed: dict[str, NotMoved]) -> None:
        if name in failed:
            console.fail(str(failed[name]))
            for at, why in failed[name].refused.items():
                console.err.print(Text(f"    {at}: {why}", style="red"))
            return
        report = done[name]
        text = f"{name}  {report.written:,} written, {report.unchanged:,} there already"
        text += f", {report.removed:,} removed" if report.removed else ""
        if report.held is not None:
            text += f"; its writes waited for {report.held * 1000:,.0f} ms"
        word = "copied " if report.held is None else "moved "
        console.out.print(Text(word, style="bold green").append(text, style="not bold default"))
        for collection, (count, digest) in report.collections.items():
            line = f"    {collection}  {console.count(count, 'document')}  {digest[:_SHOWN]} in both"
            console.out.print(Text(line))


def _as_json(
    source: str, target: str, done: dict[str, Report], failed: dict[str, NotMoved]
) -> dict[str, object]:
    tenants = [
        {
            "tenant": name,
            "moved": report.held is not None,
            "held_seconds": report.held,
            "written": report.written,
            "unchanged": report.unchanged,
            "removed": report.removed,
            "collections": [
                {"name": collection, "documents": count, "digest": digest}
                for collection, (count, digest) in report.collections.items()
            ],
        }
        for name, report in done.items()
    ]
    not_done = [{"tenant": n, "reason": str(error), "refused": error.refused} for n, error in failed.items()]
    return {"from": source, "to": target, "tenants": tenants, "failed": not_done}


@asynccontextmanager
async def _opened(uri: str, uris: Uris, named: str) -> AsyncIterator[_Place]:
    """The store of a URI, for who moves tenants. named: where that is written, for errors."""
    key = ensure_secret(uris.data / CURSOR_KEY)  # a new database gets it, and cursors go on counting
    store, its_moves = document_store(uri, key, moved_too=True), moves(uri)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(its_moves.close)
        try:
            await store.start()
        except StoreUnavailable as error:
            raise Unusable(reason(error).replace("[store] uri", named)) from None
        stack.push_async_callback(store.close)
        yield _Place(store, its_moves)


def _uri(text: str | None, config: ProcessConfig, default: str, option: str) -> str:
    """An option's URI in the form of the config's. Raises Unusable, which does not repeat it."""
    if text is None:
        return default
    if wrong := store_uri.problem(text):
        raise Unusable(f"{option}: {'; '.join(wrong)}")
    return store_uri.under(text, config.data)


def _location(uri: str) -> str:
    return uri if uri.startswith(store_uri.SQLITE) else mongo_uri.without_secrets(uri)
