"""Bring the database to the models before the first request."""

from __future__ import annotations

import fcntl

from django.conf import settings
from django.core.management import call_command
from django.db import connections


def migrate() -> None:
    """Run what is missing. One process at a time: the catalogue and its admin site share the database."""
    with (settings.DATA / "migrate.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        call_command("migrate", verbosity=0, interactive=False)
    # gunicorn --preload forks after this: a SQLite connection must not be carried over a fork.
    connections.close_all()
