"""The config in ZooKeeper: one node holds the very text, so that zkCli can read it and set it.

Beside it, `PATH-revision` says in JSON what ZooKeeper cannot: number, author, reason. Both are set in one
transaction, and the second counts only for the text whose digest it has. For a text that somebody else set,
the first process that reads it writes the next number there, so that all give it the same one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from typing import Any
from uuid import uuid4

from gateway.config.ports import NOTHING, ConfigRefused, Found, SourceChanged
from gateway.config.zookeeper import Away, Check, Conflict, Create, Forbidden, Node, Put, Step, ZooKeeper
from gateway.core.config.revision import Draft, Origin, digest_of
from gateway.core.routing.problems import Problem
from gateway.runtime.files import not_utf8
from gateway.runtime.periodic import Boundary

_LOOK = 2.0  # seconds until the node is looked at again, although no watch told of it
_TRIES = 10
_SETTLES, _PAUSE = 8, 0.5  # looks, and seconds between two, at what became of a write whose answer was lost
# What a server takes at once, unless all are told otherwise (jute.maxbuffer), less what is around it.
_MOST = 1024 * 1024 - 1 - 4096
_AWAY = Problem(
    (), "ZooKeeper does not answer", "look whether its servers run, and at [config] servers; tried again soon"
)
_SOMEBODY = Origin("zookeeper", "", "zookeeper")
_RACE = Problem((), "it changes again and again while it is read", "end what writes it")


@dataclass(frozen=True, slots=True)
class _About:
    """What `PATH-revision` says. write: this write's own, by which it is found when its answer was lost.
    confirm_by, run: as of a Draft; confirm_by is 0.0 once it is confirmed."""

    number: int
    parent: int
    digest: str
    at: float
    author: str
    reason: str
    source: str
    address: str
    restores: int
    write: str
    confirm_by: float = 0.0
    run: str = ""

    def data(self) -> bytes:
        return json.dumps(asdict(self), ensure_ascii=False).encode()


class ZooKeeperSource:
    """See ConfigSource. path: of the node. zookeeper: started and closed by its owner."""

    kind = "zookeeper"
    of_revisions = False
    tells_wait = True

    def __init__(self, zookeeper: ZooKeeper, path: str) -> None:
        self.path = path
        self.name = zookeeper.name + path
        self._zookeeper = zookeeper
        self._about_path = f"{path}-revision"

    @property
    def available(self) -> bool:
        """See ConfigSource."""
        return self._zookeeper.available

    def status(self) -> dict[str, Any]:
        """Nothing more is to be told."""
        return {}

    async def read(self) -> Found:
        """See ConfigSource."""
        try:
            return await self._read()
        except Away:
            raise self._refused(_AWAY, transient=True) from None
        except Forbidden:
            raise self._refused(_forbidden("read")) from None

    async def _read(self) -> Found:
        for _ in range(_TRIES):
            node = await self._zookeeper.get(self.path)
            if node is None or not node.data.strip():
                raise self._empty(node)
            text = self._decoded(node.data)
            beside = await self._zookeeper.get(self._about_path)
            about = _parse(beside)
            if about is None or about.digest != digest_of(text):
                about = _next(Draft(text, _SOMEBODY, node.at), about)
                try:
                    await self._zookeeper.commit(Check(self.path, node.version), self._beside(about, beside))
                except Conflict:
                    continue
                except Forbidden:  # read and not write: no number for all
                    return _found(text, _version(node, beside), None)
                beside = await self._zookeeper.get(self._about_path)
            return _found(text, _version(node, beside), about)
        raise self._refused(_RACE, transient=True)

    def _beside(self, about: _About, beside: Node | None) -> Step:
        if beside is None:
            return Create(self._about_path, about.data())
        return Put(self._about_path, about.data(), beside.version)

    async def settled(self) -> bool:
        """A node is set whole."""
        return True

    async def write(self, draft: Draft, over: Found, *, keep: bool = False) -> Found:
        """See ConfigSource. A text beyond ZooKeeper's megabyte is refused before anything is sent."""
        return await self._changed(self._write(draft, over))

    async def confirm(self, found: Found) -> Found:
        """See ConfigSource. The text is set too, as it is: so all who watch it look."""
        return await self._changed(self._confirm(found)) if found.confirm_by else found

    async def _changed(self, work: Awaitable[Found]) -> Found:
        try:
            return await work
        except Conflict:
            raise SourceChanged from None
        except Away:
            raise self._refused(_AWAY, transient=True) from None
        except Forbidden:
            raise self._refused(_forbidden("change")) from None

    async def put_back(self, written: Found, over: Found) -> None:
        """See ConfigSource."""
        if over == NOTHING:
            raise self._refused(Problem((), "there was no text before it", "it stays"))
        await self.write(Draft(over.text, over.origin, over.at), written)

    async def _write(self, draft: Draft, over: Found) -> Found:
        node = await self._zookeeper.get(self.path)
        beside = await self._zookeeper.get(self._about_path)
        there = node is not None and bool(node.data.strip())
        if there != (over != NOTHING) or (there and _version(node, beside) != over.version):
            raise SourceChanged
        about = _next(draft, _parse(beside), over.number)
        data = draft.text.encode()
        self._check_size(len(data) + len(about.data()))
        if node is None:
            await self._ensure_parent()
        text: Step = Create(self.path, data) if node is None else Put(self.path, data, node.version)
        return await self._committed(draft.text, about, text, self._beside(about, beside))

    async def _confirm(self, found: Found) -> Found:
        node = await self._zookeeper.get(self.path)
        beside = await self._zookeeper.get(self._about_path)
        about = _parse(beside)
        if node is None or about is None or _version(node, beside) != found.version:
            raise SourceChanged
        about = replace(about, confirm_by=0.0, write=uuid4().hex)
        text = Put(self.path, node.data, node.version)
        return await self._committed(found.text, about, text, self._beside(about, beside))

    async def _committed(self, text: str, about: _About, *steps: Step) -> Found:
        try:
            await self._zookeeper.commit(*steps)
        except Away:
            await self._settle(about)
        return await self._written(text, about)

    async def _written(self, text: str, about: _About) -> Found:
        """What was written, as it is there now. Where somebody was faster, the next write finds that out."""
        try:
            node = await self._zookeeper.get(self.path)
            beside = await self._zookeeper.get(self._about_path)
        except Away:
            node = beside = None
        mine = node is not None and node.data == text.encode() and _parse(beside) == about
        return _found(text, _version(node, beside) if mine else "", about)

    async def _settle(self, about: _About) -> None:
        """Find out whether a write came through whose answer was lost. Raises ConfigRefused if it did not."""
        for _ in range(_SETTLES):
            try:
                there = _parse(await self._zookeeper.get(self._about_path))
            except Away:
                await asyncio.sleep(_PAUSE)
                continue
            if there is not None and there.write == about.write:
                return
            reason = "the connection to ZooKeeper was lost while it was written: nothing was changed"
            raise self._unknown(reason, "try it again")
        reason = "ZooKeeper went away while it was written: whether it was shows when it is back"
        raise self._unknown(reason, "look then at the newest revision")

    def _unknown(self, reason: str, hint: str) -> ConfigRefused:
        return ConfigRefused(self.name, [Problem((), reason, hint)], transient=True, unknown=True)

    async def _ensure_parent(self) -> None:
        parent = self.path.rpartition("/")[0]
        if parent:
            await self._zookeeper.ensure(parent)

    def _check_size(self, size: int) -> None:
        if size > _MOST:
            reason = f"it has {size} bytes with what is said about it; ZooKeeper takes {_MOST}"
            hint = "make it shorter, or keep it elsewhere ([config] source)"
            raise self._refused(Problem((), reason, hint))

    async def watch(self, changed: Callable[[], Awaitable[object]]) -> None:
        """See ConfigSource. By a watch, which is set again whenever it was used or its connection lost; and
        the node is looked at now and then all the same."""
        boundary = Boundary(f"watching {self.name}")
        seen = -1
        while True:
            self._zookeeper.woken.clear()
            with boundary:
                try:
                    now = await self._zookeeper.last_change(self.path)
                except (Away, Forbidden):
                    now = -1  # when it is back, it is read
                if now not in (seen, -1):
                    await changed()
                seen = now
            await self._woken()

    async def _woken(self) -> None:
        try:
            async with asyncio.timeout(_LOOK):
                await self._zookeeper.woken.wait()
        except TimeoutError:
            return

    def _decoded(self, data: bytes) -> str:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self._refused(Problem((), *not_utf8(data, error.start))) from None

    def _empty(self, node: Node | None) -> ConfigRefused:
        reason = "there is no such node" if node is None else "the node is empty"
        hint = "set it to the text of a routing config, or apply one (gateway apply)"
        return ConfigRefused(self.name, [Problem((), reason, hint)], empty=True)

    def _refused(self, problem: Problem, *, transient: bool = False) -> ConfigRefused:
        return ConfigRefused(self.name, [problem], transient=transient)


