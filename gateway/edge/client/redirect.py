"""A listener on which requests are only sent on to HTTPS (RFC 9110 section 15.4.9)."""

from __future__ import annotations

from gateway.core.errors import BadRequest
from gateway.core.http.request_reader import Request
from gateway.core.http.request_target import authority
from gateway.edge.client.body import RequestStream
from gateway.edge.client.connection import ClientConnection, Service
from gateway.edge.response.head import refusal_head

_NO_HOST = "Without a Host it is not known where this would be served."
_STATUS = 308  # the client sends the same method and the same body again


class Redirect:
    """In place of the service of a listener (`edge.client.connection.Service`), whose word on what is no
    request counts here too. port: of HTTPS."""

    def __init__(self, service: Service, port: int) -> None:
        self._port = "" if port == 443 else f":{port}"
        self.holder = service.holder
        self.gone = service.gone
        self.refused, self.sent_on = service.refused, service.sent_on

    def serve(
        self, client: ClientConnection, request: Request, request_body: bytes, content: RequestStream | None
    ) -> None:
        """Send the client on; a body is not read."""
        location = self._location(request)
        if client.transport is not None:
            if location:
                id_ = self.sent_on(request, client.peer, _STATUS)
                head = refusal_head(_STATUS, id_, "text/plain", 0, (("Location", location),))
                client.transport.write(head)
            else:
                client.transport.write(self.refused(BadRequest(_NO_HOST, close=True), client.peer, request))
        client.done(keep_alive=False)

    def _location(self, request: Request) -> str:
        """The same address by HTTPS; "" where the request does not say which it is."""
        hosts, target = request.head.hosts, request.target
        named = authority(hosts[0]) if len(hosts) == 1 and hosts[0] else None
        if named is None or not target.isascii() or not target.isprintable():
            return ""
        if not target.startswith("/"):  # in absolute form, or the * of OPTIONS
            target = "/" + target.partition("://")[2].partition("/")[2]
        return f"https://{named[0]}{self._port}{target}"
