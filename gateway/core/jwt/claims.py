"""What the claims of a token say, wherever its issuer puts it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from gateway.core.errors import Unauthenticated

_name = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+").fullmatch  # a scope-token, RFC 6749 section 3.3
_names = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*").fullmatch


def claim(claims: Mapping[str, Any], path: str) -> Any:
    """What claims hold at a path: the claim of that whole name, else the member that a dotted path leads to;
    None where there is none. Names may hold dots (`https://id.example/claims`, or a client of Keycloak): on
    each step the longest name that is there counts."""
    found: Any = claims
    while isinstance(found, Mapping):
        if path in found:
            return found[path]
        name = path.rpartition(".")[0]
        while name and name not in found:
            name = name.rpartition(".")[0]
        if not name:
            return None
        found, path = found[name], path[len(name) + 1 :]
    return None


def claim_texts(claims: Mapping[str, Any], path: str) -> list[str]:
    """A claim's texts: one, or those of a list; numbers, true and false as JSON writes them."""
    found = claim(claims, path)
    items = found if isinstance(found, list) else [found]
    return [text for text in map(_text, items) if text]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else ""


@lru_cache(maxsize=1024)
def template(rule: str) -> tuple[str, str, str]:
    """A rule of ClaimRules in its parts: a text, the path of a claim, a text: `role:{groups}`. Raises
    ValueError where it names no claim, or more than one."""
    before, brace, rest = rule.partition("{")
    path, closing, after = rest.partition("}")
    if not brace:
        path, before, closing = before, "", "}"
    if not path or not closing or any(brace in before + path + after for brace in "{}"):
        raise ValueError("a template holds one claim in braces, as role:{groups}")
    return before, path, after


def one_value(claims: Mapping[str, Any], rule: str) -> str:
    """The one text (or whole number, or list of just one) that a rule leads to. Raises Unauthenticated."""
    before, path, after = template(rule)
    found = claim(claims, path)
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if found is None or found == "":
        raise Unauthenticated(f"The token has no `{path}`.")
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise Unauthenticated(f"The token's `{path}` must be one text.")
    return f"{before}{found}{after}"


def scope_names(claims: Mapping[str, Any], rules: Iterable[str]) -> list[str]:
    """The scopes that all the rules lead to, each once. A text holds names separated by single spaces. What
    is no scope's name in a list, such as a group with a space, is left out: no rule can ask for it, and in
    a header it would read as two. Raises Unauthenticated."""
    names: dict[str, None] = {}
    for rule in rules:
        before, path, after = template(rule)
        found = claim(claims, path)
        if found is None or found == "":
            continue
        if isinstance(found, list):
            items = claim_texts(claims, path)
        elif isinstance(found, str) and _names(found):
            items = found.split(" ")
        else:
            raise Unauthenticated(
                f"The token's `{path}` must be names separated by single spaces, or a list of names."
            )
        names.update(
            dict.fromkeys(name for name in (f"{before}{item}{after}" for item in items) if _name(name))
        )
    return list(names)
