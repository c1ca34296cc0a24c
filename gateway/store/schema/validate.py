"""JSON Schema of a collection: which schemas are accepted, and checking documents against one.

jsonschema-rs checks: patterns run on an engine whose time grows with the text alone, and nothing is ever
fetched. But it holds the interpreter lock while it checks, and makes all errors before it gives the first. So
the cost of a check is bounded before it begins (reading.py): a cheap check is done at once, any other one in
a worker process with limits of memory and time (checks.py).
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from itertools import islice
from threading import Lock
from typing import Any, Protocol

import jsonschema_rs

from gateway.core.errors import SchemaTooCostly, SchemaViolation
from gateway.store.json import strict
from gateway.store.schema import reading as schema_reading
from gateway.store.schema.costs import Costs
from gateway.store.schema.reading import DRAFT_7, MAX_SIZE, NotQuick, Reading, Unfit

__all__ = ["MAX_SIZE", "Schema", "Violations", "problems"]

MAX_ERRORS = 20
INLINE = 1_000_000.0  # ns: what a check may cost, at most, to be done at once
REPORTING = 5_000_000.0  # ns: what listing the violations may cost, at most, to be done at once
MAX_KNOWN = 4096  # schemas whose costs are kept
MAX_PROBLEMS = 256  # schemas whose problems, as a worker process found them, are kept
MAX_COMPILED = 64 * 1024 * 1024  # bytes of all compiled schemas of this process

# Characters of a schema that is read at once, if its patterns are few and small: that takes 4 ms.
_INLINE_TEXT = 4 * 1024
_COMPILED_TEXT = 32 * 1024  # and of one that is compiled at once
# Of a schema that is compiled at once, in about 5 ms: parts, bytes of its patterns, and how many these are.
_INLINE_PARTS, _INLINE_PATTERNS, _INLINE_COUNT = 500, 256 * 1024, 48
_PART = 500  # bytes of memory, roughly
_PATTERN = 1024 * 1024  # bytes of one compiled pattern, at most
_STATES = 4 * 1024 * 1024  # bytes of the states of all patterns of a schema, which they make while matching
_ERROR, _ERROR_BYTE = 3_000.0, 10.0  # ns to make an error, and for each byte of the document that it repeats

Violation = dict[str, str]
Violations = list[Violation]
Problems = list[tuple[str, str]]


class Validator(Protocol):
    """A schema as jsonschema-rs compiles it."""

    def is_valid(self, instance: Any) -> bool:
        """Whether a value is valid."""
        ...

    def validate(self, instance: Any) -> None:
        """Raises the first jsonschema_rs.ValidationError."""
        ...

    def iter_errors(self, instance: Any) -> Any:
        """All errors, which are made before the first is given."""
        ...


class _Compiled:
    """A compiled schema. validator: None after it was dropped to free memory. size: its bytes. used: since it
    was last considered for that."""

    __slots__ = ("size", "used", "validator")

    def __init__(self, validator: Validator | None, size: int) -> None:
        self.validator = validator
        self.size = size
        self.used = True


_NOT_COMPILED = _Compiled(None, 0)


class Schema:
    """An accepted schema, as in its collection's settings. Cheap to construct, however costly the schema
    is."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        self._value = value
        self._costs: Costs | None = None
        self._compiled = _NOT_COMPILED

    @cached_property
    def text(self) -> str:
        """The schema as canonical JSON."""
        return strict.dumps(self._value)

    @cached_property
    def key(self) -> bytes:
        """A digest of the text."""
        return sha256(self.text.encode()).digest()

    @property
    def costs(self) -> Costs | None:
        """What checks may cost. None: not known yet, and takes longer than a moment to find out."""
        if self._costs is None:
            self._costs = _cache.costs(self)
        return self._costs

    def learn(self, costs: Costs) -> None:
        """Keep the costs that a worker process found."""
        self._costs = costs
        _cache.learn(self, costs)

    def validator(self) -> Validator:
        """The compiled schema, whatever its costs say."""
        compiled = self._compiled
        validator = compiled.validator
        if validator is None:  # not compiled yet, or dropped
            self._compiled, validator = _cache.compiled(self)
        else:
            compiled.used = True
        return validator

    def check_now(self, data: Mapping[str, Any], size: int) -> tuple[bool, float]:
        """Whether the document, without its id, was checked here and now; and what that cost at most, in ns.
        size: bytes of its text. False: the check, or listing the violations, may be costly. Raises
        SchemaViolation with pointers and no values."""
        costs = self.costs
        if costs is None or not costs.inline:
            return False, 0.0
        cost = costs.of(data, size, INLINE)
        if cost > INLINE:
            return False, 0.0
        validator = self.validator()
        if validator.is_valid(data):
            return True, cost
        if reporting_cost(cost, size) > REPORTING:
            return False, cost
        raise violation(list_violations(validator, data, MAX_ERRORS))


