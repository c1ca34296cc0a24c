"""The process config, config/gateway.conf (ASAB's ini): read at a start, frozen, passed on. A restart changes
it; with workers, new ones do, but for what core/process/changes.py names.

Only here may commands be written: the live routing config never says what to run.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

from gateway.core.http.hops import Via, pseudonym, pseudonym_pattern
from gateway.core.http.request_target import authority
from gateway.core.jwt.algorithms import ALGORITHMS, OFFERED
from gateway.core.jwt.issuer import Issuer, local_issuer
from gateway.core.policy import budget
from gateway.core.process import (
    command_line,
    config_source,
    ini,
    listen_lines,
    listeners,
    operators,
    shared_state,
    store_uri,
    tls,
)
from gateway.core.process.command_line import Command
from gateway.core.process.config_source import IN_A_FILE, ConfigSettings
from gateway.core.process.listeners import Address, Listen
from gateway.core.process.operators import ANY_ADMIN, Operators
from gateway.core.process.shared_state import NOT_SHARED, SharedSettings
from gateway.core.process.tls import TlsSettings
from gateway.core.redact import Queries
from gateway.core.routing.amounts import parse_size
from gateway.core.routing.problems import Path, Problem, Problems, Wrong

Sections = Mapping[str, Mapping[str, str]]

# Those of each section; what they are, core/process/reference.py says.
KEYS: dict[str, frozenset[str]] = {
    "gateway": frozenset(
        {"listen", "workers", "routing", "data", "pre_stop", "drain", "stream_grace", "share", "memory"}
        | {"connections", "client_connections"}
        | {"via", "via_responses", "via_loops", "spool"}
    ),
    "admin": frozenset({"listen", "hosts"}),
    "store": frozenset({"uri", "next", "body_memory"}),
    "tokens": frozenset({"issuer", "audience", "algorithms", "keys", "leeway"}),
    "log": frozenset({"access", "query", "recent"}),
    "demo": frozenset({"seed"}),
    config_source.SECTION: config_source.KEYS,
    shared_state.SECTION: shared_state.KEYS,
    operators.ISSUER: operators.ISSUER_KEYS,
}
# What ASAB and its modules read, by the word before the first colon.
_ASAB = frozenset(
    {"asab", "auth", "connection", "elasticsearch", "general", "housekeeping", "http", "library"}
    | {"logging", "mongo", "passwords", "sentry", "tenants", "web", "zookeeper"}
)
BACKEND_KEYS = frozenset({"command", "cwd", "try", "health", "start_timeout"})
_WORKERS = 128  # at most
_YES, _NO = ("yes", "true", "on", "1"), ("no", "false", "off", "0")
_PATHS = frozenset(
    {"routing", "data", "keys", "access", "cwd", "seed", "audit_copy", "certificate", "key", "verify", "crl"}
)
_SEVERAL = frozenset(
    {"command", "listen", "hosts", "algorithms", "servers", "certificate", "key", *operators.ROLES}
)  # values that may continue on the next line
_QUOTED = frozenset({"command", *operators.ROLES})  # keys in whose values quotes are no mistake
_FREE = frozenset(  # keys whose values may hold ; and #
    {"command", "uri", "next", "issuer", "audience", "credentials"}
)
_HEALTH_PATH = re.compile(r"/[\x21-\x22\x24-\x7e]*").fullmatch
_HEALTH_URL = re.compile(r"http://([^/?#]+)(/[\x21-\x22\x24-\x7e]*)?").fullmatch


@dataclass(frozen=True, slots=True)
class ProcessConfig:
    """config/gateway.conf as read. Paths are absolute or relative to the current directory.

    store_uri: sqlite: and a folder, or the mongodb:// or mongodb+srv:// URI as written. store_next: likewise,
    of the store to which tenants are moved; empty for none.
    hosts: names under which the admin listener may be called, beside the addresses that it listens on.
    access_log: a path, `-` for standard output, empty for none. log_query: see `redact_query`. recent:
    whether the heads of the last requests are kept in memory. pre_stop, drain, stream_grace: seconds. path:
    of the file itself, for messages. workers: processes that serve, 0 for half of the processors. share: of
    the backends' seats, for all of them together, where another gateway has the rest.
    via: this installation's name in Via, empty for one made of its secret; via_responses: whether responses
    carry it; via_loops: how often a request may come back here.
    connections, client_connections: of clients with one process, in all and of one client; 0 for any number.
    body_memory, memory, spool: bytes of documents' bodies, of all that is unfinished, and on disk, at once.
    seed: the file of what `gateway up` puts into the demo, empty for none. operators: who may use the admin
    listener. live: where the live config is. shared: what several machines share. tls: what listeners name.
    """

    listen: tuple[Listen, ...]
    admin: tuple[Listen, ...]
    routing: str
    data: str
    keys: str
    store_uri: str = field(repr=False)  # it may hold a password
    tokens: Issuer
    access_log: str
    commands: tuple[Command, ...]
    admin_hosts: tuple[str, ...] = ()
    pre_stop: float = 0.0
    drain: float = 25.0
    stream_grace: float = 2.0
    log_query: Queries = "no"
    recent: bool = True
    path: str = "gateway.conf"
    workers: int = 1
    share: float = 1.0
    via: str = ""
    via_responses: bool = True
    via_loops: int = 0
    store_next: str = field(default="", repr=False)
    connections: int = 0
    client_connections: int = 0
    body_memory: int = 256 * 1024 * 1024
    spool: int = 1024 * 1024 * 1024
    memory: int = 256 * 1024 * 1024
    seed: str = ""
    operators: Operators = ANY_ADMIN
    live: ConfigSettings = IN_A_FILE
    shared: SharedSettings = NOT_SHARED
    tls: tuple[TlsSettings, ...] = ()

    def own_via(self, secret: bytes) -> Via:
        """This installation's entry in Via. secret: of its own, in `data`; makes the default name."""
        name = self.via or pseudonym(secret)
        return Via(name, responses=self.via_responses, loops=self.via_loops)


