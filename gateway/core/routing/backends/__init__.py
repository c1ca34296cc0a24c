"""Backends in the routing config."""