def _next(draft: Draft, before: _About | None, least: int = 0) -> _About:
    """What is said about a text that follows. least: its number is above this one too."""
    parent, origin = max(least, before.number if before else 0), draft.origin
    who = origin.author, origin.reason, origin.source, origin.address
    more = draft.restores, uuid4().hex, draft.confirm_by, draft.run
    return _About(parent + 1, parent, draft.digest, draft.at, *who, *more)


def _version(node: Node | None, beside: Node | None) -> str:
    """Of both: what is said about a text may change, and the text not."""
    return f"{node.changed if node else 0}-{beside.changed if beside else 0}"


def _found(text: str, version: str, about: _About | None) -> Found:
    if about is None:
        return Found(text, version, _SOMEBODY)
    origin = Origin(about.author, about.reason, about.source, about.address)
    more = about.number, about.at, about.restores, about.confirm_by, about.run
    return Found(text, version, origin, *more)


def _parse(node: Node | None) -> _About | None:
    """None for what is not there, or what somebody else wrote."""
    try:
        fields: dict[str, Any] = json.loads(node.data) if node is not None else {}
        about = _About(**fields)
        numbers = about.number, about.parent, about.restores
        texts = about.digest, about.author, about.reason, about.source, about.address, about.write, about.run
    except (ValueError, TypeError, AttributeError):
        return None
    right = all(type(one) is int and one >= 0 for one in numbers) and all(type(one) is str for one in texts)
    times = all(isinstance(one, int | float) for one in (about.at, about.confirm_by))
    return about if right and times else None


def _forbidden(what: str) -> Problem:
    hint = f"let the user of [config] credentials {what} it (getAcl shows who may)"
    return Problem((), f"ZooKeeper does not let this gateway {what} it", hint)
