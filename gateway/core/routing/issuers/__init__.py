"""Issuers of tokens in the routing config, and which callers a route takes."""
