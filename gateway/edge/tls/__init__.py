"""TLS with clients: certificates and their contexts, and the layer between a socket and a connection."""
