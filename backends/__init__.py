"""Applications behind the gateway: one of each framework, each able to run alone."""
