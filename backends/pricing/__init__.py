"""Pricing: a FastAPI application with price rules, quotes and a simulation that keeps a processor busy."""
