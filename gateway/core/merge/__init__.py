"""What several processes of one gateway say, as one. Pure."""
