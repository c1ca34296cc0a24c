"""What a request to documents says, in its head and in its content, and how the work of it is bounded."""
