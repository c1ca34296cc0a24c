"""The two planes: what serves requests, and what is one on a host; both in one process, or a master's and its
workers'."""
