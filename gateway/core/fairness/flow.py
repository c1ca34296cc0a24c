"""One active tenant in a fair queue."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Generic, TypeVar

from gateway.core.fairness.estimate import Estimate
from gateway.core.fairness.usage import Usage

T = TypeVar("T")


class Flow(Usage, Generic[T]):
    """What is known of one active tenant. tag: in virtual time. pending: charged, not yet measured.
    began: since when those in its queue have had to wait for long. estimate: what it is charged at first, 0.0
    when unknown. kind: of its requests, by that, while it uses little. service: what was measured of its
    requests. charged: what it was charged last. queue: who waits, and since when."""

    __slots__ = (
        "began",
        "charged",
        "entry",
        "estimate",
        "heavy",
        "key",
        "kind",
        "lane",
        "much",
        "pending",
        "per",
        "queue",
        "service",
        "tag",
        "weight",
    )

    def __init__(self, key: str, weight: float, tag: float, now: float) -> None:
        super().__init__(now)
        self.key = key
        self.weight = weight
        self.per = 1.0 / weight
        self.tag = tag
        self.pending = 0.0
        self.charged = 0.0
        self.estimate = 0.0
        self.kind: int | None = None
        self.service = Estimate()
        self.began = now
        self.heavy = False
        self.much = False  # whether it is heavy by what it uses
        self.lane = 0  # in which heap its entry is; it is moved when it comes up and belongs into another
        self.queue: OrderedDict[T, float] | None = None  # there while somebody waits
        self.entry: Any = None  # its place in a heap: (tag, number, flow)

    @property
    def settled(self) -> float:
        """The tag by what was measured alone."""
        return self.tag - self.pending * self.per
