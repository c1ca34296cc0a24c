"""A bare proxy on aiohttp's server and ClientSession: what most people would write first.

No token, no limit, no log; bodies stream both ways, as through the others.
python -m tests.bench.sites.client_proxy PORT BACKEND_PORT
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

_PREFIX = "/bench"
_OWN = frozenset({"host", "transfer-encoding", "connection", "keep-alive", "date", "server"})


class _Proxy:
    def __init__(self, session: aiohttp.ClientSession, backend: str) -> None:
        self._session = session
        self._backend = backend

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        body = request.content.iter_any() if request.can_read_body else None
        url = self._backend + request.path_qs.removeprefix(_PREFIX)
        headers = _passed(request.headers)
        async with self._session.request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as answer:
            response = web.StreamResponse(status=answer.status, headers=_passed(answer.headers))
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response


def _passed(headers: Mapping[str, str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _OWN)


async def _serve(port: int, backend_port: int) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        server = web.Server(_Proxy(session, f"http://127.0.0.1:{backend_port}"), access_log=None)
        await asyncio.get_running_loop().create_server(server, "127.0.0.1", port, backlog=1024)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
