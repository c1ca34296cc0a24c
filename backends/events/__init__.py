"""Events: an ASAB application that takes events and streams them to whoever listens, tenant by tenant."""
