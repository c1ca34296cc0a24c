from django.forms import ModelForm

from backends.catalog.products.models import Product


class ProductForm(ModelForm):
    class Meta:
        model = Product
        fields = ("sku", "name", "description", "price", "currency")

    def clean_currency(self) -> str:
        return self.cleaned_data["currency"] or Product._meta.get_field("currency").default
