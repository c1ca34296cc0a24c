"""The file of API keys and revocations, as an operator's command opens it; a gateway that runs follows it."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from rich.markup import escape

from gateway.auth.store import FILE, AuthStore
from gateway.cli import console
from gateway.core.process.settings import ProcessConfig
from gateway.process.folders import data_folder
from gateway.setting_errors import named_by


def open_store(config: ProcessConfig) -> AuthStore:
    """The store of this process config, made if need be. Raises SQLiteUnusable, FolderUnusable."""
    with named_by("[gateway] data", config.path, config.data):
        store = AuthStore(data_folder(Path(config.data)) / FILE)
        store.ensure()
    return store


def operator() -> str:
    """Who runs this command, for the store: the user, and who became it by sudo."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"#{uid}"
    before = "".join(c for c in os.environ.get("SUDO_USER", "") if c.isprintable())[:100]
    return f"{name} (sudo by {before})" if before else name


def told(sentence: str) -> None:
    """Print what was done, to standard error."""
    console.err.print(escape(sentence))
