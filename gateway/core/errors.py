"""Every error that the gateway itself responds with, and the one table error -> status.

Pure: values only. The edge turns an error into RFC 9457 problem+json; `code` is stable for clients,
`detail` is written for the person who reads it and never holds a stack, an address, a secret or an echo
of the input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

ROUNDING = 1e-6  # what sums and quotients of doubles may be off by: seconds, or a part of a request


def whole_seconds(seconds: float) -> int:
    """Rounded up, for a header field. What is above a whole number by no more than the rounding of doubles
    is that number: a minute added to a clock and taken off is at times 60.000000000004 s, which is not 61."""
    return math.ceil(seconds - ROUNDING)


REALM = "gateway"  # of the challenge to a client that sends no token (RFC 9110 section 11.5)


class GatewayError(Exception):
    """The base of all responses that are errors of ours.

    detail: one sentence for a person. headers: extra response headers (Allow, Retry-After, ...).
    extra: RFC 9457 extension members. close: the connection cannot be used further.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        detail: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.headers: Mapping[str, str] = headers or {}
        self.extra: Mapping[str, Any] = extra or {}
        self.close = close

    def with_headers(self, headers: Mapping[str, str]) -> Self:
        """This error, with more headers of the response."""
        self.headers = {**self.headers, **headers}
        return self

    def about(self, context: str) -> Self:
        """This error, whose detail begins with what could not be done because of it."""
        self.detail = f"{context}: {self.detail}"
        return self

    def with_members(self, **members: Any) -> Self:
        """This error, with more members of the problem; those that it has come behind and are kept."""
        self.extra = {**members, **self.extra}
        return self

    def below(self, pointer: str) -> Self:
        """This error, whose `errors` are at or below this JSON pointer; without any, its detail is one."""
        errors = self.extra.get("errors") or [{"pointer": "", "detail": self.detail}]
        moved = [{**item, "pointer": pointer + item["pointer"]} for item in errors]
        self.extra = {**self.extra, "errors": moved}
        return self


class _Retryable(GatewayError):
    """An error that tells the client when to come back: `Retry-After` in whole seconds, at least 1."""

    def __init__(self, detail: str = "", *, retry_after: float = 1.0, **more: Any) -> None:
        super().__init__(detail, headers={"Retry-After": str(max(1, whole_seconds(retry_after)))}, **more)


# --- what the client did -------------------------------------------------------------------------


class BadRequest(GatewayError):
    """The request breaks RFC 9112 or 9110, or a parameter of it is wrong."""

    status, code, title = 400, "bad_request", "Bad request"


class Unauthenticated(GatewayError):
    """A bad token. error: RFC 6750's word for it (section 3.1): `invalid_request` where there are two,
    empty where none came at all, for then the challenge only says that one is needed. reason: `unknown_key`
    or `bad_signature` where newer keys of its issuer might verify it."""

    status, code, title = 401, "unauthenticated", "Authentication is required"

    def __init__(
        self,
        detail: str = "",
        *,
        error: str = "invalid_token",
        reason: Literal["", "unknown_key", "bad_signature"] = "",
        close: bool = False,
    ) -> None:
        challenge = f'error="{error}"' if error else f'realm="{REALM}"'
        super().__init__(detail, headers={"WWW-Authenticate": f"Bearer {challenge}"}, close=close)
        self.reason = reason


class Forbidden(GatewayError):
    """The identity is known and may not do this."""

    status, code, title = 403, "forbidden", "Forbidden"


class NoRoute(GatewayError):
    """No route takes the path."""

    status, code, title = 404, "no_route", "No route"


class NotFound(GatewayError):
    """A document or collection that is not there, or is another tenant's: the same response, byte for
    byte."""

    status, code, title = 404, "not_found", "Not found"


