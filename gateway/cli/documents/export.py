"""gateway documents export: documents as lines of NDJSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import BinaryIO

from rich.text import Text

from gateway.cli import console
from gateway.cli.documents.engine import Engine, Unusable
from gateway.runtime import durable
from gateway.store.model.collection import Collection
from gateway.store.model.query import MAX_LIMIT
from gateway.store.port import TenantStore


async def export(arguments: argparse.Namespace, engine: Engine) -> int:
    """Write one collection to a file, or all of them into a folder, with their settings. Returns the exit
    code."""
    tenant, output = arguments.tenant, arguments.output
    await engine.chosen([tenant])
    async with engine.tenant(tenant) as store:
        known = {collection.name: collection async for collection in _collections(store)}
        if arguments.collection is None:
            if output == "-":
                raise Unusable("all collections need a folder: name one with -o, or name one collection")
            await _export_all(store, list(known.values()), Path(output), engine)
            return 0
        if arguments.collection not in known:
            there = ", ".join(known) or "none"
            raise Unusable(f"{tenant} has no collection {arguments.collection!r}; there are: {there}")
        try:
            with _output(output) as file:
                exported = await _export(store, known[arguments.collection], file, engine)
                file.flush()
        except BrokenPipeError:  # the reader has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return console.BROKEN_PIPE
        if output != "-":
            _print_done(f"{console.count(exported, 'document')} of {arguments.collection} to {output}")
    return 0


async def _export_all(store: TenantStore, known: list[Collection], folder: Path, engine: Engine) -> None:
    if folder.exists() and not folder.is_dir():
        raise Unusable(f"{folder} is a file; all collections need a folder")
    durable.make_folder(folder)
    for collection in known:
        path = folder / f"{collection.name}.ndjson"
        with _output(str(path)) as file:
            exported = await _export(store, collection, file, engine)
        if collection.declared:
            with _output(str(folder / f"{collection.name}.settings.json")) as file:
                file.write(json.dumps(collection.settings.data, indent=2).encode() + b"\n")
        _print_done(f"{console.count(exported, 'document')} of {collection.name} to {path}")


async def _export(store: TenantStore, collection: Collection, file: BinaryIO, engine: Engine) -> int:
    """Write the documents as NDJSON; returns their number."""
    lines = 0
    if not file.isatty():  # else the bar and the lines would overwrite each other
        engine.meter.begin(f"exporting {collection.name}")
    async with aclosing(store.export(collection.name)) as chunks:
        async for chunk in chunks:
            file.write(chunk)
            lines += chunk.count(b"\n")
            engine.meter.show(lines, max(lines, collection.documents), f"{lines:,}")
    return lines


async def _collections(store: TenantStore) -> AsyncIterator[Collection]:
    cursor = None
    while True:
        page = await store.collections(MAX_LIMIT, cursor)
        for collection in page.items:
            yield collection
        cursor = page.next
        if cursor is None:
            return


@contextmanager
def _output(name: str) -> Iterator[BinaryIO]:
    """Standard output, a pipe or device, or a file (mode 0600) that gets its name when it is complete."""
    path = Path(name)
    if name == "-":
        yield sys.stdout.buffer
    elif path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
    else:
        with durable.replacing(path) as file:
            yield file


def _print_done(text: str) -> None:
    console.err.print(Text("exported ", style="bold green").append(text, style="not bold default"))
