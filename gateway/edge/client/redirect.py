"""A listener on which requests are only sent on to HTTPS (RFC 9110 section 15.4.9)."""

from __future__ import annotations

from string import punctuation
from urllib.parse import quote

from gateway.core.errors import BadRequest, GatewayError
from gateway.core.http.request_reader import Request
from gateway.core.http.request_target import resolve
from gateway.edge.client.body import RequestStream
from gateway.edge.client.connection import ClientConnection, Service
from gateway.edge.response.head import refusal_head

_NO_HOST = "Without a Host it is not known where this would be served."
_AS_IT_IS = punctuation  # a query may hold what is no ASCII
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
        if client.transport is not None:
            try:
                location = self._location(request)
            except GatewayError as error:
                client.transport.write(self.refused(error, client.peer, request))
            else:
                id_ = self.sent_on(request, client.peer, _STATUS)
                head = refusal_head(_STATUS, id_, "text/plain", 0, (("Location", location),))
                client.transport.write(head)
        client.done(keep_alive=False)

    def _location(self, request: Request) -> str:
        """The same address by HTTPS. Raises GatewayError for what would be refused there."""
        host, path, query = resolve(request.method, request.target, request.head.hosts)
        if not host:
            raise BadRequest(_NO_HOST, close=True)
        path = "/" if path == "*" else path
        return quote(f"https://{host}{self._port}{path}{'?' if query else ''}{query}", safe=_AS_IT_IS)