class MethodNotAllowed(GatewayError):
    """allow: the methods of the path. cors: what the routes that take these say of other origins."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"
    cors: Any = None

    def __init__(self, allow: str, detail: str = "") -> None:
        super().__init__(detail or f"This path allows {allow}.", headers={"Allow": allow})


class RequestTimeout(GatewayError):
    """The connection ends with it (RFC 9110 section 15.5.9)."""

    status, code, title = 408, "request_timeout", "The request did not arrive in time"

    def __init__(self, detail: str = "", *, close: bool = True) -> None:
        super().__init__(detail, close=close)


class Conflict(GatewayError):
    """The state of what is written to does not allow the write."""

    status, code, title = 409, "conflict", "Conflict"


class UniqueConflict(Conflict):
    """Another document has the value already. extra: `index`, the name of the unique index."""

    code, title = "unique_conflict", "The value of a unique index is taken"


class PatchConflict(Conflict):
    """A JSON patch does not fit the document as it is: a test failed, or a path leads nowhere."""

    code, title = "patch_conflict", "The patch does not fit the document"


class IdempotencyRunning(Conflict):
    """A write with the same Idempotency-Key has not ended yet."""

    code, title = "idempotency_running", "A request with this Idempotency-Key is still running"


class ConfirmationPending(Conflict):
    """The live config goes back by itself unless it is confirmed; nothing else is made live before. extra:
    `pending` (number, back_to, due) and its `revision`."""

    code, title = "confirmation_pending", "The live config waits for its confirmation"


class NothingToConfirm(Conflict):
    """The live config never went back by itself, or its time is over."""

    code, title = "nothing_to_confirm", "There is nothing to confirm"


class Gone(GatewayError):
    """What was asked for was there once, such as changes older than are kept."""

    status, code, title = 410, "gone", "Gone"


class PreconditionFailed(GatewayError):
    """A precondition of the request does not hold (RFC 9110 section 13)."""

    status, code, title = 412, "precondition_failed", "Precondition failed"


class StaleConfig(PreconditionFailed):
    """The live config is another one than the change was made for. extra: `since`, the revisions that came
    meanwhile, the newest first."""

    code, title = "stale", "The live config has changed meanwhile"


class BodyTooLarge(GatewayError):
    """The body is larger than its route or its use allows."""

    status, code, title = 413, "body_too_large", "The request body is too large"


class TargetTooLong(GatewayError):
    """The request line is longer than the gateway reads."""

    status, code, title = 414, "target_too_long", "The request target is too long"


class UnsupportedMediaType(GatewayError):
    """The Content-Type or Content-Encoding is none that is taken here."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class ExpectationFailed(GatewayError):
    """Expect holds something else than 100-continue."""

    status, code, title = 417, "expectation_failed", "Only Expect: 100-continue is understood"


class Unprocessable(GatewayError):
    """The content is well-formed and cannot be processed."""

    status, code, title = 422, "unprocessable", "The content cannot be processed"


class SchemaViolation(Unprocessable):
    """A document that its collection's JSON Schema refuses. extra: `errors`, each with its pointer."""

    code, title = "schema_violation", "The document does not fit its collection's schema"


class SchemaTooCostly(Unprocessable):
    """A document whose check against its collection's JSON Schema takes more time or memory than there is for
    one. It was not written."""

    code, title = "schema_too_costly", "The check against the collection's schema is too costly"


class IdempotencyMismatch(Unprocessable):
    """An Idempotency-Key that came with another request before."""

    code, title = "idempotency_mismatch", "The Idempotency-Key belongs to another request"


class InvalidConfig(Unprocessable):
    """A routing config that cannot be used. extra: `errors`, all its problems, each with `path`, `line`,
    `reason` and `hint`. Nothing was changed."""

    code, title = "invalid_config", "The config is refused"


class RolledBack(GatewayError):
    """One write of an atomic bulk that was not done because another of them failed."""

    status, code, title = 424, "rolled_back", "Nothing was written, because another operation failed"


class UpgradeRequired(GatewayError):
    """headers: what says which version (RFC 6455 section 4.4)."""

    status, code, title = 426, "upgrade_required", "Another version of the protocol is required"

    def __init__(self, detail: str = "", *, headers: Mapping[str, str] | None = None) -> None:
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}  # RFC 9110 sections 7.8 and 15.5.22
        super().__init__(detail, headers={**upgrade, **(headers or {})})


class PreconditionRequired(GatewayError):
    """The write needs If-Match or If-None-Match (RFC 6585 section 3)."""

    status, code, title = 428, "precondition_required", "A precondition is required"


class HeadersTooLarge(GatewayError):
    """The header section is larger than the gateway reads (RFC 6585 section 5)."""

    status, code, title = 431, "headers_too_large", "The request's header section is too large"


class TenantLimit(_Retryable):
    """The tenant is beyond a limit of its own."""

    status, code, title = 429, "tenant_limit", "The tenant's rate limit is exceeded"


class ClientLimit(_Retryable):
    """The client address is beyond its rate limit."""

    status, code, title = 429, "client_limit", "The client address's rate limit is exceeded"


class OperatorLimit(_Retryable):
    """What the operator asked for before is under way."""

    status, code, title = 429, "operator_limit", "The operator's limit is exceeded"


