"""A document as JSON text. What is stored is text already and is not parsed and written anew."""

from __future__ import annotations

from gateway.store import instants
from gateway.store.document import Document
from gateway.store.strict_json import dumps


def body(document: Document) -> str:
    """`{"id": ..., members}`."""
    return with_id(document.id, document.text)


def item(document: Document) -> str:
    """As body, in a list: with `_etag`, `_created` and `_modified`."""
    created, modified = instants.to_text(document.created), instants.to_text(document.modified)
    head = f'{{"id":{dumps(document.id)},"_etag":{dumps(document.etag)}'
    return _object(f'{head},"_created":"{created}","_modified":"{modified}"', document.text)


def line(document: Document) -> str:
    """As body, with its line end: a line of an export."""
    return body(document) + "\n"


def with_id(identifier: str, text: str) -> str:
    """The body of the document that has this id and text."""
    return _object(f'{{"id":{dumps(identifier)}', text)


def _object(head: str, text: str) -> str:
    return head + ("}" if text == "{}" else "," + text[1:])
