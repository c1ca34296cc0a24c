"""The only file that names kazoo: ASAB's connection to ZooKeeper, the few operations that the config asks of
it, and what each of the client's errors means.

ASAB's container has the servers, the client and the events of its state. Three things of it are done
otherwise here. It waits for a server in a thread, without an end: the process could not exit. When it is
connected, it asks the server from within the event loop, which stands still until the answer. And its client
waits longer and longer for a server that is away, up to a minute and a half: what changed is to be seen soon.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock, Thread
from time import monotonic
from typing import Any

import asab.zookeeper
from asab.zookeeper.wrapper import KazooWrapper
from kazoo import exceptions as kazoo_errors
from kazoo.client import KazooClient, TransactionRequest
from kazoo.protocol.states import KazooState
from kazoo.retry import KazooRetry
from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE

from gateway.runtime.periodic import Boundary

L = logging.getLogger(__name__)
_KAZOO = logging.getLogger("kazoo.gateway")
_KAZOO.setLevel(logging.ERROR)  # it tells of each attempt, and below INFO of credentials
_ANSWER = 3.0  # seconds for an answer, and for a connection before it
_LEAVES = 2.0  # seconds that the session's end may take
_RENEWED = 10.0  # seconds without a connection, after which the old session is given up: it is lost by then
_LONGEST_PAUSE = 1.0  # seconds between two attempts to connect

_CONFLICT = (
    kazoo_errors.BadVersionError,
    kazoo_errors.NodeExistsError,
    kazoo_errors.NoNodeError,
    kazoo_errors.NotEmptyError,
)
_FORBIDDEN = (kazoo_errors.NoAuthError, kazoo_errors.InvalidACLError)
_LOST = (
    TimeoutError,
    kazoo_errors.ConnectionLoss,
    kazoo_errors.SessionExpiredError,
    kazoo_errors.ConnectionClosedError,
    kazoo_errors.AuthFailedError,
    kazoo_errors.OperationTimeoutError,
)


class Away(Exception):
    """No server answers. What was asked may have been done all the same."""


class Conflict(Exception):
    """A node is not as the steps take it for. Nothing was done."""


class Forbidden(Exception):
    """The node's ACL does not let us."""


@dataclass(frozen=True, slots=True)
class Node:
    """changed: the transaction that changed it last, unlike a version never the same twice. at: when, in
    seconds since the epoch. owner: the session that it ends with, 0 for none."""

    data: bytes
    version: int
    changed: int
    at: float
    owner: int


@dataclass(frozen=True, slots=True)
class Create:
    path: str
    data: bytes
    ephemeral: bool = False


@dataclass(frozen=True, slots=True)
class Put:
    """version: that it must have, -1 for any."""

    path: str
    data: bytes
    version: int = -1


@dataclass(frozen=True, slots=True)
class Check:
    path: str
    version: int


@dataclass(frozen=True, slots=True)
class Remove:
    path: str
    version: int = -1


Step = Create | Put | Check | Remove