_CONNECTIONS = "write a number such as 100; 0 is no limit"


class _Reader:
    """Reads values, and collects the problems with them."""

    def __init__(self, sections: Sections, folder: str) -> None:
        self.sections = sections
        self.folder = PurePath(folder)
        self.problems: list[Problem] = []
        self.settled: frozenset[Path] = frozenset()  # keys with a problem that explains any other

    def wrong(self, section: str, key: str, reason: str, hint: str) -> None:
        if (f"[{section}]", key) not in self.settled:
            self.problems.append(Problem((f"[{section}]", key) if key else (f"[{section}]",), reason, hint))

    def text(self, section: str, key: str, default: str) -> str:
        return self.sections.get(section, {}).get(key, default).strip()

    def path(self, section: str, key: str, default: str, folder: str = "") -> str:
        return str(PurePath(folder or self.folder) / self.text(section, key, default))

    def seconds(self, section: str, key: str, default: float) -> float:
        text = self.text(section, key, str(default))
        try:
            value = float(text.removesuffix("s"))
        except ValueError:
            value = -1.0
        if not 0 <= value <= 3600:
            self.wrong(section, key, f"{text!r} is no time", "write seconds, such as 25")
            return default
        return value

    def choice(self, section: str, key: str, default: str) -> bool:
        text = self.text(section, key, default).lower()
        if text not in (*_YES, *_NO):
            self.wrong(section, key, f"{text!r} is neither yes nor no", f"write {key} = yes, or no")
        return text in _YES

    def count(self, section: str, key: str, default: int, most: int, hint: str = "") -> int:
        text = self.text(section, key, str(default))
        if not re.fullmatch("[0-9]{1,9}", text, re.ASCII) or int(text) > most:
            reason = f"{text!r} is no number from 0 to {most}"
            self.wrong(section, key, reason, hint or f"write {key} = {default}")
            return default
        return int(text)

    def size(self, section: str, key: str, default: str) -> int:
        text = self.text(section, key, default)
        try:
            value = parse_size(text)
        except Wrong:
            value = 0
        if value < budget.LEAST:
            self.wrong(section, key, f"{text!r} is no size, or less than 2MiB", f"write one as {default}")
            return budget.LEAST
        return value

    def workers(self) -> int:
        text = self.text("gateway", "workers", "auto").lower()
        if text == "auto":
            return 0
        if not re.fullmatch("[0-9]{1,3}", text, re.ASCII) or not 1 <= int(text) <= _WORKERS:
            hint = "write auto, for half of the processors, or how many processes serve"
            self.wrong("gateway", "workers", f"{text!r} is no number from 1 to {_WORKERS}", hint)
            return 0
        return int(text)

    def share(self, section: str, key: str) -> float:
        text = self.text(section, key, "1")
        part, _, whole = text.partition("/")
        try:
            value = float(part) / float(whole or 1)
        except (ValueError, ZeroDivisionError):
            value = 0.0
        if not 0 < value <= 1:
            hint = "write 1/2 for one of two processes, or 1 for the only one"
            self.wrong(section, key, f"{text!r} is no share", hint)
            return 1.0
        return value


