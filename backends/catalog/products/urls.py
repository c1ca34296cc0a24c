from django.urls import path

from backends.catalog.products import views

urlpatterns = [
    path("products", views.ProductList.as_view(), name="products"),
    path("products/<uuid:id>", views.ProductItem.as_view(), name="product"),
    path("shop", views.Shop.as_view(), name="shop"),
    path("shop/<uuid:id>", views.ShopProduct.as_view(), name="shop-product"),
]
