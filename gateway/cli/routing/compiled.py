"""The routing config as compiled by a command: nothing is served from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gateway.call import Authentication, Call, Snapshot
from gateway.config.compilation import ProcessCheck, compile_text
from gateway.config.ports import ConfigRefused
from gateway.config.sources.file import read
from gateway.core.process.settings import ProcessConfig
from gateway.core.routing.problems import Problems
from gateway.process.folders import socket_folder

if TYPE_CHECKING:
    from aiohttp import web


def compile_file(config: ProcessConfig, authentication: Authentication | None = None) -> Snapshot:
    path = Path(config.routing)
    return compile_given(path, read(path), config, authentication=authentication)


def compile_given(
    path: Path,
    text: str,
    config: ProcessConfig | None,
    check: ProcessCheck = lambda snapshot: [],
    authentication: Authentication | None = None,
) -> Snapshot:
    """Raises ConfigRefused. config: of the process, when it is known. check: finds what it makes wrong."""
    sockets = socket_folder(".")  # all are of one length
    try:
        return compile_text(
            text,
            lambda backend: _NEVER,
            sockets,
            check,
            authentication,
            str(path.parent),
            config.tokens.issuer if config is not None else "",
        )
    except Problems as found:
        raise ConfigRefused(path, found.items) from None


class _Never:
    """A target that is never called: these commands only read routes."""

    def try_serve(self, call: Call) -> bool:
        raise AssertionError

    async def serve(self, call: Call) -> web.StreamResponse:
        raise AssertionError


_NEVER = _Never()
