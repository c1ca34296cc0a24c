"""Which calls may be inside a backend now: the seats, their queues, and what is shown of them."""
