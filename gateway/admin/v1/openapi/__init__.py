"""The description of the admin API, in OpenAPI 3.1."""