def parse_process(sections: Sections, folder: str, path: str = "gateway.conf") -> ProcessConfig:
    """Sections of the ini file to a ProcessConfig. folder: where the file is; relative paths start there.
    path: as the operator named the file. The sections of ASAB are left alone.

    Raises Problems with all of them.
    """
    read = _Reader(sections, folder)
    _unknown_keys(read)
    _habits(read)
    read.settled = frozenset(problem.path for problem in read.problems)
    data = read.path("gateway", "data", "../var")
    keys = read.path("tokens", "keys", "keys.jwks", data)
    access = read.text("log", "access", "access.log")
    served = _store_uri(read, data, "uri", "sqlite:documents")
    following = _store_uri(read, data, "next", "")
    if following == served:
        read.wrong("store", "next", "it is the store of uri", "name the one to which tenants are moved")
    config = ProcessConfig(
        listen=listen_lines.parse(read, "gateway", "127.0.0.1:8080"),
        admin=listen_lines.parse(read, "admin", "127.0.0.1:8081"),
        admin_hosts=tuple(_admin_hosts(read)),
        routing=read.path("gateway", "routing", "routing.yaml"),
        data=data,
        keys=keys,
        store_uri=served,
        store_next=following,
        tokens=_tokens(read, keys),
        path=path,
        log_query=_queries(read),
        recent=read.choice("log", "recent", "yes"),
        access_log=access if access in ("", "-") else str(PurePath(data) / access),
        commands=tuple(_commands(read)),
        pre_stop=read.seconds("gateway", "pre_stop", 0.0),
        drain=read.seconds("gateway", "drain", 25.0),
        stream_grace=read.seconds("gateway", "stream_grace", 2.0),
        workers=read.workers(),
        share=read.share("gateway", "share"),
        via=_via(read),
        via_responses=read.choice("gateway", "via_responses", "yes"),
        via_loops=read.count("gateway", "via_loops", 0, 100),
        connections=read.count("gateway", "connections", 0, 10_000_000, _CONNECTIONS),
        client_connections=read.count("gateway", "client_connections", 0, 10_000_000, _CONNECTIONS),
        body_memory=read.size("store", "body_memory", "256MiB"),
        spool=read.size("gateway", "spool", "1GiB"),
        memory=read.size("gateway", "memory", "256MiB"),
        seed=read.path("demo", "seed", "") if read.text("demo", "seed", "") else "",
        operators=operators.parse(read, read.text("tokens", "issuer", "gateway")),
        live=config_source.parse(read, served, data),
        shared=shared_state.parse(read),
        tls=tls.parse(read, read.folder),
    )
    _check_listeners(read, config)
    if read.problems:
        raise Problems(read.problems)
    return config


