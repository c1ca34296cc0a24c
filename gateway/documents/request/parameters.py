"""The parameters of a query, and the part of a request that an error is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import parse_qsl

from gateway.call import Call
from gateway.core.errors import BadRequest, Unprocessable
from gateway.store.model.query import DEFAULT_LIMIT, MAX_LIMIT

Parameters = Mapping[str, str]

_MAX_NAME = 64  # characters of a parameter's name that an error repeats


def read(call: Call, known: tuple[str, ...] = ()) -> Parameters:
    """The parameters by name, each at most once and one of `known`. Raises BadRequest; its member `parameter`
    names the one that is wrong."""
    if not call.query:
        return {}
    pairs = []
    if call.query.isascii():
        try:
            pairs = parse_qsl(call.query, keep_blank_values=True, strict_parsing=True, errors="strict")
        except ValueError:  # UnicodeDecodeError is one too
            pairs = []
    if not pairs:
        raise BadRequest("The query is not name=value pairs with & between, percent-encoded UTF-8.")
    parameters: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            allowed = f"Known here: {', '.join(known)}." if known else "None is known here."
            raise _wrong(name, f"A query parameter is unknown. {allowed}")
        if name in parameters:
            raise _wrong(name, "A query parameter is there more than once.")
        parameters[name] = value
    return parameters


def limit(parameters: Parameters) -> int:
    """How many items a page may hold, from 1 to MAX_LIMIT. Raises BadRequest."""
    text = parameters.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_LIMIT):
        raise _wrong("limit", f"limit is a number from 1 to {MAX_LIMIT}.")
    return int(text)


def flag(parameters: Parameters, name: str, default: bool = False) -> bool:
    """A parameter that is true or false. Raises BadRequest."""
    text = parameters.get(name, "true" if default else "false")
    if text not in ("true", "false"):
        raise _wrong(name, f"{name} is true or false.")
    return text == "true"


@contextmanager
def in_parameter(name: str) -> Iterator[None]:
    """A BadRequest raised meanwhile names this parameter (or header) in its member `parameter`."""
    try:
        yield
    except BadRequest as error:
        error.with_members(parameter=name)
        raise


@contextmanager
def in_body(pointer: str) -> Iterator[None]:
    """The errors of a BadRequest or Unprocessable raised meanwhile are at or below this JSON pointer into the
    body."""
    try:
        yield
    except (BadRequest, Unprocessable) as error:
        error.below(pointer)
        raise


def _wrong(name: str, detail: str) -> BadRequest:
    return BadRequest(detail, extra={"parameter": name[:_MAX_NAME]})
