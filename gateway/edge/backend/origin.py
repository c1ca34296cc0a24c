"""Requests of the gateway's own to servers on the network that are no backends: the issuers of tokens.

HTTPS with the certificate checked by the process's authorities (SSL_CERT_FILE and SSL_CERT_DIR count),
through the proxies of the environment. No cookies, no credentials but those that are given, no redirect to
another origin; bounded in time and in bytes.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp import encode_basic_auth, hdrs
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

from gateway.core.process.listeners import is_loopback
from gateway.edge.backend.resolver import Names, Unresolved
from gateway.runtime import threads

TIMEOUT = 5.0  # seconds for all of an exchange
MAX_BYTES = 1024 * 1024  # of a response
_MAX_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONNECTIONS = 100


class OriginError(Exception):
    """Why there is no response that counts, in words for the log: nothing that was sent or came is in it."""


@dataclass(frozen=True, slots=True)
class Response:
    """status: never a redirect. headers: in any case. body: decoded of its Content-Encoding."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Origins:
    """Connections to all such servers, made as they are needed. tls: None for the process's authorities.
    timeout: seconds that each request may take in all."""

    def __init__(self, tls: ssl.SSLContext | None = None, timeout: float = TIMEOUT) -> None:
        self._tls = tls
        self._timeout = timeout
        self._made: aiohttp.ClientSession | None = None
        self._making = asyncio.Lock()

    async def get(self, url: str) -> Response:
        """What is at a URL (`https:`, or `http:` where the caller allows that), redirects within its origin
        followed. Raises OriginError."""
        try:
            async with asyncio.timeout(self._timeout):
                at = URL(url)
                for _ in range(1 + _MAX_REDIRECTS):
                    response = await self._exchange(hdrs.METH_GET, at, {}, None)
                    if response.status not in _REDIRECTS:
                        return response
                    at = _redirected(at, response)
                raise OriginError(f"it redirects more than {_MAX_REDIRECTS} times")
        except TimeoutError:
            raise OriginError(f"it did not respond within {self._timeout:g} s") from None
        except ValueError:
            raise OriginError("its URL, or that of a redirect, cannot be used") from None

    async def post(self, url: str, fields: Mapping[str, str], headers: Mapping[str, str]) -> Response:
        """The response to a form that changes nothing there, so that it may be sent again on a new connection
        where the server had closed a warm one. Raises OriginError; a redirect is one."""
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    response = await self._exchange(hdrs.METH_POST, URL(url), headers, fields)
                except _ClosedByServer:
                    response = await self._exchange(hdrs.METH_POST, URL(url), headers, fields)
        except TimeoutError:
            raise OriginError(f"it did not respond within {self._timeout:g} s") from None
        except ValueError:
            raise OriginError("its URL cannot be used") from None
        if response.status in _REDIRECTS:
            raise OriginError("it redirects, which is not followed with credentials")
        return response

    async def close(self) -> None:
        """Close all connections."""
        if self._made is not None:
            await self._made.close()
            self._made = None

    async def _exchange(
        self, method: str, url: URL, headers: Mapping[str, str], fields: Mapping[str, str] | None
    ) -> Response:
        proxy, for_proxy = _proxy(url)
        try:
            async with (await self._session()).request(
                method, url, headers=headers, data=fields, allow_redirects=False,
                proxy=proxy, proxy_headers=for_proxy,
            ) as response:  # fmt: skip
                body = bytearray()
                async for data in response.content.iter_chunked(64 * 1024):
                    body += data
                    if len(body) > MAX_BYTES:
                        response.close()
                        raise OriginError(f"its response is longer than {MAX_BYTES // 1024} KiB")
                return Response(response.status, CIMultiDict(response.headers), bytes(body))
        except aiohttp.ServerDisconnectedError:
            raise _ClosedByServer("it closed the connection without a response") from None
        except aiohttp.ClientConnectorCertificateError as error:
            reason = getattr(error.certificate_error, "verify_message", "") or "it is for another name"
            raise OriginError(f"its certificate is refused: {reason}") from None
        except (aiohttp.ClientConnectorError, aiohttp.ClientProxyConnectionError) as error:
            reason = error.os_error.strerror or str(error.os_error)
            raise OriginError(f"it cannot be reached: {reason}") from None
        except aiohttp.ClientHttpProxyError as error:
            raise OriginError(f"the proxy refuses to reach it, with status {error.status}") from None
        except aiohttp.ClientError as error:
            raise OriginError(f"its response is broken ({type(error).__name__})") from None
        except OSError as error:
            raise OriginError(f"the connection broke: {error.strerror or type(error).__name__}") from None

    async def _session(self) -> aiohttp.ClientSession:
        if self._made is not None:
            return self._made
        async with self._making:
            # In a thread: to read the authorities takes some 40 ms.
            own: ssl.SSLContext = await threads.run(threads.KEYS, ssl.create_default_context)
            self._made = self._made or _new_session(self._tls or own)
        return self._made


class _ClosedByServer(OriginError):
    """Before any of the response came: as it does when a warm connection was closed at that moment."""


class _Resolver(AbstractResolver):
    """aiohttp's own would wait for names in the threads that all asyncio shares."""

    def __init__(self) -> None:
        self._names = Names()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        try:
            found = await self._names.find(host)
        except Unresolved as error:
            raise OSError(None, f"its name is not known: {error}") from None
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _redirected(at: URL, response: Response) -> URL:
    """Raises OriginError unless it is within the same origin; ValueError."""
    target = at.join(URL(response.headers.get(hdrs.LOCATION, "")))
    if not response.headers.get(hdrs.LOCATION) or target.origin() != at.origin():
        raise OriginError("it redirects to another origin, which is not followed")
    return target


def _proxy(url: URL) -> tuple[URL | None, dict[str, str]]:
    """The proxy of the environment for a URL (HTTPS_PROXY, HTTP_PROXY, NO_PROXY), and what it is told; never
    one for this machine itself. Raises ValueError."""
    host = url.host or ""
    found = getproxies().get(url.scheme)
    if not found or host == "localhost" or is_loopback(host) or proxy_bypass(host):
        return None, {}
    proxy = URL(found)
    if proxy.user is None:
        return proxy, {}
    # aiohttp makes a Proxy-Authorization of it.
    return proxy.with_user(None), {hdrs.AUTHORIZATION: encode_basic_auth(proxy.user, proxy.password or "")}


def _new_session(tls: ssl.SSLContext) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            ssl=tls, limit=_CONNECTIONS, resolver=_Resolver(), use_dns_cache=False
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={hdrs.USER_AGENT: "gateway", hdrs.ACCEPT: "application/json, */*;q=0.1"},
        timeout=aiohttp.ClientTimeout(total=None),  # asyncio.timeout around it
    )


class Flights(Protocol):
    """Questions to issuers that several processes have at a time: one of them asks."""

    async def share(self, key: str, max_age: float, ask: Callable[[], Awaitable[Any]]) -> Any:
        """What `ask` gives, here or where it is asked already, or was at most `max_age` seconds ago. It is
        what JSON holds. Raises what `ask` raises of OriginError."""
        ...


class Alone:
    """The flights of a process that shares none."""

    async def share(self, key: str, max_age: float, ask: Callable[[], Awaitable[Any]]) -> Any:
        """What `ask` gives."""
        return await ask()


ALONE = Alone()
