"""gateway documents import: lines of NDJSON become documents; an import that stopped can be resumed."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from rich.text import Text

from gateway.cli import console
from gateway.cli.documents.engine import Engine, Unusable, reason
from gateway.core.errors import GatewayError, NotFound, NotSupportedByStore
from gateway.store.model import collection as collections
from gateway.store.model.document import check_collection
from gateway.store.model.write import Outcome
from gateway.store.port import TenantStore
from gateway.store.transfer import ImportCounts, NumberedLines, import_lines

_CHUNK = 256 * 1024  # bytes


class _Stopped(Exception):
    """A signal asked to stop. number: of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"a signal ({signal.Signals(number).name}) stopped it")
        self.number = number


class _Source:
    """A file or standard input, in chunks. read: bytes so far. size: bytes in all, None when unknown."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.read = 0
        status = os.fstat(file.fileno())
        self.size = status.st_size or None  # none of a pipe or terminal

    def stop(self, number: int) -> None:
        """End the chunks, for a signal of this number."""
        if not self._stopped.done():
            self._stopped.set_result(number)

    async def chunks(self) -> AsyncIterator[bytes]:
        """What is read, until the end. Raises _Stopped between two chunks."""
        while True:
            await self._readable()
            if self._stopped.done():
                raise _Stopped(self._stopped.result())
            chunk = os.read(self._file.fileno(), _CHUNK)
            if not chunk:
                return
            self.read += len(chunk)
            yield chunk

    async def _readable(self) -> None:
        """Wait until there is something to read, or stop was called."""
        loop, descriptor = asyncio.get_running_loop(), self._file.fileno()
        ready: asyncio.Future[None] = loop.create_future()
        try:
            loop.add_reader(descriptor, _set, ready)
        except PermissionError:  # epoll: a regular file is always ready
            await asyncio.sleep(0)
            return
        try:
            await asyncio.wait((ready, self._stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(descriptor)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def import_(arguments: argparse.Namespace, engine: Engine) -> int:
    """Import a file or standard input. Returns 0 when every line was written or skipped, 1 when some failed
    or it stopped, 130 or 143 after a signal."""
    try:
        check_collection(arguments.collection)
    except GatewayError as error:
        raise Unusable(f"{arguments.collection!r}: {error}") from None
    settings = None
    if arguments.settings is not None:
        try:
            settings = collections.parse(Path(arguments.settings).read_bytes())
        except GatewayError as error:
            raise Unusable(f"{arguments.settings}: {_detail(error.detail, error.extra)}") from None
    if arguments.source != "-" and Path(arguments.source).is_dir():
        raise Unusable(f"{arguments.source} is a folder; name a file of NDJSON")
    if arguments.tenant not in await engine.operator.tenants():
        console.err.print(f"[yellow]note:[/] {arguments.tenant} had no documents until now")
    with _input(arguments.source) as file:
        async with engine.tenant(arguments.tenant) as store:
            if settings is not None:
                await store.put_collection(arguments.collection, settings)
            running = _Import(arguments, engine, _Source(file))
            await running.run(store)
    return running.end()


@contextmanager
def _input(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
    else:
        with Path(name).open("rb") as file:
            yield file


class _Import:
    """One import, and its report."""

    def __init__(self, arguments: argparse.Namespace, engine: Engine, source: _Source) -> None:
        self._arguments = arguments
        self._meter = engine.meter
        self._source = source
        self._name = "standard input" if arguments.source == "-" else arguments.source
        self._counts = ImportCounts(lines=arguments.from_line - 1)
        self._failures: list[dict[str, Any]] = []
        self._why = ""  # the reason why it stopped before the end
        self._unwritten = 0  # the first line that the disk had no room for
        self._code = 1

    async def run(self, store: TenantStore) -> None:
        """Import all lines, or stop with a reason. Raises NotFound, NotSupportedByStore."""
        loop = asyncio.get_running_loop()
        self._meter.begin(f"importing {self._arguments.collection}")
        lines = NumberedLines(self._source.chunks())
        replacing = self._arguments.replace
        written = import_lines(store, self._arguments.collection, self._from(lines), replacing=replacing)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._source.stop, number)
        try:
            async with aclosing(written) as batches:
                async for outcomes in batches:
                    for outcome in outcomes:
                        self._settle(lines.numbers.popleft(), outcome)
                    self._show()
                    if self._why:
                        return
        except _Stopped as stopped:
            self._why, self._code = str(stopped), 128 + stopped.number
        except (NotFound, NotSupportedByStore):
            raise
        except GatewayError as error:
            self._why = reason(error)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def _from(self, lines: NumberedLines) -> AsyncIterator[bytes]:
        async for line in lines.read():
            if lines.numbers[-1] >= self._arguments.from_line:
                yield line
            else:
                lines.numbers.pop()

    def _settle(self, number: int, outcome: Outcome) -> None:
        if outcome.status == 507:
            if not self._unwritten:
                self._unwritten = number
                self._why = f"{(outcome.error or {}).get('detail')} Make room on the disk."
            return
        if self._counts.add(number, outcome, replacing=self._arguments.replace):
            return
        self._failures.append({"line": number, **outcome.data})
        if not self._arguments.json:
            self._print_failure(number, outcome.error or {})
        if self._counts.failed >= self._arguments.max_errors:
            self._why = f"{console.count(self._counts.failed, 'line')} failed (--max-errors)"

    def _print_failure(self, number: int, error: Mapping[str, Any]) -> None:
        text = Text(f"{self._name}:{number}", style="bold")
        text.append(f"\n    {_detail(str(error.get('detail')), error)}", style="red")
        console.err.print(text)

    def _show(self) -> None:
        self._meter.show(self._source.read, self._source.size, f"line {self._counts.lines:,}")

    def end(self) -> int:
        """Print the report; returns the exit code."""
        self._meter.end()
        counts, done = self._counts, not self._why
        code = self._code if self._why or counts.failed else 0
        if self._arguments.json:
            report = {"done": done, **asdict(counts), "next_line": self._next, "errors": self._failures}
            print(json.dumps({**report, "reason": self._why}, indent=2))
            return code
        figures = f"{counts.created:,} created, {counts.replaced:,} replaced,"
        figures += f" {counts.skipped:,} skipped (there already), {counts.failed:,} failed"
        style = "bold green" if code == 0 else "bold yellow"
        console.out.print(Text("imported ", style=style).append(figures, style="not bold default"))
        if self._why:
            console.fail(f"{self._name}: stopped before line {self._next}: {self._why}")
            console.err.print(Text(f"    go on with: {self._resume_command()}", style="green"))
        elif counts.failed:
            hint = "correct those lines, import them alone; lines with an id may be sent again without harm"
            console.err.print(Text(f"    hint: {hint}", style="green"))
        return code

    @property
    def _next(self) -> int:
        """The first line that is not settled."""
        return self._unwritten or self._counts.lines + 1

    def _resume_command(self) -> str:
        arguments = self._arguments
        words = ["gateway", "documents", "import", "-c", arguments.config]
        words += ["--replace"] * arguments.replace + ["--from-line", str(self._next)]
        return shlex.join([*words, str(arguments.tenant), arguments.collection, arguments.source])


def _detail(detail: str, members: Mapping[str, Any]) -> str:
    """The detail of an error, and what is wrong with each member of the line."""
    problems = [f"{item.get('pointer') or '/'} {item.get('detail')}" for item in members.get("errors", ())]
    if not problems:
        return detail
    return f"{detail.removesuffix('.').removesuffix('; see errors')}: {'; '.join(problems)}"
