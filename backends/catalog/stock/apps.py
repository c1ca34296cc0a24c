from django.apps import AppConfig


class StockConfig(AppConfig):
    name = "backends.catalog.stock"
    label = "stock"
