"""Who calls: the authentication chain, the keys of issuers, and a cache of tokens that were verified with
them."""
