"""The catalogue: products and stock, in Django's model, view and template."""
