"""The results of writes as text: what is remembered with an Idempotency-Key."""

from __future__ import annotations

import json
from dataclasses import astuple

from gateway.store.document import Document
from gateway.store.strict_json import dumps
from gateway.store.write import Outcome, Written

Result = Written | tuple[Outcome, ...] | None  # None: of a deletion


def to_text(result: Result) -> str:
    if result is None:
        return "null"
    if isinstance(result, Written):
        *row, text, encoded = astuple(result.document)
        return dumps({"document": [*row, encoded.decode() or text], "created": result.created})
    return dumps({"outcomes": [(o.status, o.id, o.etag, o.error) for o in result]})


def from_text(text: str) -> Result:
    value = json.loads(text)
    if value is None:
        return None
    if "outcomes" in value:
        return tuple(Outcome(*outcome) for outcome in value["outcomes"])
    return Written(Document(*value["document"]), value["created"])