class TenantQueueFull(_Retryable):
    """As many requests of the tenant wait for a backend as may."""

    status, code, title = 429, "tenant_queue_full", "The tenant's queue is full"


# --- what a backend did --------------------------------------------------------------------------


class BackendReset(GatewayError):
    """The backend died after something of the request was sent. It may have been executed."""

    status, code, title = 502, "backend_reset", "The backend closed the connection"


class BackendMalformed(GatewayError):
    """What the backend sent is not HTTP as RFC 9112 has it."""

    status, code, title = 502, "backend_malformed", "The backend's response is not valid HTTP"


class BackendUnavailable(_Retryable):
    """Nothing of the request was sent: refused, no address, or connecting took too long."""

    status, code, title = 503, "backend_unavailable", "The backend is unavailable"


class BackendSaturated(_Retryable):
    """No seat of the backend is free in time."""

    status, code, title = 503, "backend_saturated", "The backend is saturated"


class BackendTimeout(GatewayError):
    """The backend did not respond within the time of the route."""

    status, code, title = 504, "backend_timeout", "The backend did not answer in time"


# --- what is ours --------------------------------------------------------------------------------


class InternalError(GatewayError):
    """A bug of ours. The detail is constant: nothing of the cause leaks."""


class NotImplementedByGateway(GatewayError):
    """A method or a coding that the gateway does not serve."""

    status, code, title = 501, "not_implemented", "Not implemented"


class Draining(_Retryable):
    """The time to drain was over before the response."""

    status, code, title = 503, "draining", "The gateway is shutting down"


class Saturated(_Retryable):
    """The unfinished heads and bodies of all clients take the memory that there is for them."""

    status, code, title = 503, "saturated", "The gateway is saturated"


class IssuerUnavailable(_Retryable):
    """The keys of a token's issuer, or its word on the token, cannot be had. The token may be good."""

    status, code, title = 503, "issuer_unavailable", "The token's issuer is unavailable"


class StoreUnavailable(_Retryable):
    """The document store, or the file of API keys and revocations, cannot be reached."""

    status, code, title = 503, "store_unavailable", "The store is unavailable"


class ConfigUnavailable(_Retryable):
    """The source of the live config, its revisions or its audit cannot be written or read now. extra: as for
    InvalidConfig. Nothing was changed."""

    status, code, title = 503, "config_unavailable", "The config's source is unavailable"


class StoreSaturated(_Retryable):
    """So many bytes of bodies are in memory that no more may come, whoever's they are."""

    status, code, title = 503, "store_saturated", "The document store is saturated"


class StoreTimeout(GatewayError):
    """The call's total time passed in the store. A write may be done all the same."""

    status, code, title = 504, "store_timeout", "The document store did not answer in time"


class QueryTooSlow(_Retryable):
    """A query that was given up at its deadline. The same query will most likely be too slow again."""

    status, code, title = 503, "query_too_slow", "The query took too long"


class NotSupportedByStore(GatewayError):
    """The engine, or the server behind it, cannot do this; it is no fault of the request."""

    status, code, title = 501, "not_supported_by_store", "The document store does not support this"


class SpoolSaturated(_Retryable):
    """Bodies and responses that wait for a slower peer take all the room on disk for them."""

    status, code, title = 503, "spool_saturated", "There is no room to buffer the request"


class InsufficientStorage(GatewayError):
    """There is no room on disk for what is to be written."""

    status, code, title = 507, "insufficient_storage", "Insufficient storage"


class LoopDetected(GatewayError):
    """The request has passed this gateway before; core/http/hops.py."""

    status, code, title = 508, "loop", "The request runs in a circle"

    def __init__(self) -> None:
        super().__init__(
            "The request has been at this gateway before: a backend sends it back here. An application that"
            " calls the gateway makes a request of its own, without the Via that it received."
        )


class QuotaExceeded(InsufficientStorage):
    """The tenant holds as many documents or bytes as it may. Reading and deleting go on."""

    code, title = "quota_exceeded", "The tenant's quota is used up"


def forget_traces(error: BaseException) -> None:
    """Breaks the reference cycles of an error that goes no further: its traceback names the frames that it
    came through, one of which holds the error, or a future with it. With it go what the frames hold,
    documents of 9 MB, now, and not when the garbage collector runs."""
    step: BaseException | None = error
    while step is not None:
        before, step.__context__ = step.__context__, None
        step.__traceback__ = step.__cause__ = None
        step = before
