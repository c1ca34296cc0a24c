"""The ASAB application: puts service and handler together, and binds the listener."""

from __future__ import annotations

import argparse
import logging.config
from typing import Any

import asab
import asab.metrics
from aiohttp import web

from backends.events.handler import EventHandler, problems
from backends.events.service import EventService
from backends.identity import log
from backends.identity.asab import gateway

MOST_BODY = 256 * 1024


class EventsApplication(asab.Application):
    def __init__(self) -> None:
        # Its watchdog would kill the process when the clock jumps.
        asab.Config.add_defaults({"general": {"watchdog_threshold": 0}})
        super().__init__(modules=[asab.metrics.Module])
        logging.config.dictConfig(log.config())  # in place of asab's colours

        # Not asab's WebContainer: that listens on TCP only, and takes a port in use for a mere warning.
        web_app = web.Application(middlewares=[problems, gateway], client_max_size=MOST_BODY)
        self.EventService = EventService(self)
        self.EventHandler = EventHandler(web_app, self.EventService)
        # A reader that leaves ends its stream at once (cancellation); a stop waits 2 s for slow requests.
        self.Runner = web.AppRunner(web_app, access_log=None, handler_cancellation=True, shutdown_timeout=2.0)

    def parse_arguments(self, args: Any = None) -> argparse.Namespace:
        """In place of asab's own options, which could switch its authorisation off or start a web API."""
        parser = argparse.ArgumentParser(prog="python -m backends.events", description=__doc__)
        parser.add_argument("-c", "--config", metavar="FILE", help="an ASAB configuration, e.g. for metrics")
        where = parser.add_mutually_exclusive_group(required=True)
        where.add_argument("--socket", metavar="PATH", help="listen on a unix socket, for the owner alone")
        where.add_argument("--listen", metavar="HOST:PORT", type=_host_and_port, help="listen on TCP")
        parsed = parser.parse_args(args)
        if parsed.config:
            asab.Config._default_values["general"]["config_file"] = parsed.config
        return parsed

    async def initialize(self) -> None:
        """An exception in here ends the process with exit code 1; in a service it would only be logged."""
        await self.Runner.setup()
        if self.Args.socket:
            await web.UnixSite(self.Runner, self.Args.socket).start()
        else:
            await web.TCPSite(self.Runner, *self.Args.listen).start()

    async def main(self) -> None:
        if self._stop_counter:
            self.stop()  # asab forgets a SIGTERM that came during initialize()

    async def finalize(self) -> None:
        # The service has closed its streams at "Application.stop!", or this would wait for them.
        await self.Runner.cleanup()


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError("give HOST:PORT, e.g. 127.0.0.1:8000")
    return host.strip("[]"), int(port)
