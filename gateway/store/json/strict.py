"""JSON as the store accepts it: RFC 8259 without its ambiguities, and numbers in one canonical form.

Refused: bytes that are not UTF-8, duplicate member names, NaN and Infinity, numbers beyond a double,
integers beyond 64 bits, NUL, lone surrogates, nesting beyond MAX_DEPTH. A number that is an integer is
read as one (`1.0` and `1e0` are 1, as RFC 8785 serialises them), so that equal values have equal text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from json.encoder import encode_basestring
from math import isfinite
from typing import Any

from gateway.core.errors import BadRequest, GatewayError, Unprocessable

MAX_DEPTH = 64
MAX_PROBLEMS = 20
INT_MIN, INT_MAX = -(2**63), 2**63 - 1

# Says what is wrong with a member's name; empty when nothing is. top: it is a member of the outermost object.
NameRule = Callable[[str, bool], str]


class JsonSyntaxError(ValueError):
    """The text is not JSON at all. The message names line and column, and never repeats the input."""


class JsonProblems(ValueError):
    """The text is JSON that is not accepted; `problems` are pairs of a JSON pointer and a sentence."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = problems


class _WithDuplicates(dict[str, Any]):
    """An object with members that occur more than once in its text. names: of these members."""

    names: tuple[str, ...] = ()


class _Constant:
    """NaN, Infinity or -Infinity, which Python's parser lets through."""


def any_name(name: str, top: bool) -> str:
    """The NameRule that takes every name."""
    return ""


def read(
    raw: bytes | str,
    what: str,
    refused: str,
    name_rule: NameRule = any_name,
    problem: type[GatewayError] = Unprocessable,
) -> Any:
    """Parse and check what a client sent. what: what it is called in the error.

    Raises BadRequest for what is not JSON, and `problem` with the detail `refused` for JSON that is not
    accepted, each fault with its pointer.
    """
    try:
        return loads(raw, name_rule)
    except JsonSyntaxError as error:
        raise BadRequest(f"The {what} is not JSON: {error}.") from None
    except JsonProblems as error:
        raise refusal(refused, error.problems, problem) from None


def require(value: Any, refused: str, name_rule: NameRule) -> None:
    """Check a value that was made from parsed ones. Raises Unprocessable with the detail `refused`, each
    fault with its pointer."""
    try:
        check(value, name_rule)
    except JsonProblems as error:
        raise refusal(refused, error.problems) from None


