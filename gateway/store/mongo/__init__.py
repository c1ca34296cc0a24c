"""The engine on a MongoDB server."""
