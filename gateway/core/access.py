"""Scopes: may this identity do this on this route?"""

from __future__ import annotations

from typing import Any

from gateway.core.errors import Forbidden
from gateway.core.model import Identity, Route


def require(route: Route[Any], method: str, identity: Identity) -> None:
    """Nothing when allowed. Raises Forbidden naming the missing scopes (RFC 6750 section 3.1)."""
    needed = route.scopes_for(method)
    if needed <= identity.scopes:
        return
    missing = " ".join(sorted(needed - identity.scopes))
    error = Forbidden(f"The token lacks the scope {missing}.")
    error.headers = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{missing}"'}
    raise error
