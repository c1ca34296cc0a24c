"""A forgotten tenant filter is an exception, not a leak."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django import forms
from django.db import models


class UnscopedQuery(RuntimeError):
    """Somebody asked for the rows of all tenants at once."""


class TenantManager(models.Manager):
    """Knows one question: `Model.objects.for_tenant(tenant)`. Every other way to a queryset raises."""

    def get_queryset(self) -> models.QuerySet:
        raise UnscopedQuery(
            f"{self.model.__name__}.objects sees one tenant at a time: use .objects.for_tenant(tenant). "
            "Staff tools that mean all tenants use .all_tenants."
        )

    def for_tenant(self, tenant: str) -> models.QuerySet:
        return super().get_queryset().filter(tenant=tenant)


class TenantForeignKey(models.ForeignKey):
    """A foreign key to a TenantModel. Its form field starts without choices, and the form must give them:
    Django's own would offer those of the default manager, which refuses."""

    def formfield(self, **kwargs: Any) -> forms.Field | None:
        return models.Field.formfield(
            self, **{"form_class": forms.ModelChoiceField, "queryset": None, **kwargs}
        )


class TenantModel(models.Model):
    """A row that belongs to one tenant for life."""

    tenant = models.CharField(max_length=63, editable=False)

    objects = TenantManager()  # the first manager is the default one: generic views and forms get it too
    all_tenants = models.Manager()

    class Meta:
        abstract = True

    def validate_constraints(self, exclude: Collection[str] | None = None) -> None:
        """Leaves uniqueness within a tenant to the database, which alone cannot race: Django would search
        through the default manager, and that refuses."""

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self.tenant:
            raise UnscopedQuery(f"This {type(self).__name__} has no tenant.")
        super().save(*args, **kwargs)