def reporting_cost(cost: float, size: int) -> float:
    """ns that listing the violations may cost: an error for each step, with the document in it. cost: of the
    check. size: bytes of the document."""
    return cost + cost / 100.0 * (_ERROR + _ERROR_BYTE * size)


def list_violations(validator: Validator, data: Any, most: int) -> Violations:
    """The violations of a document, `most` at most. For more than one, the validator makes all of them
    first."""
    if most > 1:
        return [_violation(error) for error in islice(validator.iter_errors(data), most)]
    try:
        validator.validate(data)
    except jsonschema_rs.ValidationError as error:
        return [_violation(error)]
    return []


def _violation(error: Any) -> Violation:
    return {"pointer": strict.pointer(*error.instance_path), "detail": _sentence(error)}


def violation(errors: Violations) -> SchemaViolation:
    """The error for a document with these violations."""
    detail = "The document does not fit its collection's schema; see errors."
    return SchemaViolation(detail, extra={"errors": errors})


class Unread(SchemaTooCostly):
    """A schema takes long to read: a worker process has to do it. key: see Schema. text: of the schema."""

    def __init__(self, key: bytes, text: str) -> None:
        super().__init__("The schema takes too much time or memory to be read.")
        self.key = key
        self.text = text


def problems_now(value: Any) -> Problems:
    """As problems. Raises Unread for a schema that takes long, unless learn_problems was called for it."""
    text = strict.dumps(value)
    key = sha256(text.encode()).digest()
    known = _cache.problems(key)
    if known is not None:
        return known
    if not is_quick(value, text):
        raise Unread(key, text)
    return problems(value)


def learn_problems(key: bytes, found: Problems) -> None:
    """Keep the problems that a worker process found. key: of the schema."""
    _cache.learn_problems(key, found)


def problems(value: Any) -> Problems:
    """Why a schema is not accepted, as pairs of a JSON pointer and a sentence; empty when it is accepted. May
    take long: see is_quick."""
    try:
        reading = schema_reading.read(value)
        _check_meta(value, reading)
        _compile(reading)
    except Unfit as error:
        return [(error.args[0], error.args[1])]
    except jsonschema_rs.ValidationError as error:
        return [(strict.pointer(*error.instance_path), _sentence(error))]
    except ValueError:
        return [("", "this is not a JSON Schema")]
    return []


def is_quick(value: Any, text: str) -> bool:
    """Whether `problems` takes no more than some milliseconds for a schema. text: its JSON."""
    if len(text) > _INLINE_TEXT:
        return False
    try:
        reading = schema_reading.read(value, quick=True)
    except NotQuick:
        return False
    except (Unfit, ValueError):
        return True
    return _is_inline(reading, len(text))


def _check_meta(value: Mapping[str, Any], reading: Reading) -> None:
    """Raises ValidationError for what is not a schema of its draft."""
    plain = {name: part for name, part in value.items() if name not in ("$id", "$schema")}
    draft = f"{DRAFT_7}#" if reading.draft == DRAFT_7 else reading.draft
    jsonschema_rs.meta.validate({**plain, "$schema": draft})


def _compile(reading: Reading) -> Validator:
    kind = jsonschema_rs.Draft7Validator if reading.draft == DRAFT_7 else jsonschema_rs.Draft202012Validator
    count = reading.patterns[0]
    validator: Validator = kind(
        reading.form,
        validate_formats=True,
        offline=True,
        mask="the value",
        pattern_options=jsonschema_rs.RegexOptions(size_limit=_PATTERN, dfa_size_limit=_states(count)),
    )
    return validator


