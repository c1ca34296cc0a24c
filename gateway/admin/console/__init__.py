"""The console: the pages of the admin listener for a browser."""
