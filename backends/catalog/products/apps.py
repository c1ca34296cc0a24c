from django.apps import AppConfig


class ProductsConfig(AppConfig):
    name = "backends.catalog.products"
    label = "products"
