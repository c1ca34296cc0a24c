"""Turns validation errors into problems that the operator understands.

pydantic's messages are about its types. A Problem says which value was given, what the field takes, and an
example that was checked to be accepted.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from gateway.core.redact import redact
from gateway.core.routing.problems import Path, Problem, Wrong

_LONG = 60  # characters of a value that are shown
_PLAIN = re.compile(
    r"[A-Za-z/][A-Za-z0-9_./-]*(:[A-Za-z0-9_./-]+)*"
    r"|[0-9.]+ ?(/ ?)?[A-Za-z]{1,3}|[0-9]+(\.[0-9]+){3}(/[0-9]+)?"
)
_PATH = re.compile(r"/[^\s#:'\"]*")  # braces and stars begin nothing inside a word that is not in brackets
_VARIABLE = re.compile(r"\$\{|\$\(|^\$\w|%\(")
_RESERVED = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_YES = frozenset({"yes", "on", "y", "true", "1", "enabled"})
_NO = frozenset({"no", "off", "n", "false", "0", "disabled"})
_NEGATIVES = frozenset({"none", "drop", "refuse"})  # choices that say no


@dataclass(frozen=True, slots=True, eq=False)  # typing hashes the metadata of a type
class Word:
    """What a type takes. what: with its article, `a duration`. example: an accepted value. schema: its JSON
    Schema, where that of pydantic is not enough."""

    what: str
    example: Any
    schema: Mapping[str, Any] | None = None

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        made = dict(self.schema) if self.schema is not None else dict(handler(schema))
        return {**made, "examples": [self.example]}


class Slot(NamedTuple):
    """A position in the config: its type, the metadata of the type (bounds, a Word), and examples."""

    type: Any
    metadata: tuple[Any, ...] = ()
    examples: tuple[Any, ...] = ()


Accepts = Callable[[Slot, Any], bool]


def problem(item: Mapping[str, Any], root: type[Any], accepts: Accepts) -> Problem:
    """The problem for one of pydantic's errors. root: the model that was validated. accepts: whether a slot
    takes a value."""
    loc: tuple[str | int, ...] = tuple(item["loc"])
    path: Path = tuple(step for step in loc if step != "[key]")
    slot, given = _slot(Slot(root), loc), item["input"]
    if item["type"] == "extra_forbidden":
        return Problem(path, f"the key {shown(path[-1])} is unknown", _near_key(path, root))
    if item["type"] == "missing":
        return Problem(path, f"the key {path[-1]!r} is missing", _write(path, _words(slot)[1]))
    wrong = item.get("ctx", {}).get("error")
    what, example = _words(slot)
    secret = isinstance(wrong, Wrong) and wrong.secret
    if isinstance(wrong, Wrong):
        near, reason, detail = wrong.example(), wrong.reason, wrong.hint
    else:
        near, reason, detail = None, f"is not {what}", _trap(given, slot)
    if isinstance(given, str) and _VARIABLE.search(given) and not secret:
        near, detail = None, "variables and templates are not filled in here: render the file before"
    if near is None and not secret:
        near = next((v for v in _near(slot, given) if accepts(slot, v)), None)
    example = near if near is not None and flow(near) != flow(given) else example
    is_key = loc[-1:] == ("[key]",)
    hint = _write((), example) if is_key else _write(path, example)
    hint += _other_choices(slot, example)
    value = "what is written here" if secret else shown(given)
    return Problem(path, f"{value} {reason}", f"{hint}; {detail}" if detail else hint)


def _other_choices(slot: Slot, example: Any) -> str:
    """The other choices of a slot that takes one of a few words: one example alone would look like the only
    one."""
    kind = bare(slot).type
    choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
    others = [flow(choice) for choice in choices if choice != example]
    return f"; or {', '.join(others)}" if others else ""


def shown(value: Any) -> str:
    """A value for a message: shortened, and without the secrets that it may hold."""
    if value is None:
        return "an empty value"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        noun, entries = ("list", "entries") if isinstance(value, list) else ("mapping", "keys")
        if not value:
            return f"an empty {noun}"
        return f"a {noun} of {len(value)} {entries}" if len(value) > 1 else f"a {noun}"
    text = redact(value) if isinstance(value, str) else str(value)
    text = text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"
    return repr(text) if isinstance(value, str) else text


def flow(value: Any, *, inside: bool = True) -> str:
    """A value in YAML, on one line. inside: whether it is within brackets."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{flow(k)}: {flow(v)}' for k, v in value.items())} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
        return value
    if isinstance(value, str) and not inside and _PATH.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _write(path: Path, example: Any) -> str:
    key = path[-1] if path else None
    text = flow(example, inside=False)
    return f"write {flow(key)}: {text}" if isinstance(key, str) else f"write {text}"


