"""Three nodes in network namespaces of this machine, and what becomes of them: `make cluster-test`."""
