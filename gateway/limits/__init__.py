"""Rates, quotas and budgets of retries, live."""
