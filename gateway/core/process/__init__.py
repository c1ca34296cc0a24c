"""The process config, config/gateway.conf: its keys, its listeners, its command lines."""
