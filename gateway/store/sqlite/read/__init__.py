"""Lists in SQLite: filters and orders as SQL, plans, reader threads."""
