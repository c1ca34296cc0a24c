"""What several processes share: who holds what of it, as pure books."""
