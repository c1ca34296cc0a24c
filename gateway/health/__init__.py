"""Whether an address is fit for requests: circuits and probes, live."""
