"""The second listener, for operators: health, metrics, and what is live."""
