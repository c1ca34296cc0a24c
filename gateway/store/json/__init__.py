"""JSON as the store accepts it, small and large."""
