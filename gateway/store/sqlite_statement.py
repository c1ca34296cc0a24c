"""The parameters of one SQL statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.store.strict_json import dumps


class Bound:
    """What is bound to a statement, and the names that it needs."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._aliases = 0

    def bind(self, value: Any) -> str:
        self.values.append(value)
        return f"?{len(self.values)}"

    def real(self, value: float) -> str:
        """A number as SQLite reads it in a document: less exactly than Python does."""
        return self.bind(value) if isinstance(value, int) else f"json_extract({self.bind(dumps(value))}, '$')"

    def each(self, values: Sequence[Any]) -> str:
        """A list for IN, as one parameter however long it is."""
        return f"(SELECT value FROM json_each({self.bind(dumps(list(values)))}))"  # noqa: S608

    def alias(self) -> str:
        self._aliases += 1
        return f"j{self._aliases}"


def json_path(*names: str) -> str:
    """SQLite's path to a member. parse_path refused the characters that its quoting cannot hold."""
    return "$" + "".join(f'."{name}"' for name in names)
