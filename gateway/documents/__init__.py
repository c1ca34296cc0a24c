"""A route to the gateway's own documents: which request does what in the store."""
