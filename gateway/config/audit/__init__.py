"""The audit of the live config: what is written of each change, where, and how it is found to be whole."""
