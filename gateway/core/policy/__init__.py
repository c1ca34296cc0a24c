"""What a route, a tenant or a client may do, as values: access, limits, budgets, deadlines, circuits."""