class ZooKeeper:
    """One session, which is made anew when it is lost. start() from the event loop that uses it; close().

    servers: host:port, separated by commas. credentials: `user:password` of the scheme digest, "" for none;
    with some, only this user may read and change what is made here. application: ASAB's, which hears of
    the state. woken: set when a node may have changed whose `last_change` was asked for, as it may have when
    the connection was lost. Methods raise Away, and Forbidden.
    """

    def __init__(self, servers: str, *, credentials: str = "", application: Any = None) -> None:
        self.name = f"zookeeper://{servers}"
        self.woken = asyncio.Event()
        self._credentials = credentials
        self._container = _Container(servers, credentials, application, self._state_changed)
        self._client: KazooClient = self._container.ZooKeeper.Client
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connected = asyncio.Event()
        self._away = False
        self._renewed_at = 0.0
        self._closing = False
        self._one = Lock()  # of those that end and begin a session

    @property
    def available(self) -> bool:
        """Whether it was there when it was last asked."""
        return not self._away

    @property
    def session(self) -> int:
        """The number of the session, 0 for none."""
        known = self._client.client_id
        return int(known[0] or 0) if known else 0

    async def start(self) -> None:
        """Begin to connect; nothing waits for it."""
        self._loop = asyncio.get_running_loop()
        self._client.start_async()

    async def close(self) -> None:
        """End the session, and with it what is ephemeral; a server that does not answer is left."""
        ended = asyncio.Event()

        self._closing = True

        def end() -> None:
            with Boundary("closing the connection to ZooKeeper"), self._one:
                self._client.stop()
                self._client.close()
            self._soon(ended.set)

        Thread(target=end, name="ending ZooKeeper", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LEAVES):
                await ended.wait()

    async def get(self, path: str) -> Node | None:
        """A node; None: there is none."""
        try:
            data, stat = await self._ask(lambda: self._client.get_async(path))
        except kazoo_errors.NoNodeError:
            return None
        return Node(data, stat.version, stat.mzxid, stat.mtime / 1000, stat.ephemeralOwner)

    async def last_change(self, path: str) -> int:
        """See Node.changed; 0: there is no such node. Sets `woken` when the next one comes."""
        stat = await self._ask(lambda: self._client.exists_async(path, self._watch))
        return 0 if stat is None else int(stat.mzxid)

    async def children(self, path: str) -> list[str]:
        """Their names; none where there is no such node."""
        try:
            return list(await self._ask(lambda: self._client.get_children_async(path)))
        except kazoo_errors.NoNodeError:
            return []

    async def ensure(self, path: str) -> None:
        """Make it and those above it, empty, where they are not there."""
        await self._ask(lambda: self._client.ensure_path_async(path, self._acl))

    async def commit(self, *steps: Step) -> None:
        """Do all of them, or none. Raises Conflict."""
        request = self._client.transaction()
        for step in steps:
            self._add(request, step)
        results = await self._ask(request.commit_async)
        failed = [one for one in results if isinstance(one, Exception)]
        if any(isinstance(one, _CONFLICT) for one in failed):
            raise Conflict
        if any(isinstance(one, _FORBIDDEN) for one in failed):
            raise Forbidden
        if failed:
            raise failed[0]

    def _add(self, request: TransactionRequest, step: Step) -> None:
        match step:
            case Create():
                request.create(step.path, step.data, self._acl, step.ephemeral)
            case Put():
                request.set_data(step.path, step.data, step.version)
            case Check():
                request.check(step.path, step.version)
            case Remove():
                request.delete(step.path, step.version)

    @property
    def _acl(self) -> list[Any]:
        return list(CREATOR_ALL_ACL if self._credentials else OPEN_ACL_UNSAFE)

    async def _ask(self, begin: Callable[[], Any]) -> Any:
        """The result of one of the client's operations, which has threads of its own. Only a client that is
        connected is asked: each question takes room in a buffer, and one too many would block the loop."""
        try:
            async with asyncio.timeout(_ANSWER):
                if not self._client.connected:
                    if self._away:
                        if monotonic() - self._renewed_at > _RENEWED:
                            self._renew()
                        raise Away
                    await self._connected.wait()
                result = await self._answer(begin())
        except _LOST:
            self._went_away()
            raise Away from None
        except _FORBIDDEN:
            raise Forbidden from None
        except kazoo_errors.ZookeeperError:
            self._came_back()
            raise
        self._came_back()
        return result

    async def _answer(self, asked: Any) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def settle() -> None:
            if future.done():
                return
            if asked.exception is not None:
                future.set_exception(asked.exception)
            else:
                future.set_result(asked.value)

        asked.rawlink(lambda _: self._soon(settle))
        return await future

    def _soon(self, call: Callable[[], None]) -> None:
        """From a thread of the client's: call it in the event loop, if that is still there."""
        with suppress(RuntimeError):
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call)

    def _watch(self, event: object) -> None:
        """In a thread of the client's. Its watches are over by then, also those of a lost connection."""
        self._soon(self.woken.set)

    def _state_changed(self, state: str) -> None:
        """In a thread of the client's."""
        self._soon(self._connected.set if state == KazooState.CONNECTED else self._connected.clear)
        self._soon(self.woken.set)

    def _renew(self) -> None:
        """Servers that have lost their data refuse whoever has seen more than they know, and the client would
        come with that for ever."""
        self._renewed_at = monotonic()

        def renew() -> None:
            with Boundary("beginning another session with ZooKeeper"), self._one:
                if not self._closing and not self._client.connected:
                    self._client.stop()
                    self._client.close()
                    self._client.start_async()

        Thread(target=renew, name="another session with ZooKeeper", daemon=True).start()

    def _went_away(self) -> None:
        if not self._away:
            self._away = True
            self._renewed_at = monotonic()
            L.warning(
                "%s does not answer: the config stays as it is. Look whether its servers run, and at [config]"
                " servers",
                self.name,
            )

    def _came_back(self) -> None:
        if self._away:
            self._away = False
            L.info("%s answers again", self.name)


class _Container(asab.zookeeper.ZooKeeperContainer):
    """ASAB's, with a client that is right for an event loop, and started and ended by its owner."""

    def __init__(
        self, servers: str, credentials: str, application: Any, listener: Callable[[str], None]
    ) -> None:
        super().__init__(_Service(application or _NoApplication()), config={"servers": servers})
        self.ZooKeeper = _Wrapper(self, servers, credentials)
        self._tell = listener

    def state_changed(self, state: str) -> None:
        """In place of ASAB's, which asks the server here, in the event loop."""
        self._tell(state)
        self.App.PubSub.publish_threadsafe(f"ZooKeeperContainer.state/{state}!", self)


class _Wrapper(KazooWrapper):
    def __init__(self, container: _Container, servers: str, credentials: str) -> None:
        super().__init__(container, servers)
        self.Client = KazooClient(
            servers,
            auth_data=[("digest", credentials)] if credentials else None,
            connection_retry=KazooRetry(max_tries=-1, max_delay=_LONGEST_PAUSE),
            logger=_KAZOO,
        )
        self.Client.add_listener(container.state_changed)


class _Service:
    """What a container asks of ASAB's service: nothing is started when it is made, and the owner ends it."""

    def __init__(self, application: Any) -> None:
        self.App = application
        self.ProactorService = self
        self.Containers: list[Any] = []

    def schedule(self, start: Callable[[], None]) -> None:
        return None


class _NoApplication:
    """Where there is no application: tests, the operator's commands."""

    def __init__(self) -> None:
        self.PubSub = self

    def subscribe(self, message: str, call: Callable[..., Any]) -> None:
        return None

    def publish_threadsafe(self, message: str, *arguments: Any) -> None:
        return None
