import uuid
from decimal import Decimal

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models

from backends.catalog.tenancy import TenantModel


class Product(TenantModel):
    # Random, so that an id tells nothing about how many products other tenants have.
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    sku = models.CharField(
        max_length=64,
        validators=[
            RegexValidator(r"\A[A-Za-z0-9][A-Za-z0-9._-]*\Z", "Letters, digits, dot, dash, underscore.")
        ],
    )
    name = models.CharField(max_length=200)
    description = models.TextField(max_length=4000, blank=True, default="")
    price = models.DecimalField(max_digits=12, decimal_places=2, validators=[MinValueValidator(Decimal(0))])
    currency = models.CharField(
        max_length=3,
        default="EUR",
        blank=True,
        validators=[RegexValidator(r"\A[A-Z]{3}\Z", "A code of ISO 4217, e.g. EUR.")],
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "sku"], name="product_sku_per_tenant")]

    def __str__(self) -> str:
        return f"{self.sku} {self.name}"
