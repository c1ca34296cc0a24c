"""Rows of documents as the bytes that MongoDB has of them (BSON, bsonspec.org), and which of these are large.

The driver gives rows as bytes. A light one is decoded at once. Of a large one, the process that serves only
decodes the head: the row without the client's members (`d`) and the entries of indexes (`ix`), which are
passed over by their lengths; the head has the bytes too. What is in them, worker processes see
(mongo/large.py).
"""

from __future__ import annotations

from struct import Struct
from typing import Any

import bson
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.errors import InvalidBSON, InvalidDocument, InvalidStringData
from bson.int64 import Int64

from gateway.store.json.large import LIGHT_BYTES, LIGHT_VALUES
from gateway.store.mongo import server_errors
from gateway.store.mongo.rows import Row

RAW = "raw"  # in the head of a large row: its bytes
MAX_BYTES = 16 * 1024 * 1024  # of a row; MongoDB refuses more

_FEW = 8 * LIGHT_VALUES  # NUL bytes: each element has one behind its name, and numbers have some in them
_LENGTH = Struct("<i")
_NAME = 64  # bytes, beyond which no member of a row has its name
_OBJECT, _ARRAY = 0x03, 0x04
_PASSED_OVER = frozenset({b"d", b"ix"})
# The sizes of values, by their type: fixed ones, and what comes with a length before them.
_FIXED = {0x01: 8, 0x06: 0, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16}
_MEASURED = {0x02: 4, _OBJECT: 0, _ARRAY: 0, 0x05: 5}


class _Plain(TypeDecoder):
    """Whole numbers of 64 bits as any other: not all code takes a subclass of int for a number."""

    bson_type = Int64

    def transform_bson(self, value: Any) -> Any:
        return int(value)


_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(type_registry=TypeRegistry([_Plain()]))


def is_light(raw: bytes | memoryview) -> bool:
    """Whether a row may be decoded where the interpreter is locked; as large.is_light, but of BSON."""
    if len(raw) <= _FEW:
        return True
    return len(raw) <= LIGHT_BYTES and bytes(raw).count(0) <= _FEW


def read(raw: bytes | memoryview) -> Row:
    """A row; of a large one the head. Raises BSONError."""
    return decode(raw) if is_light(raw) else head(raw)


def decode(raw: bytes | memoryview) -> Row:
    """All of a row. Raises BSONError."""
    return bson.decode(raw, _OPTIONS)


def encode(row: Row) -> bytes:
    """Raises BodyTooLarge for a row that MongoDB refuses (numbers take more room there than in JSON), and
    Unprocessable for what BSON cannot hold."""
    try:
        raw = bson.encode(row)
    except (InvalidDocument, InvalidStringData, OverflowError, UnicodeEncodeError):
        raise server_errors.not_accepted() from None
    if len(raw) > MAX_BYTES:
        raise server_errors.too_large()
    return raw


def head(raw: bytes | memoryview) -> Row:
    """The small members of a large row, and its bytes. Raises BSONError."""
    parts = []
    at, end = _LENGTH.size, len(raw) - 1
    while at < end:
        name, ended, _ = bytes(raw[at + 1 : at + 1 + _NAME]).partition(b"\0")
        if not ended:
            raise InvalidBSON("a row has a name that no row has")
        begin = at + len(name) + 2
        next_ = begin + _size(raw, raw[at], begin)
        if name not in _PASSED_OVER:
            parts.append(raw[at:next_])
        at = next_
    if at != end:
        raise InvalidBSON("the lengths in a row do not agree")
    inner = b"".join(parts)
    row = decode(_LENGTH.pack(_LENGTH.size + len(inner) + 1) + inner + b"\0")
    row[RAW] = bytes(raw)  # a view would be of all that came with it
    return row


def _size(raw: bytes | memoryview, kind: int, begin: int) -> int:
    fixed = _FIXED.get(kind)
    if fixed is not None:
        return fixed
    prefix = _MEASURED.get(kind)
    if prefix is None or begin > len(raw) - _LENGTH.size:
        raise InvalidBSON("a row has a value of a kind that no row has")
    (length,) = _LENGTH.unpack_from(raw, begin)
    return max(int(length), 0) + prefix
