from django.contrib import admin

from backends.catalog.staff import TenantAdmin
from backends.catalog.stock.models import Level


@admin.register(Level)
class LevelAdmin(TenantAdmin):
    list_display = ("product", "warehouse", "quantity", "tenant")
    list_filter = ("tenant", "warehouse")
    list_select_related = ("product",)
    unique_in_tenant = ("product", "warehouse")
