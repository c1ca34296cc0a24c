"""The reference of both config files, as Markdown: config/reference.md is what this gives."""

from __future__ import annotations

from gateway.core.process import reference as of_process
from gateway.core.routing import reference as of_routing
from gateway.core.routing.settings import json_schema

_HEAD = """\
# Every key of the two config files

Made by `gateway schema --reference`. What to do with them, with examples: [README.md](README.md).

## gateway.conf

The process: read once at the start. Paths begin at its folder, or at `data` where it says so.

"""
_ROUTING = """\
## routing.yaml

What is served, and for whom: live. Times are `250ms`, `5s`, `2m`, `1h`; sizes `64KiB`, `10MiB`; rates
`100/s`, `600/m`.

"""


def markdown() -> str:
    """All of it, without the last line's end."""
    return f"{_HEAD}{of_process.markdown()}\n{_ROUTING}{of_routing.markdown(json_schema())}".rstrip()
