"""What callers send to be published, as JSON: {"type", "data"} or a list of these. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

MOST_AT_ONCE = 100

_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class NoDrafts(Exception):
    """The text is for the caller. status: of an HTTP answer."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def read(text: str | bytes) -> list[tuple[str, Any]]:
    """(type, data) pairs, all of them valid. Raises NoDrafts."""
    try:
        body = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise NoDrafts(400, "The body is not valid JSON.") from None
    drafts = body if isinstance(body, list) else [body]
    if not 1 <= len(drafts) <= MOST_AT_ONCE:
        raise NoDrafts(422, f"Send 1 to {MOST_AT_ONCE} events at once.")
    for number, draft in enumerate(drafts):
        wrong = _what_is_wrong(draft)
        if wrong:
            raise NoDrafts(422, f"Event {number}: {wrong}")
    return [(draft["type"], draft.get("data")) for draft in drafts]


def _what_is_wrong(draft: Any) -> str | None:
    if not isinstance(draft, dict):
        return "it must be a JSON object."
    if not draft.keys() <= {"type", "data"}:
        return "only type and data may be given."
    if not (isinstance(draft.get("type"), str) and _TYPE.fullmatch(draft["type"])):
        return f"type must be a text like {_TYPE.pattern}."
    return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
