"""Media types with their parameters."""

from __future__ import annotations

from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.documents.request.content import MediaType, parse_media_type

TOKEN = st.text("!#$%&'*+-.^_`|~09AZaz", min_size=1, max_size=8)
SPACE = st.sampled_from(["", " ", "\t", "  "])
TEXT = st.text(st.sampled_from('aZ09 ;,="\\/\té'), max_size=8)
CASES = [
    ("application/json", "application/json", ()),
    ("Application/JSON;", "application/json", ()),
    ("application/json ; ; version=1 ;", "application/json", (("version", "1"),)),
    ('application/json; Charset="utf-8"', "application/json", (("charset", "utf-8"),)),
    ("a/json;charset=UTF-8;version=2", "a/json", (("charset", "UTF-8"), ("version", "2"))),
    (r'a/b; x="a;b=\"c\\"', "a/b", (("x", r'a;b="c\ '.strip()),)),
    ('a/b; x=""', "a/b", (("x", ""),)),
]


@pytest.mark.parametrize(("value", "name", "parameters"), CASES)
def test_parameters_are_read_as_they_are_meant(
    value: str, name: str, parameters: tuple[tuple[str, str], ...]
) -> None:
    assert parse_media_type(value) == MediaType(name, parameters)


@pytest.mark.parametrize(
    "value",
    ["", "json", "a/", "/b", "a/b/c", "a b/c", "a/b, a/b", "a/b; x", "a/b; x=", "a/b; =1", "a/b; x =1",
     "a/b; x= 1", 'a/b; x="', 'a/b; x="a" b', "a/b; x=a b", 'a/b; x="\\', 'a/b; x="\x00"', "a/b x=1"],
)  # fmt: skip
def test_what_is_no_media_type_is_none(value: str) -> None:
    assert parse_media_type(value) is None


@st.composite
def written(draw: st.DrawFn) -> tuple[str, MediaType]:
    """A media type in one of the ways in which it can be written."""
    kind, subtype = draw(TOKEN), draw(TOKEN)
    line, parameters = f"{draw(SPACE)}{kind}/{subtype}{draw(SPACE)}", []
    for _ in range(draw(st.integers(0, 3))):
        line += f";{draw(SPACE)}"
        if draw(st.booleans()):
            name, value, quoted = draw(TOKEN), draw(TOKEN), draw(st.booleans())
            if quoted:
                value = draw(TEXT)
                marks = [c in '"\\' or (c < "\x7f" and draw(st.booleans())) for c in value]
                escaped = "".join("\\" * mark + c for mark, c in zip(marks, value, strict=True))
                line += f'{name}="{escaped}"'
            else:
                line += f"{name}={value}"
            parameters.append((name.lower(), value))
        line += draw(SPACE)
    return line, MediaType(f"{kind}/{subtype}".lower(), tuple(parameters))


@given(written())
def test_any_way_of_writing_one_is_read(case: tuple[str, MediaType]) -> None:
    line, expected = case
    assert parse_media_type(line) == expected


@given(st.text(st.sampled_from('aB/;=" \\\t,é'), max_size=20))
def test_any_text_is_read_or_refused_and_the_library_of_mail_sees_the_same_type(text: str) -> None:
    found = parse_media_type(text)
    if found is not None:
        message = Message()
        message["Content-Type"] = text.strip()
        assert message.get_content_type() == found.name
