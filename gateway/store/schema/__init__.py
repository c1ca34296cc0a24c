"""JSON Schema of a collection: reading one, what a check costs, and checking documents."""
