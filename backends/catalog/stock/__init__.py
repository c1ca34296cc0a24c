"""How much of a product lies where."""