def _tokens(read: _Reader, keys: str) -> Issuer:
    for name in ("issuer", "audience"):
        if not read.text("tokens", name, "gateway"):
            read.wrong("tokens", name, "it is empty", "write the text that tokens must carry")
    algorithms = tuple(read.text("tokens", "algorithms", " ".join(ALGORITHMS)).replace(",", " ").split())
    for name in algorithms:
        if name not in OFFERED:
            read.wrong("tokens", "algorithms", f"{name!r} is not offered", f"choose of {', '.join(OFFERED)}")
    if not algorithms:
        read.wrong("tokens", "algorithms", "it is empty", f"choose of {', '.join(OFFERED)}")
    return local_issuer(
        keys,
        read.text("tokens", "issuer", "gateway"),
        read.text("tokens", "audience", "gateway"),
        algorithms,
        read.seconds("tokens", "leeway", 60.0),
    )


def _check_listeners(read: _Reader, config: ProcessConfig) -> None:
    clash = listeners.first_clash(config.admin, config.listen)
    if clash is None:
        return
    admin, public = clash
    taken = [one.address for one in (*config.admin, *config.listen) if not one.path]
    if read.text("admin", "listen", ""):
        free = f"port, such as {_free_beside(admin, taken)}" if not admin.path else "path"
        reason = f"{admin} is taken by [gateway] listen = {public}"
        read.wrong("admin", "listen", reason, f"choose another {free}")
        return
    reason = f"{public} is taken by the admin listener, which listens on {admin} where nothing else is said"
    for_public, for_admin = _free_beside(public, taken), _free_beside(admin, taken)
    hint = f"choose another port, such as {for_public}, or write [admin] listen = {for_admin}"
    read.wrong("gateway", "listen", reason, hint)


def _free_beside(one: Listen, taken: Iterable[Address]) -> str:
    return listeners.text(listeners.free_beside(one.address, taken))


def _admin_hosts(read: _Reader) -> list[str]:
    """The names in the form in which the Host of a request is compared with them."""
    found = []
    for entry in read.text("admin", "hosts", "").replace(",", " ").split():
        host = listeners.plain(entry)
        name = host if listeners.is_address(host) and entry != "*" else listeners.name_of(host)
        if not name:
            hint = "write names alone, as ops.example: no scheme, port, path or *"
            read.wrong("admin", "hosts", "one of them is no name of a host", hint)
        found.append(name)
    return found


def _via(read: _Reader) -> str:
    name = read.text("gateway", "via", "")
    if name and not pseudonym_pattern(name):
        hint = "write letters, digits, . _ - (63 at most), as edge-1; or leave it out"
        read.wrong("gateway", "via", f"{name!r} is no name for Via", hint)
    return name


def _queries(read: _Reader) -> Queries:
    text = read.text("log", "query", "no").lower()
    if text == "all":
        return "all"
    if text in _YES:
        return "yes"
    if text not in (*_NO, ""):
        hint = "write no, yes (without what may be a secret) or all (as it came)"
        read.wrong("log", "query", f"{text!r} is not offered", hint)
    return "no"


def _store_uri(read: _Reader, data: str, key: str, default: str) -> str:
    uri = read.text("store", key, default)
    if not uri and not default:
        return ""
    if wrong := store_uri.problem(uri):
        read.wrong("store", key, *wrong)
    return store_uri.under(uri, data)


def _unknown_keys(read: _Reader) -> None:
    for section, keys in read.sections.items():
        if section == operators.NAMED:
            continue
        known = _keys_of(section)
        if known is None:
            if section.partition(":")[0] not in _ASAB:
                read.wrong(section, "", "the section is unknown", _known_section(section))
            continue
        for key in keys:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}"
                read.wrong(section, key, f"the key {key!r} is unknown", hint)


