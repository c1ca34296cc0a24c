"""A query of a list, and a page of its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway.store.filter.nodes import EVERYTHING, Node
from gateway.store.filter.nodes import canonical as canonical_filter
from gateway.store.model.projection import WHOLE, Projection
from gateway.store.model.sort import SortKey
from gateway.store.model.sort import canonical as canonical_sort

T = TypeVar("T")

DEFAULT_LIMIT = 50
MAX_LIMIT = 1000
PAGE_BYTES = 4 * 1024 * 1024  # a page ends early when its documents together are larger
QUERY_SECONDS = 10.0  # after which a list is given up
EXPORT_CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Query:
    """What to list. `cursor` is the `next` of an earlier page with the same filter and sort.

    fields: the members that each document is returned with; they may differ from page to page. count: also
    count the documents that match the filter, on all pages together.
    """

    filter: Node = EVERYTHING
    sort: tuple[SortKey, ...] = ()
    limit: int = DEFAULT_LIMIT
    cursor: str | None = None
    fields: Projection = WHOLE
    count: bool = False

    def scope(self, collection: str) -> tuple[str, ...]:
        """What a cursor of this list of a collection is signed over."""
        return "list", collection, canonical_filter(self.filter), canonical_sort(self.sort)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a list. next: the cursor of the next page; None: this is the last one. count: see Query."""

    items: tuple[T, ...]
    next: str | None = None
    count: int | None = None
