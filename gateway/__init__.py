"""An asynchronous API gateway in front of polyglot Python backends."""
