"""What a route can point at. Each is a Target: async (Call) -> response."""
