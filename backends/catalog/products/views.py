from typing import Any

from django.db.models import QuerySet, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.views import generic

from backends.catalog import rest
from backends.catalog.products.forms import ProductForm
from backends.catalog.products.models import Product


class ProductList(rest.ListView):
    form, item_url, order = ProductForm, "product", "sku"
    conflict = "A product with this sku exists already."


class ProductItem(rest.ItemView):
    form, item_url, order = ProductForm, "product", "sku"
    conflict = "Another product has this sku."


class ShopPage:
    """Pages with their style inside and nothing else: no script, no picture, nothing from elsewhere."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        answer = super().dispatch(request, *args, **kwargs)
        answer["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
        )
        return answer

    def get_queryset(self) -> QuerySet:
        mine = Product.objects.for_tenant(self.request.identity.tenant)
        return mine.annotate(in_stock=Sum("level__quantity", default=0)).order_by("name", "sku")


class Shop(ShopPage, generic.ListView):
    template_name = "products/shop.html"
    paginate_by = 24


class ShopProduct(ShopPage, generic.DetailView):
    template_name = "products/product.html"

    def get_object(self, queryset: QuerySet | None = None) -> Product:
        found = self.get_queryset().filter(pk=self.kwargs["id"]).first()
        if found is None:
            raise Http404
        return found
