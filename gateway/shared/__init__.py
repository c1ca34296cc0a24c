"""What several processes share: one exchange with whoever keeps the books, and the engines behind it."""
