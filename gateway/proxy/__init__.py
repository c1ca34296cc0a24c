"""A route to a backend: the target, the request as the backend gets it, retries, WebSockets."""