def without_null(schema: Any) -> Any:
    """A JSON Schema without null: None is the value of an absent key, and may not be written."""
    if isinstance(schema, list):
        return [without_null(one) for one in schema if one != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: without_null(value) for key, value in schema.items() if key != "default" or value is not None
    }
    choices = made.get("anyOf", ())
    if len(choices) == 1:
        del made["anyOf"]
        made = {**choices[0], **made}
    return made


# --- where a path leads ----------------------------------------------------------------------------


def bare(slot: Slot) -> Slot:
    """The slot without Annotated and without the choice of None."""
    kind, metadata, examples = slot
    while True:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is Annotated:
            kind, metadata = arguments[0], (*metadata, *arguments[1:])
        elif origin in (typing.Union, types.UnionType):
            kind = next(one for one in arguments if one is not types.NoneType)
        else:
            return Slot(kind, metadata, examples)


def _fields(kind: Any) -> dict[str, Any]:
    return dict(getattr(kind, "model_fields", {}))


def _slot(slot: Slot, loc: Path) -> Slot:
    for index, step in enumerate(loc):
        kind = bare(slot).type
        fields, arguments = _fields(kind), typing.get_args(kind)
        if step in fields:
            field = fields[str(step)]
            slot = Slot(field.annotation, tuple(field.metadata), tuple(field.examples or ()))
        elif typing.get_origin(kind) is dict:
            slot = Slot(arguments[0 if loc[index + 1 :] == ("[key]",) else 1])
        elif typing.get_origin(kind) is list:
            slot = Slot(arguments[0])
    return slot


def _near_key(path: Path, root: type[Any]) -> str:
    key, known = str(path[-1]), sorted(_fields(bare(_slot(Slot(root), path[:-1])).type))
    if key == "<<":
        return "remove it: mappings are not merged here; write the keys out"
    near = difflib.get_close_matches(key.lower().replace("-", "_"), known, 1)
    if near:
        return f"did you mean {near[0]!r}?"
    paths = [found for found in _key_paths(root, ()) if found[-1] == key]
    if paths:
        where = " or ".join(".".join(found) for found in paths)
        return f"remove it; there is {where}"
    return f"remove it; known here: {', '.join(known)}"


