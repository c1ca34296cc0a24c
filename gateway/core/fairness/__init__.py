"""Who goes next: the fair queue, its forecast, and turns of the event loop."""
