"""Who may be inside a backend now: seats, the queues for them, and their view."""
