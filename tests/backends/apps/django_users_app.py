"""gunicorn ... tests.backends.apps.django_users_app:app; Django's users, its permissions, a view of DRF."""

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

settings.configure(
    SECRET_KEY="of a test",
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    MIDDLEWARE=[
        "backends.identity.django.GatewayMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "backends.identity.django_auth.UserMiddleware",
    ],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    AUTHENTICATION_BACKENDS=[
        "django.contrib.auth.backends.ModelBackend",
        "backends.identity.django_auth.GatewayBackend",
    ],
    GATEWAY_PERMISSIONS={"things:write": ["things.add_thing", "things.change_thing"]},
    REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": ["backends.identity.drf.GatewayAuthentication"]},
)
django.setup()

from django.contrib.auth.decorators import login_required, permission_required  # noqa: E402
from rest_framework.decorators import api_view, permission_classes  # noqa: E402
from rest_framework.permissions import IsAuthenticated  # noqa: E402
from rest_framework.response import Response  # noqa: E402


def healthz(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "ok"})


@login_required
def mine(request: HttpRequest) -> HttpResponse:
    user = request.user
    return JsonResponse({"user": str(user), "pk": user.pk, "may": user.has_module_perms("things")})


async def mine_async(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"user": str(await request.auser())})


@permission_required("things.add_thing", raise_exception=True)
def add(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"added": True})


def open_to_all(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"user": str(request.user), "may": request.user.has_perm("things.add_thing")})


@api_view()
@permission_classes([IsAuthenticated])
def rest(request) -> Response:
    return Response({"user": str(request.user), "tenant": request.auth.tenant})


urlpatterns = [
    path("healthz", healthz),
    path("mine", mine),
    path("async", mine_async),
    path("add", add),
    path("open", open_to_all),
    path("rest", rest),
]
app = get_wsgi_application()
asgi = get_asgi_application()
