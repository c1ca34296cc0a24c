"""Counts by key that hold no zeros, so that whoever is gone costs nothing."""

from __future__ import annotations


def less(counts: dict[str, int], key: str, by: int = 1) -> None:
    """One (or `by`) fewer; none is no entry."""
    left = counts[key] - by
    if left:
        counts[key] = left
    else:
        del counts[key]
