"""The wire's syntax, strictly (RFC 9110, RFC 9112): heads, targets, chunks, header rules."""