def _keys_of(section: str) -> frozenset[str] | None:
    """None for a section that is not the gateway's."""
    of_kind = {"backend": BACKEND_KEYS, "tls": tls.KEYS}
    kind, named, _ = section.partition(":")
    return of_kind[kind] if named and kind in of_kind else KEYS.get(section)


def _known_section(section: str) -> str:
    """The hint for a section that neither the gateway nor ASAB knows."""
    word, _, rest = section.replace(" ", ":").partition(":")
    near = difflib.get_close_matches(
        word.lower(), [*KEYS, operators.NAMED, "backend", "tls", "general", "logging"], 1, 0.6
    )
    if near:
        return f"did you mean [{near[0]}{':' + (rest or 'NAME') if near[0] in ('backend', 'tls') else ''}]?"
    known = "], [".join((*KEYS, operators.NAMED, "backend:NAME", "tls:NAME", "logging", "general"))
    return f"known here: [{known}]; routes and limits belong to the routing config"


def _habits(read: _Reader) -> None:
    """Habits from other formats that an ini file takes literally: quotes, trailing comments, variables."""
    for section, values in read.sections.items():
        known = _keys_of(section) or frozenset()
        inner = re.compile(rf"\n\s*({'|'.join(sorted(known))})\s*[=:]") if known else None
        for key, value in values.items():
            if key not in known:
                continue
            deeper = inner.search(value) if inner is not None else None
            if deeper is not None or ("\n" in value and key not in _SEVERAL):
                reason = "the line below it is indented, and so goes on with its value"
                read.wrong(
                    section, key, reason, f"begin {deeper[1] if deeper else 'that line'} in the first column"
                )
            elif key not in _FREE and re.search(r"(?:^|\s)[;#]", value):
                read.wrong(section, key, "a comment would belong to the value", "give it a line of its own")
            elif value[:1] in ("'", '"') and value[-1:] == value[:1] and key not in _QUOTED:
                read.wrong(section, key, "the quotes would belong to the value", "remove them")
            elif key in _PATHS and (re.match("~|%[(A-Z]", value) or "$" in value):
                read.wrong(section, key, "~ and variables are not filled in here", "write the path itself")
            elif key in ("routing", "data", "keys", "cwd") and not value.strip():
                read.wrong(section, key, "it is empty", "write a path, or remove the key")
            elif "\0" in value:
                read.wrong(section, key, "it holds a NUL", "write it anew")


def _commands(read: _Reader) -> list[Command]:
    found: list[Command] = []
    for section, name in ini.named(read, "backend:"):
        argv, wrong = command_line.read(read.text(section, "command", ""))
        for reason, hint in wrong:
            read.wrong(section, "command", reason, hint)
        cwd, sample = read.path(section, "cwd", ".."), read.text(section, "try", "")
        found.append(Command(name, argv, cwd, sample, *_health(read, section)))
    return found


def health_url_fault(text: str) -> str:
    """Why it is no URL for the health check of a backend on TCP; "" when it is one."""
    found = _HEALTH_URL(text)
    if found is None:
        return "it is neither a path nor http:// with host, port and path"
    where = authority(found[1])
    if where is None:
        return "its host or its port is not valid"
    return "" if where[1] else "it lacks the port, a number from 1 to 65535"


def _health(read: _Reader, section: str) -> tuple[str, float]:
    """The path or URL of the health check, and the seconds that the start may take."""
    health = read.text(section, "health", "/healthz")
    fault = "" if _HEALTH_PATH(health) else health_url_fault(health)
    if fault:
        hint = "write a path, as /healthz, or for a backend on TCP http://127.0.0.1:9001/healthz"
        read.wrong(section, "health", fault, hint)
    timeout = read.seconds(section, "start_timeout", 10.0)
    if timeout < 0.1:
        read.wrong(section, "start_timeout", "no backend starts in no time", "write seconds, such as 10")
    return health, timeout
