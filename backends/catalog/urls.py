from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.views.generic import RedirectView

from backends.identity.django import problem_response


def healthz(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return problem_response(404, "There is nothing at this address.")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return problem_response(400, "The request cannot be read.")


def server_error(request: HttpRequest) -> HttpResponse:
    return problem_response(500, "The catalogue failed; its log says why, under this request's id.")


urlpatterns = [
    path("", RedirectView.as_view(pattern_name="shop")),
    path("healthz", healthz),
    path("", include("backends.catalog.products.urls")),
    path("", include("backends.catalog.stock.urls")),
]
handler400 = bad_request
handler404 = not_found
handler500 = server_error
