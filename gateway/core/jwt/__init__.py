"""JSON Web Tokens (RFC 7519) and key sets (RFC 7517) as values."""
