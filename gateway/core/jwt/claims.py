"""What the claims of a token say, wherever its issuer puts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def claim(claims: Mapping[str, Any], path: str) -> Any:
    """What claims hold at a path: the claim of that whole name (which may hold dots), else the member that a
    dotted path leads to; None where there is none."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    return found


def claim_texts(claims: Mapping[str, Any], path: str) -> list[str]:
    """A claim's texts: one, or those of a list; numbers, true and false as JSON writes them."""
    found = claim(claims, path)
    items = found if isinstance(found, list) else [found]
    return [text for text in map(_text, items) if text]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else ""
