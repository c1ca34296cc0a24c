"""Every config that was ever live, kept: in SQLite, or in MongoDB."""
