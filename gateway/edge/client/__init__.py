"""The client's side of the wire: listeners, connections, requests and their bodies."""
