"""Which gateway processes share one config, and which revision of it each has."""
