"""Django's secret key: made on the first start, readable by the owner alone."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path


def load(path: Path) -> str:
    """The key in `path`, made first if there is none. Two processes that start at once get the same one."""
    if not path.exists():
        # Written aside and linked: the name appears at once with the whole key in it, or not at all.
        handle, written = tempfile.mkstemp(dir=path.parent)  # 0600
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(50))
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(written)
        Path(written).unlink()
    return path.read_text()
