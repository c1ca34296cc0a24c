"""Where the live routing config is, as [config] of gateway.conf says."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import PurePath

from gateway.core.process import listeners, mongo_uri
from gateway.core.process.operators import Reader
from gateway.core.routing.problems import Wrong

SECTION = "config"
KEYS = frozenset({"source", "servers", "path", "credentials", "uri", "audit_copy"})
SOURCES = ("file", "store", "zookeeper", "mongodb")
_OF = {"servers": "zookeeper", "path": "zookeeper", "credentials": "zookeeper", "uri": "mongodb"}
PATH = "/gateway/config"  # of the znode, where none is said


@dataclass(frozen=True, slots=True)
class ConfigSettings:
    """source: one of SOURCES. servers, path, credentials: of ZooKeeper, as `host:2181`, the znode, and
    `user:password` ("" for nobody). uri: of MongoDB. audit_copy: the path of a second file for the audit, ""
    for none."""

    source: str = "file"
    servers: tuple[str, ...] = ()
    path: str = PATH
    credentials: str = field(default="", repr=False)
    uri: str = field(default="", repr=False)  # it may hold a password
    audit_copy: str = ""


IN_A_FILE = ConfigSettings()


def parse(read: Reader, store_uri: str, data: str) -> ConfigSettings:
    """[config]. store_uri: what MongoDB's is where none is said. data: the data folder. Problems go to
    `read`."""
    source = read.text(SECTION, "source", "file")
    if source not in SOURCES:
        near = difflib.get_close_matches(source, SOURCES, 1)
        hint = f"did you mean {near[0]}?" if near else f"write one of {', '.join(SOURCES)}"
        read.wrong(SECTION, "source", f"{source!r} is not offered", hint)
    for key, needed in _OF.items():
        if source in SOURCES and source != needed and read.text(SECTION, key, ""):
            hint = f"write source = {needed}, or remove {key}"
            read.wrong(SECTION, key, f"it is for source = {needed}, and the source is {source}", hint)
    copy = read.text(SECTION, "audit_copy", "")
    return ConfigSettings(
        source,
        _servers(read) if source == "zookeeper" else (),
        _path(read),
        _credentials(read),
        _uri(read, store_uri) if source == "mongodb" else "",
        str(PurePath(data) / copy) if copy else "",
    )


def _servers(read: Reader) -> tuple[str, ...]:
    found = tuple(read.text(SECTION, "servers", "").replace(",", " ").split())
    if not found:
        hint = "write host:port of each server, such as zk1:2181, zk2:2181, zk3:2181"
        read.wrong(SECTION, "servers", "no server of ZooKeeper is named", hint)
    for one in found:
        try:
            listeners.parse(one)
        except Wrong as wrong:
            read.wrong(SECTION, "servers", f"{one!r} {wrong.reason}", "write host:port, such as zk1:2181")
    return found


def _path(read: Reader) -> str:
    path = read.text(SECTION, "path", PATH)
    if not path.startswith("/") or "//" in path or path.endswith("/"):
        read.wrong(SECTION, "path", f"{path!r} is no path of a znode", f"write one such as {PATH}")
    return path


def _credentials(read: Reader) -> str:
    found = read.text(SECTION, "credentials", "")
    user, _, password = found.partition(":")
    if found and not (user and password):
        read.wrong(SECTION, "credentials", "it is no user with a password", "write user:password")
    return found


def _uri(read: Reader, store_uri: str) -> str:
    uri = read.text(SECTION, "uri", store_uri)
    if not uri.startswith(mongo_uri.SCHEMES):
        reason = "no server of MongoDB is named, neither here nor by [store] uri"
        read.wrong(SECTION, "uri", reason, "write mongodb://user:password@host:27017/database")
    elif problem := mongo_uri.problem(uri):
        read.wrong(SECTION, "uri", problem, mongo_uri.HINT)
    return uri