def loads(raw: bytes | str, name_rule: NameRule) -> Any:
    """Parse and check. Raises JsonSyntaxError or JsonProblems."""
    try:
        text = raw.decode() if isinstance(raw, bytes) else raw
        value = _decoder.decode(text)
    except UnicodeDecodeError as error:
        raise JsonSyntaxError(f"the text is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise JsonSyntaxError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise JsonProblems([("", f"nested deeper than {MAX_DEPTH} levels")]) from None
    except ValueError:  # more digits than Python converts
        raise JsonProblems([("", "an integer has thousands of digits; 64 bits are the most")]) from None
    check(value, name_rule)
    return value


def check(value: Any, name_rule: NameRule) -> None:
    """Check a value that was made from parsed ones. Raises JsonProblems."""
    checker = _Checker(name_rule)
    checker.check(value, None, 1)
    if checker.problems:
        raise JsonProblems(checker.problems)


def refusal(
    detail: str, problems: Iterable[tuple[str, str]], kind: type[GatewayError] = Unprocessable
) -> GatewayError:
    """An error about places in JSON, which its member `errors` lists. problems: pairs of a JSON pointer and a
    sentence."""
    errors = [{"pointer": pointer, "detail": sentence} for pointer, sentence in problems]
    return kind(detail, extra={"errors": errors})


def marks(text: bytes | str) -> int:
    """The number of commas and opening brackets in JSON, which has one value more at most."""
    if isinstance(text, str):
        return text.count(",") + text.count("[") + text.count("{")
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def dumps(value: Any) -> str:
    """The canonical text of a value: compact, UTF-8 unescaped. Equal values (with members in equal order)
    have equal texts."""
    return _encode(value)


def pointer(*names: str | int) -> str:
    """The JSON pointer (RFC 6901) through these names; characters that UTF-8 cannot encode are replaced."""
    parts = (str(name).replace("~", "~0").replace("/", "~1") for name in names)
    return "".join("/" + part.encode("utf-8", "replace").decode() for part in parts)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    found = _WithDuplicates(members)
    counts = Counter(name for name, _ in pairs)
    found.names = tuple(name for name, count in counts.items() if count > 1)
    return found


def _float(text: str) -> int | float:
    number = float(text)
    if number.is_integer() and -(2.0**63) <= number < 2.0**63:
        return int(number)
    return number


def _constant(_: str) -> _Constant:
    return _Constant()


quote = encode_basestring  # dumps of a string, in a quarter of its time
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_decoder = json.JSONDecoder(object_pairs_hook=_pairs, parse_float=_float, parse_constant=_constant)


# Where a value is: the location of its container, and its name or index there; None for the outermost value.
# A pointer is only made of it for a problem (made for each member, it was half of the time of parsing).
_Location = tuple[Any, str | int] | None
_NESTED = (dict, list)
_NAMES_KNOWN = 1000  # names that are remembered as checked, at most


class _Checker:
    """One walk over a value, in document order, until there are MAX_PROBLEMS. Values that are fine by their
    type alone are skipped inline: a call for each value was most of the time of parsing a body."""

    def __init__(self, name_rule: NameRule) -> None:
        self._name_rule = name_rule
        self._good_names: set[str] = set()  # below the top
        self.problems: list[tuple[str, str]] = []

    def check(self, value: Any, at: _Location, depth: int) -> None:
        """Add the problems of a value. depth: 1 for the outermost one."""
        if not isinstance(value, _NESTED):
            if problem := _scalar_problem(value):
                self._add(at, problem)
        elif depth > MAX_DEPTH:
            self._add(at, f"nested deeper than {MAX_DEPTH} levels")
        elif isinstance(value, dict):
            self._check_object(value, at, depth)
        else:
            shallow = depth < MAX_DEPTH
            for index, item in enumerate(value):
                kind = type(item)
                if kind is int:
                    if INT_MIN <= item <= INT_MAX:
                        continue
                elif kind is str:
                    if item.isascii() and "\0" not in item:
                        continue
                elif kind is float:
                    if isfinite(item):
                        continue
                elif item is None or kind is bool or (shallow and not item and kind in _NESTED):
                    continue
                self.check(item, (at, index), depth + 1)

    def _check_object(self, value: dict[str, Any], at: _Location, depth: int) -> None:
        if isinstance(value, _WithDuplicates):
            for name in value.names:
                self._add((at, name), "this member is there more than once")
        good = self._good_names
        shallow = depth < MAX_DEPTH
        for name, item in value.items():
            if depth == 1 or name not in good:
                if problem := _text_problem(name) or self._name_rule(name, depth == 1):
                    self._add((at, name), f"the member's name: {problem}")
                elif depth > 1 and len(good) < _NAMES_KNOWN:
                    good.add(name)
            kind = type(item)
            if kind is int:
                if INT_MIN <= item <= INT_MAX:
                    continue
            elif kind is str:
                if item.isascii() and "\0" not in item:
                    continue
            elif item is None or kind is bool or (shallow and not item and kind in _NESTED):
                continue
            self.check(item, (at, name), depth + 1)

    def _add(self, at: _Location, problem: str) -> None:
        if len(self.problems) >= MAX_PROBLEMS:
            return
        names: list[str | int] = []
        while at is not None:
            at, name = at
            names.append(name)
        self.problems.append((pointer(*reversed(names)), problem))


def _scalar_problem(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return _text_problem(value)
    if kind is int and not INT_MIN <= value <= INT_MAX:
        return "an integer beyond 64 bits; send it as a string"
    if kind is float and not isfinite(value):
        return "a number beyond the range of a double"
    if kind is _Constant:
        return "NaN and Infinity are not JSON"
    return ""


def _text_problem(text: str) -> str:
    if "\0" in text:
        return "the character U+0000 cannot be stored"
    if text.isascii():
        return ""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "a surrogate without its pair is not a character"
    return ""
