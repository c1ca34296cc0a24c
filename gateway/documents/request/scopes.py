"""The scopes of a call in a collection; the policy is in core/policy/access.py. An action is a method, or
MANAGE."""

from __future__ import annotations

from gateway.call import Call
from gateway.core.policy import access


def require(call: Call, collection: str, *actions: str) -> None:
    """Raises Forbidden unless the token may do all of these in the collection."""
    assert call.route is not None and call.identity is not None
    access.require_in(call.route, actions, collection, call.identity)


def require_somewhere(call: Call, action: str) -> None:
    """Raises Forbidden unless the token may do this in at least one collection."""
    assert call.route is not None and call.identity is not None
    access.require_in_some(call.route, action, call.identity)


def may(call: Call, collection: str, action: str) -> bool:
    """Whether the token may do this in the collection."""
    assert call.route is not None and call.identity is not None
    return access.allows(call.route, action, collection, call.identity)
