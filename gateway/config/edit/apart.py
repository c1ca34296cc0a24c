"""Edits while requests are served: as reading (see config/source.py), they hold the interpreter lock, and a
text that is not small is edited in a process of its own, splice as a program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway.config import source
from gateway.config.edit import splice
from gateway.config.edit.splice import NotEditable, rewrite
from gateway.runtime import threads


async def rewrite_apart(text: str, wanted: Mapping[str, Any]) -> str:
    """As `rewrite`, without holding the event loop up. Raises source.TransientProblems too."""
    if len(text) <= source.SMALL:
        return await threads.run(threads.CONFIG, rewrite, text, wanted)
    given = await threads.run(threads.CONFIG, json.dumps, [text, wanted])
    found = json.loads(await source.run_apart(splice.__name__, given.encode()))
    if found is None:
        raise NotEditable
    return str(found)
