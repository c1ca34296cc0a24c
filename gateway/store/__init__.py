"""Documents, without HTTP: values, the filter language, the port, and the engines behind it."""
