"""Writes on MongoDB: planned, done by compare-and-set, swept."""
