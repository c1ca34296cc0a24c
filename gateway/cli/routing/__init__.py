"""The commands about the routing config of this machine, and about requests and tokens for it."""
