"""Rates and quotas, live."""
