"""The bodies of requests to the endpoints, as RFC 6749 has them."""

from __future__ import annotations

from urllib.parse import parse_qsl

from gateway.call import Call

FORM = "application/x-www-form-urlencoded"
NOT_STORED = {"Cache-Control": "no-store", "Pragma": "no-cache"}  # RFC 6749 section 5.1
_MAX_FIELDS = 32


def media_type(call: Call) -> str:
    """Of the body, in lower case, without parameters; "" where none is said."""
    values = call.head.values(b"content-type")
    return values[0].partition(";")[0].strip().lower() if values else ""


def parse(raw: bytes) -> dict[str, str]:
    """The parameters of a form in UTF-8. Those without a value are left out (RFC 6749 section 3.2). Raises
    ValueError where it is no form, or a parameter is there twice."""
    pairs = parse_qsl(
        raw.decode(),
        keep_blank_values=True,
        strict_parsing=bool(raw),
        errors="strict",
        max_num_fields=_MAX_FIELDS,
    )
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a parameter is there twice")
    return {name: value for name, value in made.items() if value}
