"""What checking a document against a JSON Schema may cost, estimated before it is done.

Costs are upper bounds, in nanoseconds as measured on one core: of each node of a document, by its depth,
and of each byte of its strings. A property is checked by its own schema alone, so of several the largest
counts; schemas that apply to the same value are added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

_COLLISION = 12.0  # ns, for each node and each number that no double holds: see Costs.of
_DIGITS = 17  # characters that such a number takes at least, with the comma
_EXACT = 2**53
_MAX_VISITED = 20_000  # nodes of a document, to estimate its cost


@dataclass(frozen=True, slots=True)
class Weights:
    """What checking a value costs, at most. nodes, text: by depth below the value, ns for each node and for
    each byte of a string. deep: ns for every node below."""

    nodes: tuple[float, ...] = ()
    text: tuple[float, ...] = ()
    deep: float = 0.0

    def __add__(self, other: Weights) -> Weights:
        return Weights(_sums(self.nodes, other.nodes), _sums(self.text, other.text), self.deep + other.deep)

    def __or__(self, other: Weights) -> Weights:
        """The weights where one or the other applies."""
        nodes, text = _largest(self.nodes, other.nodes), _largest(self.text, other.text)
        return Weights(nodes, text, max(self.deep, other.deep))

    def __mul__(self, times: float) -> Weights:
        nodes, text = tuple(n * times for n in self.nodes), tuple(n * times for n in self.text)
        return Weights(nodes, text, self.deep * times)

    def below(self) -> Weights:
        """The same weights, seen from the value that contains the checked one."""
        nodes, text = ((0.0, *self.nodes) if self.nodes else ()), ((0.0, *self.text) if self.text else ())
        return Weights(nodes, text, self.deep)


NOTHING = Weights()


def _sums(one: Sequence[float], other: Sequence[float]) -> tuple[float, ...]:
    return tuple(a + b for a, b in zip_longest(one, other, fillvalue=0.0))


def _largest(one: Sequence[float], other: Sequence[float]) -> tuple[float, ...]:
    return tuple(max(a, b) for a, b in zip_longest(one, other, fillvalue=0.0))


@dataclass(frozen=True, slots=True)
class Costs:
    """The costs of a schema. inline: whether it may be compiled in this process. size: about how many bytes
    it takes when it is compiled."""

    weights: Weights
    inline: bool
    size: int
    dearest: float  # ns for each node of a document, at most
    letter: float  # ns for each byte of its strings

    def of(self, data: Any, size: int, enough: float) -> float:
        """ns that checking a document may cost, at most. size: bytes of its text. enough: a cost beyond which
        the estimate need not be any closer.

        Items that must be unique are found by their hashes. Integers that share a double share a hash too,
        and then each of them is compared with each.
        """
        cost = (size / 2 + 1) * self.dearest + size * self.letter
        if self.weights.deep:
            cost += size / _DIGITS * size / 2 * _COLLISION
        if cost <= enough:
            return cost
        return _by_depth(self.weights, data, size, enough)


def _by_depth(weights: Weights, data: Any, size: int, enough: float) -> float:
    """The cost by the number of nodes at each depth, and the length of their strings."""
    cost = 0.0
    level, nodes, inexact = [data], 0, 0
    depths = max(len(weights.nodes), len(weights.text) - 1)
    depth = 0
    while level and (depth < depths or weights.deep):
        nodes += len(level)
        cost += len(level) * (_at(weights.nodes, depth) + weights.deep)
        if cost > enough or nodes > _MAX_VISITED:
            return max(cost, enough + 1.0)
        below: list[Any] = []
        letters = names = 0
        for value in level:
            if isinstance(value, str):
                letters += len(value) if value.isascii() else 4 * len(value)
            elif isinstance(value, list):
                below += value
            elif isinstance(value, dict):
                below += value.values()
                names += sum(map(len, value))
            elif isinstance(value, int) and not -_EXACT <= value <= _EXACT:
                inexact += 1
        # A letter has four bytes at most. A name is checked with its member, which is one deeper.
        cost += letters * _at(weights.text, depth) + min(4 * names, size) * _at(weights.text, depth + 1)
        level = below
        depth += 1
    return cost + (inexact * nodes * _COLLISION if weights.deep else 0.0)


def _at(values: Sequence[float], depth: int) -> float:
    return values[depth] if depth < len(values) else 0.0
