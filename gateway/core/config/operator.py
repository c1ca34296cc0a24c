"""Who may change the live config: an operator and the role."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from fnmatch import fnmatchcase


class Role(IntEnum):
    """Each may do what those before it may. EDITOR: change what the operator's patterns name. OWNER: all."""

    VIEWER = 1
    EDITOR = 2
    OWNER = 3


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who calls the admin listener. name: for the audit. patterns: for an EDITOR, by the kind of
    object (`routes`, `backends`, `tenants`), what their names look like (`shop-*`); a kind that is not there
    is not theirs."""

    name: str
    role: Role
    patterns: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def may_change(self, kind: str, name: str) -> bool:
        """Whether an object is theirs to add, change or remove. kind: `routes`, `backends`, `tenants`,
        `issuers`, or `settings` for all else of the config (an OWNER's alone, as are issuers)."""
        if self.role is Role.OWNER:
            return True
        if self.role is not Role.EDITOR or kind not in ("routes", "backends", "tenants"):
            return False
        return any(fnmatchcase(name, one) for of, ones in self.patterns if of == kind for one in ones)
