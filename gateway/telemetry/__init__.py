"""What the gateway tells of itself: metrics, the access log, the ordinary log."""
