"""A page shows its token as a subprotocol: it can say nothing else in a handshake. No backend sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.auth.keys import ensure_signing_key
from gateway.core.websocket.handshake import bearer_tokens, without_bearer
from tests import harness
from tests.edge.websocket.tunnels import config, cut_at_the_end, logged, nobody_inside, refused
from tests.fakes import Backend, RawClient, Script, always, answer
from tests.support.sockets import connect, echo, request, websocket

pytestmark = pytest.mark.asyncio
__all__ = ["cut_at_the_end"]


def choosing(choice: str) -> Script:
    return websocket(echo, f"Sec-WebSocket-Protocol: {choice}\r\n" if choice else "")


@pytest.mark.parametrize(
    ("offered", "passed", "choice", "chosen"),
    [
        (["gateway.bearer, {token}"], None, "", "gateway.bearer"),
        (["gateway.bearer", "{token}"], None, "", "gateway.bearer"),
        (["chat.v2, gateway.bearer, {token}, chat.v1"], "chat.v2, chat.v1", "chat.v1", "chat.v1"),
        (["gateway.bearer,{token},chat.v1"], "chat.v1", "", "gateway.bearer"),
    ],
)
async def test_the_token_opens_it_and_the_backend_chooses_of_the_rest(
    tmp_path: Path, offered: list[str], passed: str | None, choice: str, chosen: str
) -> None:
    async with Backend(choosing(choice)) as backend:
        async with harness.running(tmp_path, config(backend.address), log_query="all") as gateway:
            token = harness.token(gateway)
            lines = [f"Sec-WebSocket-Protocol: {line.format(token=token)}" for line in offered]
            peer = await connect(harness.address(gateway), "/ws/chat", {}, *lines)
            assert f"Sec-WebSocket-Protocol: {chosen}\r\n" in peer.head
            assert peer.head.lower().count("sec-websocket-protocol") == 1
            (heard,) = backend.heard
            assert heard.one("Sec-WebSocket-Protocol") == passed and heard.one("X-Gateway-Identity")
            assert token not in str(heard) and token not in peer.head
            peer.cut()
            await nobody_inside(gateway)
        assert token not in str(logged(gateway))


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (["gateway.bearer"], "invalid_request"),
        (["gateway.bearer, gateway.bearer, {token}"], "invalid_request"),
        (["gateway.bearer, {token}, gateway.bearer, {token}"], "invalid_request"),
        (["gateway.bearer, x.y.z"], "invalid_token"),
        (["bearer, {token}"], ""),
        (["{token}"], ""),
    ],
)
async def test_anything_else_is_refused(tmp_path: Path, lines: list[str], error: str) -> None:
    async with Backend(choosing("")) as backend:
        async with harness.running(tmp_path, config(backend.address)) as gateway:
            token = harness.token(gateway)
            given = [f"Sec-WebSocket-Protocol: {line.format(token=token)}" for line in lines]
            status, problem, head = await refused(gateway, "/ws/", *given)
            assert status == 401 and token not in f"{problem}{head}"
            assert (f'error="{error}"' in head) if error else ("error=" not in head)
        assert not backend.heard


async def test_it_counts_in_a_handshake_only_and_never_reaches_a_backend(tmp_path: Path) -> None:
    async with Backend(always(answer(b"plain"))) as backend:
        async with harness.running(tmp_path, config(backend.address)) as gateway:
            token = harness.token(gateway)
            offers = f"Sec-WebSocket-Protocol: gateway.bearer, {token}"
            client = await RawClient.connect(harness.address(gateway))
            for raw, status in (
                (f"GET /plain/x HTTP/1.1\r\nHost: a\r\n{offers}\r\n\r\n".encode(), 401),
                (request("/ws/x", "a", offers), 200),  # which the backend opens to nobody
                (request("/plain/x", "a", offers), 401),  # the same lines, which are read only once
                (request("/ws/x", "a", offers).replace(b"GET ", b"DELETE "), 401),
                (request("/open/x", "a", offers), 200),
            ):
                client.send(raw)
                assert (await client.answer())[0].startswith(f"HTTP/1.1 {status} ")
            client.close()
        assert len(backend.heard) == 2 and token not in str(backend.heard)


async def test_an_open_one_ends_when_its_token_does(tmp_path: Path) -> None:
    async with Backend(websocket(echo)) as backend:
        async with harness.running(tmp_path, config(backend.address)) as gateway:
            offers = f"Sec-WebSocket-Protocol: gateway.bearer, {harness.token(gateway)}"
            peer = await connect(harness.address(gateway), "/ws/chat", {}, offers)
            Path(gateway.config.keys).unlink()
            ensure_signing_key(Path(gateway.config.keys))
            await gateway.reload()
            assert (await peer.closed())[0] == 1008
            peer.cut()


async def test_what_is_offered_is_split() -> None:
    for offered, tokens, rest in (
        ([], [], []),
        (["a", "b"], [], ["a", "b"]),
        (["gateway.bearer", "t"], ["t"], []),
        (["a", "gateway.bearer", "t", "b"], ["t"], ["a", "b"]),
        (["gateway.bearer"], [""], []),
    ):
        assert (bearer_tokens(offered), without_bearer(offered)) == (tokens, rest)
