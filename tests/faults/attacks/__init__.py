"""The drivers of attacks, a module for each part of the gateway; see tests/faults/isolation.py."""
