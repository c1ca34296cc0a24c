"""gunicorn ... tests.backends.apps.django_app:app, uvicorn ... :asgi; settings, URLs, views in one file."""

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import path, reverse

settings.configure(
    SECRET_KEY="of a test",
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["backends.identity.django.GatewayMiddleware"],
)


def healthz(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "ok"})


def mine(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"tenant": request.identity.tenant})


def open_to_all(request: HttpRequest) -> HttpResponse:
    return JsonResponse(
        {
            "tenant": request.identity.tenant if request.identity else None,
            "client": request.META["REMOTE_ADDR"],
            "url": request.build_absolute_uri(reverse("open")),
            "port": request.get_port(),
        }
    )


def upper(request: HttpRequest) -> StreamingHttpResponse:
    """A stream of what comes, as it comes."""
    return StreamingHttpResponse(piece.upper() for piece in iter(lambda: request.read(1000), b""))


def ignore(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=204)


def go(request: HttpRequest) -> HttpResponse:
    return redirect("open")


urlpatterns = [
    path("healthz", healthz),
    path("mine", mine),
    path("open", open_to_all, name="open"),
    path("upper", upper),
    path("ignore", ignore),
    path("go", go),
]
app = get_wsgi_application()
asgi = get_asgi_application()
