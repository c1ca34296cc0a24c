"""gateway schema: the JSON Schema of the routing config, or the reference of both config files."""

from __future__ import annotations

import argparse
import json

from gateway.cli.routing import reference
from gateway.core.routing.settings import json_schema


def run(arguments: argparse.Namespace) -> int:
    """Print it."""
    print(reference.markdown() if arguments.reference else json.dumps(json_schema(), indent=2))
    return 0