def _key_paths(kind: Any, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Where each key of the config may stand, with NAME for what the config names itself."""
    for name, field in _fields(kind).items():
        yield (*above, name)
        inner = bare(Slot(field.annotation)).type
        arguments, origin = typing.get_args(inner), typing.get_origin(inner)
        if origin is dict:
            yield from _key_paths(bare(Slot(arguments[1])).type, (*above, name, "NAME"))
        else:
            yield from _key_paths(bare(Slot(arguments[0])).type if origin is list else inner, (*above, name))


# --- what a slot takes ---------------------------------------------------------------------------------


def _bound(slot: Slot, name: str) -> Any:
    return next((getattr(one, name) for one in slot.metadata if getattr(one, name, None) is not None), None)


def _words(slot: Slot) -> tuple[str, Any]:
    """What a slot takes, and an example."""
    slot = bare(slot)
    word = next((one for one in slot.metadata if isinstance(one, Word)), None)
    what, example = (word.what, word.example) if word is not None else _words_of_type(slot)
    return what, slot.examples[0] if slot.examples else example


def _words_of_type(slot: Slot) -> tuple[str, Any]:
    kind, origin, arguments = slot.type, typing.get_origin(slot.type), typing.get_args(slot.type)
    low, high = _bound(slot, "ge"), _bound(slot, "le")
    least, most = _bound(slot, "min_length"), _bound(slot, "max_length")
    if origin is Literal:
        return (
            f"one of {', '.join(map(flow, arguments))}" if arguments[1:] else flow(arguments[0])
        ), arguments[0]
    if origin is list:
        return f"a list{_range(least, most, 'entries')}", [_words(Slot(arguments[0]))[1]]
    if origin is dict:
        return "a mapping", {_words(Slot(arguments[0]))[1]: _words(Slot(arguments[1]))[1]}
    if kind is bool:
        return "true or false", True
    if kind in (int, float):
        return f"a {'whole ' if kind is int else ''}number{_range(low, high)}", max(low or 0, 1)
    if _fields(kind):
        needed = [name for name, field in _fields(kind).items() if field.is_required()]
        shown_fields = needed or list(_fields(kind))[:1]  # an optional one shows how the others are written
        words = {name: _words(_slot(Slot(kind), (name,)))[1] for name in shown_fields}
        return f"a mapping of {', '.join(needed or _fields(kind))}", words
    return f"a text{_range(least, most, 'characters')}", "text"


def _range(low: Any, high: Any, noun: str = "") -> str:
    start = f" of {{}} {noun}" if noun else " {}"
    if low is not None and high is not None:
        return start.format(f"{low} to {high}" if noun else f"from {low} to {high}")
    if low is not None:
        return start.format(f"at least {low}" if noun else f"from {low}")
    return start.format(f"up to {high}") if high is not None else ""


def _trap(given: Any, slot: Slot) -> str:
    """Why YAML read a value in another way than it was meant; "" when that is not known."""
    kind, text = bare(slot).type, given if isinstance(given, str) else ""
    if kind is bool and text:
        return "yes, no, on and off are texts, and so is what stands in quotes"
    if typing.get_origin(kind) is Literal and text.strip().isdecimal():
        return "a number has no quotes"
    if kind in (int, float) and re.fullmatch(r"[-+]?[0-9]+(\.[0-9]+)?", text.strip()):
        return "a number has no leading zero" if re.match(r"[-+]?0[0-9]", text) else "a number has no quotes"
    if kind is str and isinstance(given, int | float):
        return "a text that looks like a number or a switch stands in quotes"
    if given is None:
        return "or remove the key"
    return ""


def _near(slot: Slot, given: Any) -> Iterable[Any]:
    """Values that may have been meant, the likeliest first; not all of them are accepted."""
    slot = bare(slot)
    kind, origin, text = slot.type, typing.get_origin(slot.type), given if isinstance(given, str) else ""
    if kind is bool:
        return [str(given).strip().lower() in _YES]
    if kind in (int, float):
        return _near_number(given, kind)
    if kind is str:
        return [flow(given)] if isinstance(given, int | float) else []
    if origin is Literal:
        choices = {str(choice): choice for choice in typing.get_args(slot.type)}
        word = str(given).strip().lower()
        if word in _YES or word in _NO:  # a switch was meant
            return [choice for choice in choices.values() if (choice in _NEGATIVES) is (word in _NO)]
        near = difflib.get_close_matches(word, choices, 1)
        return [choices[one] for one in near]
    if origin is list and given is not None and not isinstance(given, list):
        parts: list[Any] = [part for part in re.split(r"[,\s]+", text) if part] if text else [given]
        entry = Slot(*typing.get_args(slot.type))
        return [parts, [_repaired(entry, part) for part in parts]]
    if _fields(kind) and given is None:
        return [{}]
    return []


def _repaired(slot: Slot, given: Any) -> Any:
    """The value, or the example that its own check gives."""
    for one in bare(slot).metadata if isinstance(given, str) else ():
        try:
            getattr(one, "func", str)(given)
        except Wrong as wrong:
            return wrong.example()
    return given


def _near_number(given: Any, kind: type[Any]) -> Iterable[Any]:
    try:
        number = float(str(given).strip().replace("_", ""))
    except ValueError:
        return []
    if not math.isfinite(number):
        return []
    return [int(number)] if kind is int else [number]
