"""The routing config, config/routing.yaml: as written, every problem of it, and as compiled."""
