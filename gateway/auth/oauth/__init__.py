"""The gateway as an authorization server: tokens for API keys, tickets for pages, and what it publishes."""
