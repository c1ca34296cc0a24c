import uuid

from django.core.exceptions import ValidationError
from django.db import models

from backends.catalog.products.models import Product
from backends.catalog.tenancy import TenantForeignKey, TenantModel


class Level(TenantModel):
    """The quantity of one product in one warehouse."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # No reverse accessor on Product ("+"): it would be one more way to rows. Queries may still join by name.
    product = TenantForeignKey(Product, models.CASCADE, related_name="+", related_query_name="level")
    warehouse = models.CharField(max_length=64)
    quantity = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "product", "warehouse"], name="level_per_warehouse")
        ]

    def __str__(self) -> str:
        return f"{self.product} in {self.warehouse}"

    def clean(self) -> None:
        if self.product_id and self.product.tenant != self.tenant:
            raise ValidationError({"product": "There is no such product."})
