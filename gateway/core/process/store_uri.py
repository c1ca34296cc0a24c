"""The URI of a store of documents: a folder of SQLite files, or a database of MongoDB's."""

from __future__ import annotations

from pathlib import PurePath

from gateway.core.process import mongo_uri

SQLITE = "sqlite:"


def problem(uri: str) -> tuple[str, str] | None:
    """What is wrong with a URI, and a hint, without repeating it; None when nothing is found."""
    if uri.startswith(mongo_uri.SCHEMES):
        reason = mongo_uri.problem(uri)
        return (reason, mongo_uri.HINT) if reason else None
    folder = uri.removeprefix(SQLITE)
    if folder.startswith(("//", ":")):  # as SQLAlchemy writes them; taken to the letter it is another folder
        return "it names no folder", "write sqlite:documents, or sqlite:/srv/documents"
    if not folder.strip("/ ") or not uri.startswith(SQLITE):
        hint = "write sqlite: and a folder (under data), or mongodb://host:27017/database"
        return "this store is not offered", hint
    return None


def under(uri: str, data: str) -> str:
    """The URI, in which a relative folder begins at the data folder."""
    if uri.startswith(mongo_uri.SCHEMES):
        return uri
    return f"{SQLITE}{PurePath(data) / uri.removeprefix(SQLITE)}"
