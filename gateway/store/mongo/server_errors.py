"""What the errors of a MongoDB server mean: for the client when it refuses one document or one query, and for
the operator when it does not do what it is asked for. (Codes: src/mongo/base/error_codes.yml of the server.)

Most refusals cannot come about, since documents are checked before; but an operator may have rules of his
own.
"""

from __future__ import annotations

import logging
import time

from gateway.core.errors import BodyTooLarge, GatewayError, QueryTooSlow, Unprocessable

_log = logging.getLogger(__name__)

_LOG_EVERY = 10.0  # seconds between two lines about one reason: a fault hits every call

DUPLICATE = frozenset({11000, 11001, 12582})
CONFLICT = frozenset({112, 251})  # WriteConflict, NoSuchTransaction: it was aborted
NO_SPACE = frozenset({14031})
REFUSED_USER = frozenset({13, 18, 8000})  # Unauthorized, AuthenticationFailed, and Atlas' own

_TOO_LARGE = frozenset({10334, 17419, 17420, 17280})  # the document; what it would be; an index's key
_TOO_SLOW = frozenset({50, 262, 146, 292})  # past its time; more memory than a query may take
_NOT_A_DOCUMENT = frozenset({
    2,  # BadValue
    9,  # FailedToParse
    14,  # TypeMismatch
    15,  # Overflow: nested too deeply
    16,  # InvalidLength
    22,  # InvalidBSON
    52,  # DollarPrefixedFieldName
    53,  # InvalidIdField
    55,  # InvalidDBRef
    56,  # EmptyFieldName
    57,  # DottedFieldName
    121,  # DocumentValidationFailure: the operator's own rules
})  # fmt: skip


def refusal(code: int | None) -> GatewayError | None:
    """The error for the client whose document, or query, the server refuses; None for other codes."""
    if code in _TOO_LARGE:
        return too_large()
    if code in _TOO_SLOW:
        return too_slow()
    if code in _NOT_A_DOCUMENT:
        return not_accepted()
    return None


def too_slow() -> GatewayError:
    """The error of a query that is past its deadline."""
    detail = "The query took too long. Narrow it with a filter, declare an index, or sort by id."
    return QueryTooSlow(detail, retry_after=5)


def too_large() -> GatewayError:
    """The error of a document that BSON would make larger than the server accepts."""
    return BodyTooLarge("The document would be larger than 16 MiB in the form that it is stored in.")


def not_accepted() -> GatewayError:
    """The error of a document or query that the server does not accept."""
    return Unprocessable("The document server does not accept what this document, or query, holds.")


DOCUMENTS = "documents"


class ServerLog:
    """The operator's lines about a server. name: its, without secrets. what: is there. away: whether
    it did not do what it was last asked for."""

    def __init__(self, name: str, what: str) -> None:
        self._name = name
        self._what = what
        self.away = False
        self._reported: dict[str, float] = {}

    def report(self, reason: str, hint: str) -> None:
        """Log a fault and its hint, once in a while for each reason."""
        now = time.monotonic()
        if now - self._reported.get(reason, -_LOG_EVERY) >= _LOG_EVERY:
            self._reported[reason] = now
            _log.error("%s: %s: %s: %s", self._what, self._name, reason, hint)

    def went_away(self) -> None:
        """The server did not do what it was asked; `back` ends it."""
        self.away = True

    def back(self) -> None:
        """The server did what it was asked for."""
        if self.away:
            self.away = False
            served = "documents are served" if self._what == DOCUMENTS else "it is used"
            _log.warning("%s: %s: the server is there, %s", self._what, self._name, served)
