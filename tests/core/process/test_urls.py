"""What the listener is called by."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from gateway.core.process.listeners import Listen


@pytest.mark.parametrize(
    ("host", "authority"),
    [
        ("127.0.0.1", "127.0.0.1:8080"),
        ("0.0.0.0", "127.0.0.1:8080"),
        ("::", "[::1]:8080"),
        ("::1", "[::1]:8080"),
        ("[::]", "[::1]:8080"),
        ("fd00::7", "[fd00::7]:8080"),
        ("gateway.example", "gateway.example:8080"),
        ("*", "127.0.0.1:8080"),
        ("0", "127.0.0.1:8080"),
        ("127.1", "127.0.0.1:8080"),
        ("::ffff:0.0.0.0", "127.0.0.1:8080"),
    ],
)
def test_a_listener_is_called_by_an_authority_that_a_url_can_hold(host: str, authority: str) -> None:
    assert Listen(host, 8080).url == f"http://{authority}"
    assert urlsplit(f"http://{authority}/").port == 8080
