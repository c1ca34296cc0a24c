"""Lists on MongoDB: candidates, their order, and where a page ended."""