def _states(patterns: int) -> int:
    """How many bytes of states each of so many patterns may keep, for each of its two directions."""
    return min(256 * 1024, _STATES // (2 * patterns or 1))


def _is_inline(reading: Reading, length: int) -> bool:
    small = reading.parts <= _INLINE_PARTS and length <= _COMPILED_TEXT
    count, size = reading.patterns
    return small and size <= _INLINE_PATTERNS and count <= _INLINE_COUNT


def _sentence(error: Any) -> str:
    return str(error.message)[:300]


class _SchemaCache:
    """The recently used schemas of this process, for all its threads: compiled, their costs and problems."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._size = 0
        self._compiled: OrderedDict[bytes, _Compiled] = OrderedDict()
        self._costs: OrderedDict[bytes, Costs] = OrderedDict()
        self._problems: OrderedDict[bytes, Problems] = OrderedDict()

    def costs(self, schema: Schema) -> Costs | None:
        with self._lock:
            found = self._costs.get(schema.key)
            if found is not None:
                self._costs.move_to_end(schema.key)
                return found
        if len(schema.text) > _INLINE_TEXT:
            return None
        try:
            found = costs_of(_read(schema, quick=True), len(schema.text))
        except NotQuick:
            return None
        self.learn(schema, found)
        return found

    def problems(self, key: bytes) -> Problems | None:
        with self._lock:
            return self._problems.get(key)

    def learn_problems(self, key: bytes, found: Problems) -> None:
        with self._lock:
            self._problems[key] = found
            while len(self._problems) > MAX_PROBLEMS:
                self._problems.popitem(last=False)

    def learn(self, schema: Schema, costs: Costs) -> None:
        with self._lock:
            self._costs[schema.key] = costs
            while len(self._costs) > MAX_KNOWN:
                self._costs.popitem(last=False)

    def compiled(self, schema: Schema) -> tuple[_Compiled, Validator]:
        with self._lock:
            found = self._compiled.get(schema.key)
            if found is not None and found.validator is not None:
                return found, found.validator
        reading = _read(schema, quick=False)
        validator = _compile(reading)
        found = _Compiled(validator, costs_of(reading, len(schema.text)).size)
        with self._lock:
            self._drop(self._compiled.pop(schema.key, None))
            while self._compiled and self._size + found.size > MAX_COMPILED:
                key, oldest = self._compiled.popitem(last=False)
                if oldest.used:
                    oldest.used = False
                    self._compiled[key] = oldest
                else:
                    self._drop(oldest)
            self._compiled[schema.key] = found
            self._size += found.size
        return found, validator

    def _drop(self, compiled: _Compiled | None) -> None:
        if compiled is not None:
            self._size -= compiled.size
            compiled.validator = None


_cache = _SchemaCache()


def costs_of(reading: Reading, length: int) -> Costs:
    """The costs of a schema that was read. length: characters of its text."""
    count, patterns = reading.patterns
    size = _PART * reading.parts + 8 * length + patterns + 2 * count * _states(count)
    weights = reading.weights
    dearest = max(weights.nodes, default=0.0) + weights.deep
    return Costs(weights, _is_inline(reading, length), size, dearest, max(weights.text, default=0.0))


def all_costs(schema: Schema) -> Costs:
    """The costs of a schema, however long it takes to find them."""
    found = _cache.costs(schema)
    if found is None:
        found = costs_of(_read(schema, quick=False), len(schema.text))
        schema.learn(found)
    return found


def _read(schema: Schema, *, quick: bool) -> Reading:
    """Read an accepted schema again. Raises NotQuick; Unprocessable for one that only an earlier release
    accepted."""
    try:
        return schema_reading.read(json.loads(schema.text), quick=quick)
    except Unfit as error:
        where, why = error.args
        detail = "The collection's schema is not accepted any more; put other settings. See errors."
        raise strict.refusal(detail, [(f"/schema{where}", why)]) from None
