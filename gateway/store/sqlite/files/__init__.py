"""The tenants' files: opened, created, copied, restored, verified."""
