"""State that outlives a snapshot: config, keys, rate limits, seats, metrics, supervised children."""
