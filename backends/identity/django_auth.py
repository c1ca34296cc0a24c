"""Django's `request.user` and permissions, from what the gateway says of the caller.

    MIDDLEWARE = ["gateway_identity.django.GatewayMiddleware", ...,
                  "gateway_identity.django_auth.UserMiddleware"]  # behind AuthenticationMiddleware, if any
    AUTHENTICATION_BACKENDS = ["gateway_identity.django_auth.GatewayBackend"]
    GATEWAY_PERMISSIONS = {"catalog:write": ["products.add_product", "products.change_product"]}

No row of a database is behind such a user, and GATEWAY_PERMISSIONS alone says what a scope permits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.contrib import auth
from django.contrib.auth.backends import BaseBackend
from django.http import HttpRequest

from .identity import Identity


class GatewayUser:
    """The caller as Django asks for a user. `username` is the subject; `pk` has the tenant too."""

    is_authenticated = is_active = True
    is_anonymous = is_staff = is_superuser = False

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.username = identity.subject
        self.pk = self.id = f"{identity.tenant}/{identity.subject}"

    def __str__(self) -> str:
        return self.username

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GatewayUser) and self.pk == other.pk

    def __hash__(self) -> int:
        return hash(self.pk)

    def get_username(self) -> str:
        """The subject."""
        return self.username

    def get_all_permissions(self, obj: Any = None) -> set[str]:
        """What the caller's scopes permit; nothing, unless GatewayBackend is among the project's backends."""
        mine = (backend for backend in auth.get_backends() if isinstance(backend, GatewayBackend))
        return set[str]().union(*(backend.get_all_permissions(self, obj) for backend in mine))

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        """Whether a scope permits it."""
        return perm in self.get_all_permissions(obj)

    def has_perms(self, perm_list: Iterable[str], obj: Any = None) -> bool:
        """Whether scopes permit all of them."""
        return set(perm_list) <= self.get_all_permissions(obj)

    def has_module_perms(self, module: str) -> bool:
        """Whether a scope permits anything in this application."""
        return any(perm.partition(".")[0] == module for perm in self.get_all_permissions())


class GatewayBackend(BaseBackend):
    """Knows what the scopes of a caller permit."""

    def get_user_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        """Of a GatewayUser; other users are other backends'."""
        if not isinstance(user_obj, GatewayUser):
            return set()
        by_scope = getattr(settings, "GATEWAY_PERMISSIONS", {})
        return set[str]().union(*(by_scope.get(scope, ()) for scope in user_obj.identity.scopes))


class UserMiddleware:
    """Sets `request.user` (and `request.auser`) to the caller. Where nobody calls it stays what
    AuthenticationMiddleware made of it."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        identity = getattr(request, "identity", None)
        if identity:
            user = GatewayUser(identity)

            async def auser() -> GatewayUser:
                return user

            request.user, request.auser = user, auser
        return self.get_response(request)
