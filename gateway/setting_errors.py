"""Errors of opening what gateway.conf names: they say the key, the path, the reason and what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from gateway.auth.keys import KeysUnusable
from gateway.config.ports import ConfigRefused
from gateway.core.errors import StoreUnavailable
from gateway.process.folders import FolderUnusable
from gateway.runtime.os_errors import explain


class SettingUnusable(OSError):
    """What a key of gateway.conf names cannot be opened or made; the text says all of it."""


@contextmanager
def named_by(setting: str, conf: str, path: str) -> Iterator[None]:
    """Errors in it name their setting. setting: as `[log] access`. conf: gateway.conf as the
    operator named it. path: what the setting says, as it was resolved.

    Raises SettingUnusable; FolderUnusable, KeysUnusable and StoreUnavailable stay what they are, and so does
    an OSError of another class of ours (a folder in use). A ConfigRefused for the whole file gets the
    setting's place.
    """
    where = f"{setting} in {conf}"
    try:
        yield
    except (FolderUnusable, KeysUnusable, StoreUnavailable) as error:
        raise type(error)(f"{where}: {error}") from None
    except ConfigRefused as refused:
        items = [
            p if p.path or p.line else replace(p, hint=f"{p.hint}; {where} names it")
            for p in refused.problems
        ]
        raise ConfigRefused(refused.path, items, transient=refused.transient) from None
    except OSError as error:
        if error.errno is None:
            if type(error) is OSError:
                raise SettingUnusable(f"{where}: {error}") from None
            raise
        shown = os.path.abspath(path)  # noqa: PTH100 - `..` is resolved, a link is not
        raise SettingUnusable(f"{where}: {shown}: {'; '.join(explain(error))}") from None
