from typing import Any

from django.forms import ModelForm

from backends.catalog.products.models import Product
from backends.catalog.stock.models import Level


class LevelForm(ModelForm):
    class Meta:
        model = Level
        fields = ("product", "warehouse", "quantity")
        error_messages = {"product": {"invalid_choice": "There is no such product."}}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["product"].queryset = Product.objects.for_tenant(self.instance.tenant)
