"""Django REST framework: `gateway_identity.drf.GatewayAuthentication` in DEFAULT_AUTHENTICATION_CLASSES,
beside the middleware of `gateway_identity.django`. `request.user` is the caller, `request.auth` the Identity.
"""

from __future__ import annotations

from typing import Any

from rest_framework.authentication import BaseAuthentication

from .django_auth import GatewayUser
from .identity import Identity


class GatewayAuthentication(BaseAuthentication):
    """The middleware has verified who calls by then."""

    def authenticate(self, request: Any) -> tuple[GatewayUser, Identity] | None:
        identity = getattr(request._request, "identity", None)
        return (GatewayUser(identity), identity) if identity else None

    def authenticate_header(self, request: Any) -> str:
        return 'Bearer realm="gateway"'
