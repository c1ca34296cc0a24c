"""What is asked of a list, and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway.store.filter.nodes import EVERYTHING, Node
from gateway.store.model.projection import WHOLE, Projection
from gateway.store.model.sort import SortKey

T = TypeVar("T")

DEFAULT_LIMIT = 50
MAX_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Query:
    """What to list. `cursor` is the `next` of an earlier page with the same filter and sort.

    fields: what of each document is answered; it may differ from page to page. count: also count the
    documents that the filter matches, all pages together.
    """

    filter: Node = EVERYTHING
    sort: tuple[SortKey, ...] = ()
    limit: int = DEFAULT_LIMIT
    cursor: str | None = None
    fields: Projection = WHOLE
    count: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a list. `next` continues it; None: this was the last one. count: see Query."""

    items: tuple[T, ...]
    next: str | None = None
    count: int | None = None
