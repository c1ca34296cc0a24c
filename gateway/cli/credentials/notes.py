"""What the routing config says of the tenant, the scopes and the issuer of a credential."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.markup import escape

from gateway.call import Snapshot
from gateway.cli import console
from gateway.cli.routing.compiled import compile_file
from gateway.config.ports import ConfigRefused
from gateway.core.jwt.issuer import LOCAL, Issuer
from gateway.core.model import Route
from gateway.core.policy.access import ADMIN_SCOPE
from gateway.core.process.settings import ProcessConfig

_PROBLEMS = "[yellow]note:[/] the routing config has problems; see gateway check"


def print_notes(config: ProcessConfig, tenant: str, scopes: str) -> None:
    """Print to standard error what may be wrong with a credential for this tenant, with these scopes."""
    try:
        for note in _notes(compile_file(config), tenant, scopes.split()):
            console.err.print(f"[yellow]note:[/] {escape(note)}")
    except ConfigRefused:
        console.err.print(_PROBLEMS)


def issuers(config: ProcessConfig, tenant: str) -> dict[str, Issuer]:
    """The issuers of tokens, by name; where the routing config has problems, the local one alone. Prints to
    standard error that it has, or what may be wrong with this tenant ("" for none)."""
    try:
        compiled = compile_file(config)
    except ConfigRefused:
        console.err.print(_PROBLEMS)
        return {LOCAL: config.tokens}
    if tenant and tenant not in compiled.tenants:
        console.err.print(f"[yellow]note:[/] {escape(_no_tenant(tenant, compiled))}")
    return {LOCAL: config.tokens, **compiled.issuers}


def _no_tenant(tenant: str, compiled: Snapshot) -> str:
    return f"the routing config has no tenant {tenant!r}{console.near(tenant, compiled.tenants)}"


def _notes(compiled: Snapshot, tenant: str, scopes: list[str]) -> Iterable[str]:
    """Warnings about a valid token: an unknown or disabled tenant, scopes that no route requires."""
    known = compiled.tenants.get(tenant)
    if known is None:
        yield _no_tenant(tenant, compiled)
    elif known.disabled:
        yield f"the tenant {tenant!r} is disabled: its tokens are refused"
    if not compiled.local_issuer:
        yield "the routing config switches this issuer off (issuers: local: false): it is refused everywhere"
    required, collections = _required_scopes(compiled.table.routes)
    for scope in scopes:
        there = scope in required or any(scope.startswith(f"{one}:") for one in collections)
        if not there and scope != ADMIN_SCOPE:
            near = console.near(scope, [*required, ADMIN_SCOPE])
            yield f"no route asks for the scope {scope!r}; a backend may{near}"


def _required_scopes(routes: Iterable[Route[Any, Any]]) -> tuple[set[str], set[str]]:
    """The scopes that routes require, and those of them that may be followed by a collection's name."""
    required: set[str] = set()
    collections: set[str] = set()
    for route in routes:
        scopes = route.all_scopes()
        required |= scopes
        collections |= scopes if route.by_collection else set()
    return required, collections
