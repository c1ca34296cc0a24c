"""Who may change the live config: an operator and the role."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from fnmatch import fnmatchcase

KINDS = ("routes", "backends", "tenants")  # of objects that an editor's patterns may name
Patterns = tuple[tuple[str, tuple[str, ...]], ...]


TOKEN_FILE = "operator.token"  # noqa: S105 - its name: of the local token, in the data folder


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
    patterns: Patterns = ()

    def may_change(self, kind: str, name: str) -> bool:
        """Whether an object is theirs to add, change or remove. kind: `routes`, `backends`, `tenants`,
        `issuers`, or `settings` for all else of the config (an OWNER's alone, as are issuers)."""
        if self.role is Role.OWNER:
            return True
        if self.role is not Role.EDITOR or kind not in KINDS:
            return False
        return any(fnmatchcase(name, one) for of, ones in self.patterns if of == kind for one in ones)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a name or a group is given: see Operator."""

    role: Role
    patterns: Patterns = ()

    def to(self, name: str) -> Operator:
        """The operator of this name who has it."""
        return Operator(name, self.role, self.patterns)


def together(grants: Iterable[Grant]) -> Grant | None:
    """What somebody has who is given all of these: the highest role, and all patterns; None without any."""
    found = list(grants)
    if not found:
        return None
    patterns: dict[str, tuple[str, ...]] = {}
    for grant in found:
        for kind, ones in grant.patterns:
            patterns[kind] = tuple(dict.fromkeys((*patterns.get(kind, ()), *ones)))
    return Grant(max(grant.role for grant in found), tuple(patterns.items()))
