"""Which members of a document a response has: `fields=a,b.c` only these, `fields=-a,-b.c` all but these.

A path leads into objects, and into the objects in an array on its way. The id is always there.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core.errors import BadRequest
from gateway.store.filter.nodes import ID, META, Path, parse_path
from gateway.store.json import strict
from gateway.store.json.large import LIGHT_BYTES, Jobs, is_light
from gateway.store.model.document import Document

MAX_FIELDS = 50


@dataclass(frozen=True, slots=True)
class Projection:
    """paths: the members that are kept, or (exclude) left out. WHOLE keeps everything."""

    paths: tuple[Path, ...]
    exclude: bool = False

    def members(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The members that are kept, in their order."""
        tree = _tree(self.paths)
        return _without(data, tree) if self.exclude else _only(data, tree)

    def document(self, document: Document) -> Document:
        """The document with the members that are kept; itself for WHOLE. Its entity tag does not change."""
        if self == WHOLE:
            return document
        return dataclasses.replace(document, text=strict.dumps(self.members(document.data)))


WHOLE = Projection((), exclude=True)


def projected_text(raw: bytes, projection: Projection) -> bytes:
    """The members of a large document's text that are kept, as text: a job of a worker process, see
    json/large.py."""
    return strict.dumps(projection.members(json.loads(raw))).encode()


_Tree = dict[str, "_Tree"]  # an empty one ends a path


async def project(
    jobs: Jobs, tenant: str, documents: Sequence[Document], projection: Projection
) -> tuple[Document, ...]:
    """Project the large ones of some documents; the light ones have been projected already."""
    if projection == WHOLE:
        return tuple(documents)
    items = []
    for document in documents:
        if document.encoded or not is_light(document.text):
            raw = document.encoded or document.text.encode()
            text = await jobs.run(tenant, projected_text, raw, projection)
            large = len(text) > LIGHT_BYTES
            parts = ("", text) if large else (text.decode(), b"")
            document = dataclasses.replace(document, text=parts[0], encoded=parts[1])
        items.append(document)
    return tuple(items)


def parse(text: str) -> Projection:
    """The fields of a query. Raises BadRequest."""
    names = text.split(",")
    exclude = names[0].startswith("-")
    if len(names) > MAX_FIELDS:
        raise BadRequest(f"fields names at most {MAX_FIELDS} members.")
    if any(name.startswith("-") != exclude for name in names):
        raise BadRequest("fields names members to return, or with - before each one members to leave out.")
    try:
        paths = tuple(parse_path(name[exclude:]) for name in names)
    except ValueError as error:
        raise BadRequest(f"The fields are not accepted: {error}.") from None
    if exclude and any(path == ID or path in META for path in paths):
        raise BadRequest("The fields are not accepted: id, _created and _modified cannot be left out.")
    return Projection(paths, exclude)


def _tree(paths: tuple[Path, ...]) -> _Tree:
    """The paths as a tree; a path that continues another one adds nothing to it."""
    root: _Tree = {}
    for path in sorted(paths, key=len):
        branch = root
        for depth, name in enumerate(path):
            known = name in branch
            branch = branch.setdefault(name, {})
            if known and not branch:
                break
            if depth == len(path) - 1:
                branch.clear()
    return root


def _only(data: Mapping[str, Any], tree: _Tree) -> dict[str, Any]:
    kept = {}
    for name, value in data.items():
        if name in tree:
            branch = tree[name]
            if not branch:
                kept[name] = value
            elif isinstance(value, dict):
                kept[name] = _only(value, branch)
            elif isinstance(value, list):
                kept[name] = [_only(item, branch) for item in value if isinstance(item, dict)]
    return kept


def _without(data: Mapping[str, Any], tree: _Tree) -> dict[str, Any]:
    kept = {}
    for name, value in data.items():
        branch = tree.get(name)
        if branch is None:
            kept[name] = value
        elif branch and isinstance(value, dict):
            kept[name] = _without(value, branch)
        elif branch and isinstance(value, list):
            kept[name] = [_without(item, branch) if isinstance(item, dict) else item for item in value]
        elif branch:
            kept[name] = value
    return kept
