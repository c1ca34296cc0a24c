"""What a MongoDB server says when it refuses one document or one query: the server is there, and what was
asked is at fault. (Codes: src/mongo/base/error_codes.yml of the server.)

Most of it cannot come about, since documents are checked before; but an operator may have rules of his own.
"""

from __future__ import annotations

from gateway.core.errors import BodyTooLarge, GatewayError, QueryTooSlow, Unprocessable

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


def of(code: int | None) -> GatewayError | None:
    """The error for the client whose document, or query, the server refuses; None for other codes."""
    if code in _TOO_LARGE:
        return too_large()
    if code in _TOO_SLOW:
        detail = "The query took too long. Narrow it with a filter, declare an index, or sort by id."
        return QueryTooSlow(detail, retry_after=5)
    if code in _NOT_A_DOCUMENT:
        return not_accepted()
    return None


def too_large() -> GatewayError:
    return BodyTooLarge("The document would be larger than 16 MiB in the form that it is stored in.")


def not_accepted() -> GatewayError:
    return Unprocessable("The document server does not accept what this document, or query, holds.")
