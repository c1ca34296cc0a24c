"""What is shared with other processes: seen from a worker, and from the master that they ask."""
