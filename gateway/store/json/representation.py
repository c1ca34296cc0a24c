"""The JSON representations of a document. What is stored is text already, and is not parsed and encoded
again."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.store.json.strict import quote
from gateway.store.model import instants
from gateway.store.model.document import Document


def body(document: Document) -> str:
    """The document itself: `{"id": ..., members}`."""
    return _object(f'{{"id":{quote(document.id)}', _text(document))


def pieces(document: Document, size: int) -> Iterator[bytes]:
    """The body of a large document in UTF-8, in pieces of `size` bytes, without copying it as a whole."""
    head = f'{{"id":{quote(document.id)},'.encode()
    text = memoryview(document.encoded)
    yield head + bytes(text[1:size])
    for at in range(size, len(text), size):
        yield bytes(text[at : at + size])


def body_length(document: Document) -> int:
    """How many bytes `pieces` gives in all."""
    return len(f'{{"id":{quote(document.id)},'.encode()) + len(document.encoded) - 1


def item_parts(document: Document) -> tuple[bytes | memoryview, ...]:
    """As item, in UTF-8; the text of a large document is not copied."""
    if not document.encoded:
        return (item(document).encode(),)
    return _item_head(document).encode() + b",", memoryview(document.encoded)[1:]


def item(document: Document) -> str:
    """As body, for a list: with `_etag`, `_created` and `_modified`."""
    return _object(_item_head(document), _text(document))


def _item_head(document: Document) -> str:
    created = instants.to_text(document.created)
    modified = created if document.modified == document.created else instants.to_text(document.modified)
    head = f'{{"id":{quote(document.id)},"_etag":{quote(document.etag)}'
    return f'{head},"_created":"{created}","_modified":"{modified}"'


def line(document: Document) -> str:
    """As body, with its line end: a line of an export."""
    return body(document) + "\n"


def line_parts(document: Document) -> tuple[bytes | memoryview, ...]:
    """As line, in UTF-8; the text of a large document is not copied."""
    if not document.encoded:
        return (line(document).encode(),)
    return line_of(document.id, document.encoded)


def line_of(identifier: str, data: bytes) -> tuple[bytes | memoryview, ...]:
    """As line_parts, of a document's id and its text in UTF-8, which is not copied."""
    head = f'{{"id":{quote(identifier)}'.encode()
    return (head, b"}\n") if data == b"{}" else (head, b",", memoryview(data)[1:], b"\n")


def _text(document: Document) -> str:
    return document.encoded.decode() if document.encoded else document.text


def _object(head: str, text: str) -> str:
    return head + ("}" if text == "{}" else "," + text[1:])
