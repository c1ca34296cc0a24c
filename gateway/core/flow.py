"""One active tenant in a fair queue."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Generic, TypeVar

from gateway.core.usage import Usage

T = TypeVar("T")


class Flow(Usage, Generic[T]):
    """What is known of one active tenant. tag: in virtual time. pending: charged, not yet measured.
    began: when the queue that it has now did. estimate: of its service time, 0.0 when unknown. charged: what
    it was charged last."""

    __slots__ = (
        "began",
        "charged",
        "entry",
        "estimate",
        "heavy",
        "key",
        "lane",
        "pending",
        "per",
        "queue",
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
        self.began = now
        self.heavy = False
        self.lane = False  # in which heap its entry is; a heavy one is moved when it comes up
        self.queue: OrderedDict[T, None] | None = None  # there while somebody waits
        self.entry: Any = None  # its place in a heap: (tag, number, flow)

    @property
    def settled(self) -> float:
        """The tag by what was measured alone."""
        return self.tag - self.pending * self.per
