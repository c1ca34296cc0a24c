"""What would happen to a request, and why: for `gateway explain` and for the console."""
