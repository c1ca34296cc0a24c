"""WebSockets between a client and a backend."""
