"""The admin site's view of a tenant's rows: staff mean all tenants, and say so."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Field, QuerySet
from django.http import HttpRequest

from backends.catalog.tenancy import TenantModel

TENANT = forms.RegexField(
    r"\A[a-z0-9][a-z0-9-]{0,62}\Z", help_text="The tenant's name as in its tokens; fixed once saved."
)


class TenantForm(forms.ModelForm):
    """Chooses the tenant of a new row, and finds a clash before the database does."""

    unique: tuple[str, ...] = ()

    def clean(self) -> dict[str, Any]:
        values = super().clean()
        tenant = values.get("new_tenant") or self.instance.tenant
        self.instance.tenant = tenant  # before the model's own clean(), which compares tenants
        key = {name: values.get(name) for name in self.unique}
        if tenant and None not in key.values():
            same = type(self.instance).objects.for_tenant(tenant).filter(**key).exclude(pk=self.instance.pk)
            if same.exists():
                self.add_error(self.unique[0], "Another entry of this tenant has the same key.")
        return values


class TenantAdmin(admin.ModelAdmin):
    """Lists the rows of all tenants. The tenant is chosen when a row is added and never changes."""

    unique_in_tenant: tuple[str, ...] = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return self.model.all_tenants.all()

    def get_form(
        self, request: HttpRequest, obj: TenantModel | None = None, **kwargs: Any
    ) -> type[forms.ModelForm]:
        members: dict[str, Any] = {"unique": self.unique_in_tenant}
        if obj is None:
            members["new_tenant"] = TENANT
        kwargs["form"] = type("RowForm", (TenantForm,), members)
        kwargs["fields"] = [field.name for field in self.model._meta.fields if field.editable]
        return super().get_form(request, obj, **kwargs)

    def get_fields(self, request: HttpRequest, obj: TenantModel | None = None) -> list[str]:
        own = [field.name for field in self.model._meta.fields if field.editable]
        return ["tenant" if obj else "new_tenant", *own]

    def get_readonly_fields(self, request: HttpRequest, obj: TenantModel | None = None) -> tuple[str, ...]:
        return ("tenant",) if obj else ()

    def formfield_for_foreignkey(
        self, db_field: Field, request: HttpRequest, **kwargs: Any
    ) -> forms.Field | None:
        kwargs["queryset"] = db_field.remote_field.model.all_tenants.all()
        return super().formfield_for_foreignkey(db_field, request, **kwargs)
