"""Fair order among tenants: the fair queue, its forecast, and turns of the event loop."""
