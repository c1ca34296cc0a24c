"""What a write makes of the document that is there, decided once for all engines, which carry it out. Pure.

An engine reads what is there, asks `require`, works out the text of the new document (a patch is applied, a
schema checked, both by a worker process where they are large), asks `stored` or `deleted`, and applies what
these decide: the row, the entries of indexes, the counters, the feed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway.core.errors import NotFound, PreconditionRequired
from gateway.store.model.change import Kind
from gateway.store.model.document import UNCONDITIONAL, Document, new_incarnation
from gateway.store.model.write import Copied, Create, Replace, Write, Written


@dataclass(slots=True)  # not frozen: to make a frozen one takes twice as long
class Decision:
    """kind, id, etag: what feeds report; the tag is that of the version that the write makes, for a deletion
    that of the version that it ends. written: the result of the write, None of a deletion. documents,
    bytes: by how much the counters of the collection and of the tenant change; checked against its quota."""

    kind: Kind
    id: str
    etag: str
    written: Written | None
    documents: int
    bytes: int


def require(write: Write, current: Document | None, *, if_match: bool) -> None:
    """Whether the write may be done to the document that is there, None when there is none that has not
    expired. Its text is not looked at. if_match: the collection's require_if_match.

    Raises NotFound for a patch or a deletion of what is not there, whatever was asked of it (RFC 9110 section
    13.2.1), PreconditionFailed, and PreconditionRequired."""
    if isinstance(write, Create | Copied):
        return
    if current is None:
        if not isinstance(write, Replace):
            raise NotFound()
        write.precondition.require(None)
        return
    precondition = write.precondition
    if precondition is not UNCONDITIONAL:  # most are, and a tag costs something
        precondition.require(current.etag)
    if if_match and precondition.match is None:
        raise PreconditionRequired("This collection wants If-Match with every change of a document.")


def stored(
    current: Document | None, identifier: str, text: str | bytes, size: int, now: float, held: int | None
) -> Decision:
    """A new document, or the next version of the current one, with this text: bytes where it is large. size:
    bytes of the text. now: seconds since the epoch. held: bytes of the text that is replaced, which may be
    that of a document that has expired; None when nothing is there."""
    kind: Kind
    if current is None:
        kind, version, incarnation, created = "created", 1, new_incarnation(), now
    else:
        kind, version = "updated", current.version + 1
        incarnation, created = current.incarnation, current.created
    if isinstance(text, str):
        document = Document(identifier, version, incarnation, created, now, text)
    else:
        document = Document(identifier, version, incarnation, created, now, "", text)
    written = Written(document, current is None)
    if held is None:
        return Decision(kind, identifier, document.etag, written, 1, size)
    return Decision(kind, identifier, document.etag, written, 0, size - held)


def copied(
    current: Document | None, heading: Document, text: str | bytes, size: int, held: int | None
) -> Decision:
    """As `stored`, of a document that is stored as it is elsewhere. heading: see write.Copied."""
    small, encoded = (text, b"") if isinstance(text, str) else ("", text)
    document = replace(heading, text=small, encoded=encoded)
    kind: Kind = "created" if current is None else "updated"
    written = Written(document, current is None)
    more = (1, size) if held is None else (0, size - held)
    return Decision(kind, heading.id, document.etag, written, *more)


def deleted(current: Document, held: int) -> Decision:
    """The document is gone. held: bytes of its text."""
    return Decision("deleted", current.id, current.etag, None, -1, -held)
