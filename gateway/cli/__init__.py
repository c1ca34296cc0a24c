"""The command line. Public are `gateway.cli.main.main` and the entry point `gateway`; all else may change."""
