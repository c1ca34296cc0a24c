"""Writes in SQLite: operations of a transaction, group commit, indexes, long work."""
