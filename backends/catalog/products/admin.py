from django.contrib import admin

from backends.catalog.products.models import Product
from backends.catalog.staff import TenantAdmin


@admin.register(Product)
class ProductAdmin(TenantAdmin):
    list_display = ("sku", "name", "price", "currency", "tenant")
    list_filter = ("tenant",)
    search_fields = ("sku", "name")
    unique_in_tenant = ("sku",)
