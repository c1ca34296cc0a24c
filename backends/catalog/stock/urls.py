from django.urls import path

from backends.catalog.stock import views

urlpatterns = [
    path("stock", views.LevelList.as_view(), name="levels"),
    path("stock/<uuid:id>", views.LevelItem.as_view(), name="level"),
]
