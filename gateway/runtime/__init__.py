"""What work runs on: threads, worker processes, periodic tasks, seats inside the process, files."""
