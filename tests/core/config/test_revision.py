"""What a revision is kept as."""

from __future__ import annotations

import json

import pytest

from gateway.core.config import revision
from gateway.core.config.revision import json_with


@pytest.mark.parametrize("text", ["", 'a: "é\\"\n', "\U0001f600\ud800" * 5, "abc" * 5])
def test_a_text_in_slices_is_the_same_json(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revision, "_SLICE", 4)
    fields = {"text": "not this one", "at": 1.5, "origin": {"author": "a"}}
    assert json.loads(json_with(text, fields)) == {**fields, "text": text}
