"""One small application of each framework, with the identity middleware and without any rule of its own."""
