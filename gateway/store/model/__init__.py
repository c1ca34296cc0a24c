"""The values of the store: documents, collections, writes, lists, changes."""
