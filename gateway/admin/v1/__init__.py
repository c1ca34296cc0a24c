"""The admin API, version 1: the config and its revisions, the audit, nodes, traffic."""
