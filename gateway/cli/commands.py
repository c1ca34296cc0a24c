"""gateway check | routes | explain | token | schema: commands about the routing config, and tokens for it."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web
from rich.markup import escape

from gateway.auth.keys import CURSOR_KEY, ensure_secret, ensure_signing_key, issue
from gateway.auth.store import FILE as AUTH_STORE
from gateway.call import Authentication, Call, Snapshot
from gateway.cli import console, reference
from gateway.cli.config.given import STDIN, read_config
from gateway.config import own_addresses
from gateway.config.compilation import ProcessCheck, compile_text
from gateway.config.ports import ConfigRefused
from gateway.config.refusal import as_dict, describe
from gateway.config.sources.file import read
from gateway.core.errors import GatewayError
from gateway.core.http.hops import Via
from gateway.core.jwt.issuer import LOCAL, Introspection, Issuer, KeyFile
from gateway.core.model import Backend, CallerRule, Route
from gateway.core.policy.access import ADMIN_SCOPE
from gateway.core.process.settings import ProcessConfig
from gateway.core.process.tls import unknown_sections
from gateway.core.routing.amounts import parse_duration
from gateway.core.routing.problems import Problem, Problems
from gateway.core.routing.settings import json_schema
from gateway.edge.backend.tls import TlsUnusable, load
from gateway.edge.tls.sites import SiteUnusable, TlsSites
from gateway.planes import conf
from gateway.process.folders import socket_folder
from gateway.setting_errors import named_by

_MOST = 5  # names in a message
_PROBLEMS = "[yellow]note:[/] the routing config has problems; see gateway check"


class _Add(Protocol):
    """Adds a command: its name, what runs it, one line about it, an example."""

    def __call__(
        self, name: str, run: Callable[[argparse.Namespace], int], about: str, example: str, /
    ) -> argparse.ArgumentParser: ...


def add_commands(add: _Add, load: Callable[[str | None], ProcessConfig]) -> None:
    """Add these commands to the parser. load: reads the process config."""

    def command(
        name: str, run: Callable[[argparse.Namespace, ProcessConfig], int], about: str, example: str
    ) -> argparse.ArgumentParser:
        return add(name, lambda a: run(a, load(a.config)), about, example)

    about, example = "find every problem in the routing config", "gateway check config/routing.yaml"
    check = add("check", lambda a: _check(a, load), about, example)
    help_ = "the file, - for standard input (default: the one that the process config names)"
    check.add_argument("routing", nargs="?", help=help_)
    check.add_argument("--json", action="store_true", help="the problems as JSON")
    routes = command("routes", _routes, "show the compiled routing table", "gateway routes")
    routes.add_argument("--json", action="store_true", help="the table as JSON")
    help_ = "what the running gateway has (asks its admin listener), and why the file differs, if it does"
    routes.add_argument("--live", action="store_true", help=help_)
    help_ = "with --live, where the admin listener needs one: as `explain` takes it"
    routes.add_argument("--token", metavar="TOKEN|@FILE|-", help=help_)
    about = "say what would happen to a request, and why; exit code 1 when it would be refused"
    example = "gateway explain GET /catalog/products/7 -H @var/demo-token.header"
    _explain_arguments(command("explain", _explain, about, example))
    example = "gateway token --tenant acme --scope 'documents:read documents:write' --ttl 1h"
    _token_arguments(command("token", _token, "print a signed token", example))
    about = "print the JSON Schema of the routing config"
    schema = add("schema", _schema, about, "gateway schema > config/routing.schema.json")
    help_ = "instead: every key of both config files, with its default and an example, as Markdown"
    schema.add_argument("--reference", action="store_true", help=help_)


def _explain_arguments(explain: argparse.ArgumentParser) -> None:
    explain.add_argument("method", type=str.upper)
    explain.add_argument("path", help="the request target, such as '/orders/7?full=1', or a URL")
    help_ = "'Name: value', or @FILE with such lines; may be repeated"
    explain.add_argument("-H", "--header", action="append", default=[], help=help_)
    help_ = "what the client would send: the token or 'Bearer ...', @FILE with it, or - (standard input)"
    explain.add_argument("--token", metavar="TOKEN|@FILE|-", help=help_)
    explain.add_argument("--certificate", metavar="FILE", help="the client's certificate, in PEM")
    help_ = "with --certificate: the section [tls:NAME] of the listener that it is shown to"
    explain.add_argument("--tls", metavar="NAME", default="", help=help_)
    explain.add_argument("--json", action="store_true", help="the same as JSON")


def _token_arguments(token: argparse.ArgumentParser) -> None:
    token.add_argument("--tenant", required=True)
    token.add_argument("--scope", default="", help="names separated by spaces")
    token.add_argument("--subject", default="operator")
    token.add_argument("--ttl", default="1h", help="such as 90s, 15m, 1h (default 1h)")
    token.add_argument("--kid", default="", help="the key to sign with (default: the newest that may)")


def _compile(config: ProcessConfig, authentication: Authentication | None = None) -> Snapshot:
    path = Path(config.routing)
    return _compile_text(path, read(path), config, authentication=authentication)


def _compile_text(
    path: Path,
    text: str,
    config: ProcessConfig | None,
    check: ProcessCheck = lambda snapshot: [],
    authentication: Authentication | None = None,
) -> Snapshot:
    """Raises ConfigRefused. config: of the process, when it is known. check: finds what it makes wrong."""
    sockets = socket_folder(".")  # all are of one length
    try:
        return compile_text(
            text,
            lambda backend: _NEVER,
            sockets,
            check,
            authentication,
            str(path.parent),
            config.tokens.issuer if config is not None else "",
        )
    except Problems as found:
        raise ConfigRefused(path, found.items) from None


class _Never:
    """A target that is never called: these commands only read routes."""

    def try_serve(self, call: Call) -> bool:
        raise AssertionError

    async def serve(self, call: Call) -> web.StreamResponse:
        raise AssertionError


_NEVER = _Never()


# --- check -----------------------------------------------------------------------------------------


def _check(arguments: argparse.Namespace, load: Callable[[str | None], ProcessConfig]) -> int:
    given = arguments.routing
    config: ProcessConfig | None
    try:
        config = load(arguments.config)
    except (Problems, OSError, ValueError):
        if not given:
            raise
        config, path = None, Path(given)  # for an unknown process
    else:
        path = Path(given or config.routing)
    name = STDIN if given == "-" else console.short(path)
    try:
        text, check = read_config(str(path)), partial(_check_against, config)
        compiled, found = _compile_text(path, text, config, check), []
    except ConfigRefused as refused:
        compiled, found = None, refused.problems
    own_found, notes = _process_problems(config) if config is not None else ([], [])
    process = console.short(config.path) if config is not None else ""
    if config is not None and compiled is not None:
        notes += _mtls_notes(compiled, config)
    if arguments.json:
        shown = name if given == "-" else str(path)
        said_of_tls = [describe(process, [one]).strip() for one in own_found] + notes
        said = {"file": shown, "problems": [as_dict(p) for p in found], "tls": said_of_tls}
        print(json.dumps(said, indent=2))
        return 1 if found or own_found else 0
    for file, problems in ((process, own_found), (name, found)):
        console.problems(file, problems)
        if problems:
            console.err.print(f"[bold red]{console.count(len(problems), 'problem')}[/] in {escape(file)}")
    if compiled is not None:
        console.out.print(
            f"[bold green]clean[/]  {escape(name)}: {console.count(len(compiled.table.routes), 'route')},"
            f" {console.count(len(compiled.backends), 'backend')},"
            f" {console.count(len(compiled.tenants), 'tenant')}"
            + (f", {console.count(len(compiled.issuers), 'issuer')}" if compiled.issuers else "")
        )
        if config is not None and config.live.source != "file" and path == Path(config.routing):
            console.err.print(
                f"[yellow]note:[/] \\[config] source = {config.live.source}: the gateway does not read this"
                f" file; make it live with: {escape(console.program())} apply {escape(name)}"
            )
        for where, file in _named_files(compiled.issuers):
            if not Path(file).exists():
                console.err.print(f"[yellow]note:[/] {where}: {escape(file)} is not there on this machine")
        for note in _tls_notes(compiled.backends):
            console.err.print(f"[yellow]note:[/] {escape(note)}")
    for text in notes:
        console.err.print(f"[yellow]note:[/] {escape(text)}")
    return 1 if found or own_found else 0


def _check_against(config: ProcessConfig | None, compiled: Snapshot) -> list[Problem]:
    """What the process config makes wrong in a routing config."""
    if config is None:
        return []
    found = own_addresses.problems(compiled.backends, own_addresses.of(config))
    return [*found, *unknown_sections(compiled.certificates, config.tls)]


def _process_problems(config: ProcessConfig) -> tuple[list[Problem], list[str]]:
    """What this machine lacks of what the process config names: what keeps the gateway from starting, and
    what should be known all the same."""
    from gateway.planes.shared import sharing  # only here: it imports what serves

    wrong = [problem] if (problem := sharing.problem(config)) else []
    used = {one.tls for one in (*config.listen, *config.admin)}
    notes = [
        f"[tls:{one.name}] in {config.path}: no listener names it; write tls={one.name} behind its address"
        for one in config.tls
        if one.name not in used
    ]
    try:
        notes += TlsSites(config.tls, config.path).warnings()
    except SiteUnusable as unusable:
        wrong += unusable.problems
    return conf.located(config.path, wrong), notes


def _mtls_notes(compiled: Snapshot, config: ProcessConfig) -> Iterable[str]:
    """Where routes take clients' certificates that no public listener asks for, or those of authorities that
    may each name whom they like."""
    asks = {one.name for one in config.tls if one.verify}
    routes = compiled.table.routes
    named = [one.name for one in routes if one.callers is not None and "mtls" in one.callers.kinds]
    if named and not any(one.tls in asks for one in config.listen):
        yield (
            f"auth: [mtls] of {_listed(named)}: no client can show"
            f" a certificate; in {console.short(config.path)}, write verify = ca.pem in a section [tls:NAME],"
            " and tls=NAME behind an address of [gateway] listen"
        )
    used = {one.tls for one in config.listen}
    verify = {one.verify: f"[tls:{one.name}]" for one in config.tls if one.verify and one.name in used}
    anywhere = [one.name for one in compiled.certificates if not one.tls]
    if named and anywhere and len(verify) > 1:
        yield (
            f"{' and '.join(verify.values())} verify with different authorities: a certificate of each may be"
            f" {_listed(anywhere)} of `certificates`; write tls: NAME where an entry is for one of them"
        )


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:_MOST])}{', ...' if names[_MOST:] else ''}"


def _tls_notes(backends: Mapping[str, Backend]) -> Iterable[str]:
    """What should be known of TLS to backends. The gateway starts without their files, and the one backend is
    unavailable."""
    for name, backend in backends.items():
        tls = next((address.tls for address in backend.addresses if address.tls is not None), None)
        if tls is None:
            continue
        if not tls.verify:
            yield (
                f"backends.{name}.tls.verify: false: whoever is between can be the backend, and reads and"
                " changes what passes; write ca: and the file of its authority"
            )
        try:
            load(tls)
        except TlsUnusable as error:
            yield f"backends.{name}.tls: {error} (on this machine); its requests get 503"


def _named_files(issuers: Mapping[str, Issuer]) -> Iterable[tuple[str, str]]:
    """Where issuers name files, and the files. The gateway starts without them, so they are no problem."""
    for name, issuer in issuers.items():
        if isinstance(issuer.keys, KeyFile):
            yield f"issuers.{name}.keys", issuer.keys.path
        elif isinstance(issuer.keys, Introspection) and issuer.keys.client_secret.file:
            yield f"issuers.{name}.introspection.client_secret", issuer.keys.client_secret.file


# --- routes ----------------------------------------------------------------------------------------


def _routes(arguments: argparse.Namespace, config: ProcessConfig) -> int:
    path = Path(config.routing)
    if not arguments.live:
        _show(_compile(config).table.routes, arguments)
        return 0
    from gateway.cli import explain, running  # only here: importing the gateway's modules takes a while

    token = explain.read_token(arguments.token) if arguments.token is not None else None
    found = running.fetch(config, token)
    try:
        compiled = _compile_text(Path(found.status["path"]), found.text, config)
    except ConfigRefused as refused:
        console.fail("what is live is no config for this version of the command; is it the gateway's?")
        raise refused from None
    _show(compiled.table.routes, arguments)
    console.err.print(escape(found.title()), style="dim")
    differences = list(found.differences(path))
    for sentence in differences:
        console.err.print(f"[bold yellow]the file differs:[/] {escape(sentence)}")
    if differences:
        console.problems(console.short(path), found.problems())
    return 1 if differences else 0


def _show(routes: Iterable[Route[Any, Any]], arguments: argparse.Namespace) -> None:
    if not arguments.json:
        console.out.print(console.routes(list(routes)))
        return
    rows = [
        {
            "name": route.name,
            "methods": sorted(route.methods),
            "host": route.host,
            "path": route.path,
            "target": route.target_name,
            "strip": route.strip,
            "public": route.public,
            "read_scopes": sorted(route.read_scopes),
            "write_scopes": sorted(route.write_scopes),
            "manage_scopes": sorted(route.manage_scopes),
            "method_scopes": {method: sorted(names) for method, names in route.method_scopes.items()},
            "bind": route.bind,
            **_callers(route.callers or CallerRule()),
        }
        for route in routes
    ]
    print(json.dumps(rows, indent=2))


def _callers(rule: CallerRule) -> dict[str, Any]:
    """Which callers a route takes, beside scopes; nothing in a list is any."""
    claims = {path: sorted(values) for path, values in rule.claims.items()}
    return {"auth": sorted(rule.kinds), "issuers": sorted(rule.issuers), "require": claims}


# --- explain ---------------------------------------------------------------------------------------


def _explain(arguments: argparse.Namespace, config: ProcessConfig) -> int:
    from gateway.admin.explain import rows, run  # as above
    from gateway.cli import explain

    headers = explain.parse_headers(arguments.header, arguments.token)
    asking = run.Asking(Path(config.data) / AUTH_STORE)
    compiled = _compile(config, asking.chain)
    via = _own_via(config) if "Via" in headers else None
    local = config.tokens if compiled.local_issuer else None
    # Without a credential no key is needed.
    shown = any(name in headers for name in ("Authorization", "X-API-Key", "Sec-WebSocket-Protocol"))

    file = arguments.certificate
    certificate = explain.read_certificate(file, arguments.tls) if file else None

    async def ask() -> tuple[Call, GatewayError | None, list[tuple[str, str]]]:
        asked = compiled, asking.chain, arguments.method, arguments.path, headers, via, certificate
        async with asking.of(local if shown else None, compiled.issuers if shown else {}):
            call, refused = await run.run(*asked)
            return call, refused, await asking.revocations(call, refused, console.program())

    call, refused, revoked = asyncio.run(ask())
    found = rows.explanation(call, refused, asking.issuers, revoked)
    if arguments.json:
        print(json.dumps(dict(found), indent=2))
    else:
        console.out.print(console.pairs(found))
    return 0 if refused is None else 1


def _own_via(config: ProcessConfig) -> Via | None:
    """The name by which the gateway knows its own requests; None before it ran. Raises KeysUnusable."""
    secret = Path(config.data) / CURSOR_KEY
    if secret.exists():
        return config.own_via(ensure_secret(secret))
    return config.own_via(b"") if config.via else None


# --- token -----------------------------------------------------------------------------------------


def _token(arguments: argparse.Namespace, config: ProcessConfig) -> int:
    path = Path(config.keys)
    with named_by("[tokens] keys", config.path, config.keys):
        ensure_signing_key(path)
    try:
        ttl = parse_duration(arguments.ttl)
    except ValueError as error:
        raise ValueError(f"--ttl {arguments.ttl!r} {error}; write 90s, 15m or 1h") from None
    if ttl < 1:
        raise ValueError(f"--ttl {arguments.ttl!r}: such a token has expired when it is printed; write 90s")
    token = issue(
        path, config.tokens, arguments.tenant, arguments.scope, arguments.subject, ttl, arguments.kid
    )
    print_notes(config, arguments.tenant, arguments.scope)
    print(token)
    return 0


def print_notes(config: ProcessConfig, tenant: str, scopes: str) -> None:
    """Print to standard error what may be wrong with a credential for this tenant, with these scopes."""
    try:
        for note in _notes(_compile(config), tenant, scopes.split()):
            console.err.print(f"[yellow]note:[/] {escape(note)}")
    except ConfigRefused:
        console.err.print(_PROBLEMS)


def issuers(config: ProcessConfig, tenant: str) -> dict[str, Issuer]:
    """The issuers of tokens, by name; where the routing config has problems, the local one alone. Prints to
    standard error that it has, or what may be wrong with this tenant ("" for none)."""
    try:
        compiled = _compile(config)
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


def _schema(arguments: argparse.Namespace) -> int:
    print(reference.markdown() if arguments.reference else json.dumps(json_schema(), indent=2))
    return 0
