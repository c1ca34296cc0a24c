from django.contrib import admin
from django.http import JsonResponse
from django.urls import path

admin.site.site_header = admin.site.site_title = "Catalogue"

urlpatterns = [
    path("healthz", lambda request: JsonResponse({"status": "ok"})),
    path("", admin.site.urls),
]
