"""The backend's side of the wire: names, connections, pools, exchanges."""
