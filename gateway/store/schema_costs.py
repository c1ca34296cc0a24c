"""What checking a document against a JSON Schema costs, before it is done.

Costs are upper bounds, in nanoseconds as measured on one core: of each node of a document, by its depth,
and of each byte of its strings. A property is checked by its own schema alone, so the largest of them counts;
what applies to the same value is added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

_LOOKED_AT = 20_000  # nodes of a document, to tell its cost


@dataclass(frozen=True, slots=True)
class Weights:
    """What checking costs, at most. nodes, text: by depth below the value, in ns for a node, and for a byte
    of a string. deep: ns for every node below."""

    nodes: tuple[float, ...] = ()
    text: tuple[float, ...] = ()
    deep: float = 0.0

    def __add__(self, other: Weights) -> Weights:
        return Weights(_sums(self.nodes, other.nodes), _sums(self.text, other.text), self.deep + other.deep)

    def __or__(self, other: Weights) -> Weights:
        """Where one or the other applies."""
        nodes, text = _largest(self.nodes, other.nodes), _largest(self.text, other.text)
        return Weights(nodes, text, max(self.deep, other.deep))

    def __mul__(self, times: float) -> Weights:
        nodes, text = tuple(n * times for n in self.nodes), tuple(n * times for n in self.text)
        return Weights(nodes, text, self.deep * times)

    def below(self) -> Weights:
        """As it counts for the value that holds the one which is checked."""
        nodes, text = ((0.0, *self.nodes) if self.nodes else ()), ((0.0, *self.text) if self.text else ())
        return Weights(nodes, text, self.deep)


NOTHING = Weights()


def _sums(one: Sequence[float], other: Sequence[float]) -> tuple[float, ...]:
    return tuple(a + b for a, b in zip_longest(one, other, fillvalue=0.0))


def _largest(one: Sequence[float], other: Sequence[float]) -> tuple[float, ...]:
    return tuple(max(a, b) for a, b in zip_longest(one, other, fillvalue=0.0))


@dataclass(frozen=True, slots=True)
class Costs:
    """What is kept of a schema that was read. inline: whether it may be compiled in this process. size: about
    how many bytes it takes when it is compiled."""

    weights: Weights
    inline: bool
    size: int
    dearest: float  # ns for each node and byte of a document, at most

    def of(self, data: Any, size: int, enough: float) -> float:
        """ns that checking a document may cost, at most. size: characters of its text. Beyond `enough` it is
        not looked at any closer."""
        cost = (size / 2 + 1) * self.dearest
        if cost <= enough:
            return cost
        return _closer(self.weights, data, size, enough)


def _closer(weights: Weights, data: Any, size: int, enough: float) -> float:
    """The cost by the number of nodes at each depth, and the length of their strings."""
    cost = 0.0
    level, known = [data], 0
    depths = max(len(weights.nodes), len(weights.text))
    for depth in range(64 if weights.deep else depths):
        node = weights.nodes[depth] if depth < len(weights.nodes) else 0.0
        text = weights.text[depth] if depth < len(weights.text) else 0.0
        known += len(level)
        cost += len(level) * (node + weights.deep)
        if cost > enough or known > _LOOKED_AT:
            return max(cost, enough + 1.0)
        below: list[Any] = []
        letters = 0
        for value in level:
            if isinstance(value, str):
                letters += len(value)
            elif isinstance(value, list):
                below += value
            elif isinstance(value, dict):
                below += value.values()
                letters += sum(map(len, value))
        # A key is matched at the depth of its member, which is the next one; four bytes are a letter's most.
        after = weights.text[depth + 1] if depth + 1 < len(weights.text) else 0.0
        cost += min(4 * letters, size * 4) * max(text, after)
        if cost > enough or not below:
            return cost
        level = below
    return cost
