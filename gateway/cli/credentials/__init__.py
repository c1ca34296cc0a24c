"""The commands about credentials: tokens, API keys, the keys that sign, revocations."""
