"""The command line.

The public import surface of the whole package is small: `gateway.cli.main.main`, `gateway.__main__.main`, and
the entry point `gateway`. Everything else may change without notice.
"""
