"""The server: its client, and what may be wrong with it, in words for the log.

Only here is the client's package imported, and this module only where [shared] uri asks for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from redis import asyncio as client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    MasterDownError,
    MaxConnectionsError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TimeoutError,
)

from gateway.core.process.shared_state import SharedSettings
from gateway.core.shared.ports import Away

TIMEOUT = 0.5  # seconds for a response, and for a connection
_CONNECTIONS = 16

# By the class of the error, the more special first.
_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (NoPermissionError, "its user may not do this: give it ~{{{prefix}}}:* and +@all -@admin (NOPERM)"),
    (AuthenticationError, "it refuses the user or the password of [shared] uri"),
    (BusyLoadingError, "it is loading its data"),
    (MaxConnectionsError, "it is slow: all connections to it wait"),
    (TimeoutError, "it does not respond in time"),
    (ReadOnlyError, "it is a read-only replica: name the primary in [shared] uri"),
    (OutOfMemoryError, "its memory is full (maxmemory): give it more"),
    (MasterDownError, "it is a replica without its primary"),
    (ClusterDownError, "its cluster is down"),
    (MovedError, "it is one of a cluster: write cluster = yes in [shared]"),
    (ConnectionError, "it cannot be reached"),
    (RedisClusterException, "none of its cluster can be reached"),
)
# What has no class of its own, by the first word of the server's error.
_BY_CODE = {
    "BUSY": "a script of somebody keeps it busy",
    "MISCONF": "it cannot write to its disk, and takes no changes (MISCONF)",
    "MOVED": "it is one of a cluster: write cluster = yes in [shared]",
    "NOREPLICAS": "it has too few replicas to take changes (NOREPLICAS)",
    "UNBLOCKED": "it has become a replica",
}
_ERRORS = (RedisError, RedisClusterException, OSError)
_CLOSED = "the handler is closed"  # what uvloop says of a write to a connection that the server has closed


class Server:
    """The client of one server, or of a cluster. prefix: of all keys, which lie in one slot."""

    def __init__(self, settings: SharedSettings) -> None:
        self._prefix = settings.prefix
        options: dict[str, Any] = {
            "socket_timeout": TIMEOUT,
            "socket_connect_timeout": TIMEOUT,
            "decode_responses": False,
            "protocol": 2,  # all versions of all servers have it
        }
        self._client: Any
        if settings.cluster:
            options["retry"] = Retry(NoBackoff(), 1)  # at another node, which knows where the slot went
            self._client = client.RedisCluster.from_url(settings.uri, **options)
        else:
            options["retry"] = Retry(NoBackoff(), 0)  # the next exchange comes soon enough
            options["max_connections"] = _CONNECTIONS
            self._client = client.Redis.from_pool(client.ConnectionPool.from_url(settings.uri, **options))

    def key(self, *parts: str) -> str:
        """The name of a key."""
        return f"{{{self._prefix}}}:{':'.join(parts)}"

    async def script(self, sha: str, text: str, keys: list[str], arguments: list[Any]) -> Any:
        """Run a script, by its digest where the server has it. Raises Away."""

        async def run() -> Any:
            try:
                return await self._client.evalsha(sha, len(keys), *keys, *arguments)
            except NoScriptError:  # it was restarted, or its scripts were flushed
                return await self._client.eval(text, len(keys), *keys, *arguments)

        return await self._ask(run)

    async def set_new(self, key: str, value: bytes, milliseconds: int) -> bool:
        """Set a key that is not there. False where it is. Raises Away."""
        return bool(await self._ask(lambda: self._client.set(key, value, px=milliseconds, nx=True)))

    async def take(self, key: str) -> bytes | None:
        """The value of a key, which is removed. Raises Away."""
        value = await self._ask(lambda: self._client.getdel(key))
        return bytes(value) if value is not None else None

    async def forget(self, key: str, member: str, fields: str, field: str) -> None:
        """Remove a member of a sorted set, and a field of a hash. Raises Away."""
        await self._ask(lambda: self._client.zrem(key, member))
        await self._ask(lambda: self._client.hdel(fields, field))

    async def close(self) -> None:
        """End all connections."""
        try:
            await self._client.aclose()
        except _ERRORS:
            pass

    async def _ask(self, run: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await run()
        except _ERRORS as error:
            raise Away(self._why(error)) from None
        except RuntimeError as error:
            if _CLOSED not in str(error):
                raise
            raise Away("it closes the connection: is its port one for TLS (rediss://)?") from None

    def _why(self, error: Exception) -> str:
        """Without what a connection says of its credentials."""
        # Who has not signed in may not send a long command: "unauthenticated multibulk length".
        is_auth = isinstance(error, AuthenticationError) and "required" in str(error)
        if is_auth or "unauthenticated" in str(error):
            return "it asks for a password: write it in [shared] uri"
        if isinstance(error, ResponseError):
            code = str(error).partition(" ")[0]
            if code in _BY_CODE:
                return _BY_CODE[code]
        for kind, words in _WORDS:
            if isinstance(error, kind):
                why = words.format(prefix=self._prefix)
                cause = error.__cause__ or error.__context__
                if kind is ConnectionError and isinstance(cause, OSError) and cause.strerror:
                    why += f" ({cause.strerror})"
                return why
        if isinstance(error, OSError):
            return f"it cannot be reached ({error.strerror or type(error).__name__})"
        return f"it responds with an error: {str(error)[:200]}"
