"""What the kernel tells of connections to a unix socket whose client is gone."""

from __future__ import annotations

import socket
from pathlib import Path

from gateway.runtime.processes.socket_peers import abandoned, abandoned_tcp
from tests.eventually import poll


def test_a_connection_counts_until_the_server_closes_it_accepted_or_not(tmp_path: Path) -> None:
    path, elsewhere = str(tmp_path / "a.sock"), str(tmp_path / "b.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(5)
        clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for client in clients:
            client.connect(path)
        accepted = [server.accept()[0] for _ in range(2)]
        assert abandoned({path, elsewhere}) == {path: 1}  # one is not accepted; nobody listens elsewhere
        for client in clients:
            client.close()
        assert abandoned({path}) == {path: 3}
        accepted[0].close()
        assert abandoned({path}) == {path: 2}
        server.accept()[0].close()
        accepted[1].close()
        assert abandoned({path}) == {path: 0}
    assert abandoned({path}) == {}


def test_by_tcp_too_a_connection_counts_until_the_server_closes_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        accepted = [server.accept()[0] for _ in range(2)]
        assert abandoned_tcp({port}) == {port: 0}
        for client in clients:
            client.close()
        poll(lambda: abandoned_tcp({port}) == {port: 3})
        for each in (*accepted, server.accept()[0]):
            each.close()
        poll(lambda: abandoned_tcp({port}) == {port: 0})
    poll(lambda: abandoned_tcp({port}) == {})
