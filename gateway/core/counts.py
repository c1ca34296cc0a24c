"""Counts by key that hold no zeros, so that a key without a count takes no memory."""

from __future__ import annotations


def decrement(counts: dict[str, int], key: str, by: int = 1) -> None:
    """Take `by` off the count of a key that is there; a count of zero leaves the dict."""
    left = counts[key] - by
    if left:
        counts[key] = left
    else:
        del counts[key]
