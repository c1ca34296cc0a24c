"""The house's laws, read from the source: who may import whom, and how large things may be.

Each law takes modules and gives its breaches as text, `file:line: what (the law)`.
"""

from __future__ import annotations

import ast
import gc
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

ORDER = (
    "cli -> app -> admin"
    " -> {life | proxy | documents | auth | config | admission | health | limits | shared | process"
    " | telemetry}"
    " -> {edge | store} -> call -> runtime -> core"
)
LEVELS = {
    "core": 0, "runtime": 1, "call": 2, "edge": 3, "store": 3,
    "life": 4, "proxy": 4, "documents": 4, "auth": 4, "config": 4, "admission": 4, "health": 4, "limits": 4,
    "shared": 4, "process": 4, "telemetry": 4, "admin": 5, "app": 6, "cli": 7,
}  # fmt: skip
APP_FILES = frozenset({"app", "application", "planes", "setting_errors"})
# Where an error boundary may stand: that of requests, and that of periodic tasks. (A job in a worker process
# has one of its own: what it raises is sent to its caller.)
ERROR_BOUNDARIES = frozenset({"gateway.life", "gateway.runtime.periodic"})
WORKER = "gateway.runtime.processes.worker"
ASAB_ROOMS = frozenset({"config", "admin", "telemetry"})
WITHOUT_AIOHTTP = frozenset(
    {"core", "runtime", "store", "auth", "config", "admission", "health", "limits", "process", "telemetry"}
    | {"shared"}
)
FILE_LINES, FUNCTION_LINES, FOLDER_FILES = 500, 60, 14
# Files that hold one concept and are longer all the same: why, and how long at most.
LONG_FILES: dict[str, tuple[int, str]] = {
    "gateway/admission/backend_queue.py": (530, "one backend's queue, with its seats and what it shows"),
    "gateway/core/fairness/queue.py": (560, "one algorithm: the order, its flows and its reserve"),
}
IMPURE = frozenset(
    {"time", "asyncio", "logging", "socket", "random", "os", "secrets", "threading", "subprocess", "select"}
)
PYDANTIC = frozenset(
    f"gateway.core.routing.{name}"
    for name in ("settings", "values", "problems", "issuers.settings", "backends.settings")
) | {"gateway.core.config.meaning"}


@dataclass(frozen=True)
class Module:
    """One source file. name: dotted, without `.__init__`. nodes: all of its tree, for laws to go through."""

    name: str
    file: str
    tree: ast.Module
    nodes: tuple[ast.AST, ...]
    lines: int

    @property
    def room(self) -> str:
        """See `room_of`."""
        return room_of(self.name)


def room_of(name: str) -> str:
    """The room of a module of gateway; empty for its root package and for everything else."""
    parts = name.split(".")
    if parts[0] != "gateway" or len(parts) == 1:
        return ""
    if parts[1] in APP_FILES:
        return "app"
    return "cli" if parts[1] == "__main__" else parts[1]


@dataclass(frozen=True)
class Import:
    module: Module
    target: str
    line: int

    def breach(self, law: str) -> str:
        return f"{self.module.file}:{self.line}: {self.module.name} imports {self.target} ({law})"


def parse(name: str, file: str, text: str) -> Module:
    # A collection in the middle of it may run a finalizer that parses too, which CPython 3.11 does not bear
    # (SystemError: AST constructor recursion depth mismatch).
    gc.disable()
    try:
        tree = ast.parse(text, file)
    finally:
        gc.enable()
    return Module(name, file, tree, tuple(ast.walk(tree)), text.count("\n") + 1)


def read(*folders: str) -> list[Module]:
    """All modules below these folders of the project."""
    found = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT)
            if "template" in relative.parts:  # what `gateway init` writes: no part of the gateway
                continue
            name = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
            found.append(parse(name, str(relative), path.read_text("utf-8")))
    return found


def imports(module: Module, known: frozenset[str] = frozenset()) -> Iterator[Import]:
    """Every import, also inside functions and under TYPE_CHECKING. `from a import b` is a.b if that is a
    known module."""
    for node in module.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = _base(module, node)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield Import(module, whole if whole in known else base, node.lineno)


def _base(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    is_package = module.file.endswith("__init__.py")
    parts = module.name.split(".")
    parts = parts[: len(parts) - node.level + is_package]
    return ".".join([*parts, node.module] if node.module else parts)


def _all_imports(modules: list[Module]) -> Iterator[Import]:
    known = frozenset(module.name for module in modules)
    for module in modules:
        yield from imports(module, known)


def layers(modules: list[Module]) -> Iterator[str]:
    """A room imports only itself and the rooms below it."""
    for item in _all_imports(modules):
        if not item.target.startswith("gateway.") or item.module.name == "gateway":
            continue
        room, other = item.module.room, room_of(item.target)
        if room not in LEVELS or other not in LEVELS:
            yield item.breach(f"the room {room if room not in LEVELS else other!r} is not in {ORDER}")
        elif room != other and LEVELS[other] >= LEVELS[room]:
            yield item.breach(ORDER)


def crowded(modules: list[Module]) -> Iterator[str]:
    """At most FOLDER_FILES files in a folder."""
    for folder, count in Counter(module.file.rpartition("/")[0] for module in modules).items():
        if count > FOLDER_FILES:
            yield f"{folder}: {count} files (at most {FOLDER_FILES})"


def cycles(modules: list[Module]) -> Iterator[str]:
    """No module is imported, over any number of steps, by what it imports."""
    edges: dict[str, list[Import]] = {}
    for item in _all_imports(modules):
        edges.setdefault(item.module.name, []).append(item)
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> Iterator[str]:
        if name in done:
            return
        for item in edges.get(name, []):
            if item.target in [*trail, name]:
                ring = [*trail, name, item.target]
                yield item.breach(f"a cycle: {' -> '.join(ring[ring.index(item.target) :])}")
            else:
                yield from visit(item.target, [*trail, name])
        done.add(name)

    for module in modules:
        yield from visit(module.name, [])


def third_party(modules: list[Module]) -> Iterator[str]:
    """Where asab, aiohttp, the drivers of MongoDB and ZooKeeper, and pydantic may be named."""
    for item in _all_imports(modules):
        package, room, name = item.target.split(".")[0], item.module.room, item.module.name
        driver = name == "gateway.store.mongo.driver"
        if package == "asab" and room not in ASAB_ROOMS and name != "gateway.application" and not driver:
            yield item.breach("asab only in application, config, admin, telemetry and store/mongo/driver.py")
        if package == "aiohttp" and room in WITHOUT_AIOHTTP:
            yield item.breach("aiohttp only in edge, call, life, proxy, documents, admin, app and cli")
        if package in ("motor", "pymongo") and not driver:
            yield item.breach("only store/mongo/driver.py names the MongoDB driver")
        if package == "bson" and not driver and name != "gateway.store.mongo.raw":
            yield item.breach("only store/mongo/driver.py and store/mongo/raw.py know BSON")
        if package == "kazoo" and name != "gateway.config.zookeeper":
            yield item.breach("only config/zookeeper.py names ZooKeeper's client")
        if package in ("redis", "hiredis") and not name.startswith("gateway.shared.redis."):
            yield item.breach("only shared/redis/ names the client of Redis")
        if package in ("pydantic", "pydantic_core") and name not in PYDANTIC:
            yield item.breach("pydantic only where the routing config is read as written")


def purity(modules: list[Module], stdlib: frozenset[str]) -> Iterator[str]:
    """core: no await, no clock, no log, no socket; stdlib, jwt and (in a few files) pydantic."""
    core = [module for module in modules if module.room == "core"]
    for item in _all_imports(core):
        package = item.target.split(".")[0]
        if package in IMPURE:
            yield item.breach("core is pure: no clock, log, socket, chance or process")
        elif package not in stdlib and package not in ("gateway", "jwt", "pydantic", "pydantic_core"):
            yield item.breach("core imports the standard library, the token library and pydantic")
    for module in core:
        for node in module.nodes:
            if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
                yield f"{module.file}:{node.lineno}: {module.name} awaits (core is pure)"
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("open", "print", "input"):
                yield f"{module.file}:{node.lineno}: {module.name} does input or output (core is pure)"


def broad_excepts(modules: list[Module]) -> Iterator[str]:
    """One error boundary of requests, in life.py, and one of periodic tasks, in runtime/periodic.py: a broad
    except, or a context manager that may suppress what is raised. Elsewhere a broad except must end by
    raising again."""
    found: set[str] = set()
    for module in modules:
        for node in module.nodes:
            called = _name(node.func) if isinstance(node, ast.Call) else ""
            if called == "suppress" and any(map(_is_broad, node.args)):
                yield f"{module.file}:{node.lineno}: suppress of everything (one boundary, in life.py)"
            if _is_error_boundary(node) and module.name != WORKER:
                if module.name not in ERROR_BOUNDARIES or module.name in found:
                    is_except = isinstance(node, ast.ExceptHandler)
                    what = "a broad except" if is_except else "an __exit__ that suppresses"
                    yield f"{module.file}:{node.lineno}: {what} (one, in life.py; catch what you mean)"
                found.add(module.name)


def _is_error_boundary(node: ast.AST) -> bool:
    """Whether it may keep an exception of any type: a broad handler that does not raise again at its end, or
    the `__exit__` of a context manager that may return something true."""
    if isinstance(node, ast.ExceptHandler):
        return (node.type is None or _is_broad(node.type)) and not isinstance(node.body[-1], ast.Raise)
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    if node.name not in ("__exit__", "__aexit__"):
        return False
    values = (inner.value for inner in ast.walk(node) if isinstance(inner, ast.Return))
    return any(
        value is not None and not (isinstance(value, ast.Constant) and not value.value) for value in values
    )


def _is_broad(node: ast.expr) -> bool:
    if isinstance(node, ast.Tuple):
        return any(_is_broad(element) for element in node.elts)
    return _name(node) in ("Exception", "BaseException")


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


_NAMEDTUPLE = frozenset({"_replace", "_asdict", "_fields", "_make"})
# Attributes that are public but for their names: of the os module, and of the log records that asab makes.
_PUBLIC = frozenset({"os._exit", "record._struct_data"})


def private(modules: list[Module]) -> Iterator[str]:
    """No module reads or sets a private attribute of an object, unless it defines that name itself."""
    for module in modules:
        own = set(_defined(module.tree))
        for node in module.nodes:
            if isinstance(node, ast.ImportFrom):
                found = [alias.name for alias in node.names if _is_private(alias.name)]
            elif isinstance(node, ast.Attribute) and _is_private(node.attr):
                name = ast.unparse(node)
                allowed = _is_own(node.value) or node.attr in own or node.attr in _NAMEDTUPLE
                found = [] if allowed or name in _PUBLIC else [name]
            else:
                continue
            for name in found:
                yield f"{module.file}:{node.lineno}: {name} is private to another module (give it a method)"


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _defined(tree: ast.Module) -> Iterator[str]:
    """The names of all that the module defines, attributes of its classes included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_own(node.value):
            yield node.attr


def _is_own(owner: ast.expr) -> bool:
    return isinstance(owner, ast.Name) and owner.id in ("self", "cls")


# Records that everybody who handles them completes: a call, and an error on its way up.
_RECORDS = frozenset({"call", "_call", "error"})
# Attributes of other modules' objects that are set all the same: module, names, why.
FOREIGN: dict[str, tuple[frozenset[str], str]] = {
    "gateway.application": (frozenset({"UseColor", "stream"}), "ASAB's handlers of logs"),
    "gateway.cli.main": (frozenset({"config"}), "argparse's namespace"),
    "gateway.config.strict_yaml": (
        frozenset({"yaml_implicit_resolvers", "yaml_constructors"}),
        "its own kind of the library's loader",
    ),
    "gateway.core.fairness.queue": (frozenset({"at", "slot"}), "Usage.advance, inlined for each request"),
    "gateway.edge.backend.tls": (frozenset({"check_hostname", "verify_mode"}), "the library's options"),
    "gateway.edge.response.stream": (frozenset({"content_type"}), "aiohttp's response"),
    "gateway.store.filter.regex": (frozenset({"log_errors", "max_mem", "never_nl"}), "the library's options"),
    "gateway.telemetry.logs": (frozenset({"msg", "message", "_struct_data"}), "log records"),
    "gateway.telemetry.metrics": (frozenset({"sum"}), "Series.observe, inlined for each request"),
}


def foreign(modules: list[Module]) -> Iterator[str]:
    """No module sets or deletes an attribute of another module's object: one that no class of its own gives
    itself. The owner has a method that says what happens."""
    for module in modules:
        own = set(_attributes(module.tree))
        excepted, _ = FOREIGN.get(module.name, (frozenset[str](), ""))
        for node in module.nodes:
            if not isinstance(node, ast.Attribute) or isinstance(node.ctx, ast.Load) or _is_own(node.value):
                continue
            if node.attr in own or _name(node.value) in _RECORDS or node.attr in excepted:
                continue
            if node.attr.startswith("__"):  # of the language: an exception's traceback
                continue
            text = f"{ast.unparse(node)} is set from outside (give its owner a method)"
            yield f"{module.file}:{node.lineno}: {text}"


def _attributes(tree: ast.Module) -> Iterator[str]:
    """The names of the attributes that the module's classes give themselves."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_own(node.value):
            yield node.attr
        elif isinstance(node, ast.ClassDef):
            for part in node.body:
                targets = part.targets if isinstance(part, ast.Assign) else [getattr(part, "target", None)]
                yield from (target.id for target in targets if isinstance(target, ast.Name))


def sizes(modules: list[Module]) -> Iterator[str]:
    """A file up to 500 lines, a function up to 60, or a reason. Migrations are generated."""
    for module in modules:
        if ".migrations." in module.name:
            continue
        most, _ = LONG_FILES.get(module.file, (FILE_LINES, ""))
        if module.lines > most + 1:
            yield f"{module.file}:1: {module.lines - 1} lines (a file has at most {most})"
        for node in module.nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > FUNCTION_LINES:
                    where = f"{module.file}:{node.lineno}"
                    yield f"{where}: {node.name} has {length} lines (a function has at most {FUNCTION_LINES})"


def separate(modules: list[Module]) -> Iterator[str]:
    """gateway and backends know each other by HTTP alone; neither knows the tests."""
    strangers = {"gateway": {"backends", "tests"}, "backends": {"gateway", "tests"}}
    for item in _all_imports(modules):
        if item.target.split(".")[0] in strangers.get(item.module.name.split(".")[0], ()):
            yield item.breach("gateway and backends meet on the wire only")


NAMES = "names are made durable in gateway/runtime/durable.py"
_NAMING = frozenset({"link", "rename", "renames", "hardlink_to", "symlink_to"})


def naming(modules: list[Module]) -> Iterator[str]:
    """A file gets another name in one place only, which also fsyncs the folder. `x.replace(y)` with a single
    argument is a path's: a string's has two, a datetime's has names."""
    for module in modules:
        if module.name == "gateway.runtime.durable":
            continue
        for node in module.nodes:
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            name, owner = node.func.attr, node.func.value
            if isinstance(owner, ast.Name) and owner.id == "durable":
                continue
            single = name == "replace" and len(node.args) == 1 and not node.keywords
            of_os = isinstance(owner, ast.Name) and owner.id == "os" and name == "replace"
            if name in _NAMING or single or of_os:
                yield f"{module.file}:{node.lineno}: {name}() gives a file a name ({NAMES})"


def mocks(modules: list[Module]) -> Iterator[str]:
    """Tests use fakes and real servers."""
    for item in _all_imports(modules):
        if item.target == "mock" or item.target.startswith(("mock.", "unittest.mock", "pytest_mock")):
            yield item.breach("no mocks: fakes in tests/fakes.py, and real servers")
    for module in modules:
        for node in module.nodes:
            if isinstance(node, ast.ImportFrom) and any(
                alias.name in ("mock", "make_mocked_request", "make_mocked_coro") for alias in node.names
            ):
                yield f"{module.file}:{node.lineno}: a mock is imported (fakes and real servers instead)"


PATIENCE, AT_ONCE = 30.0, 4.0  # seconds: the least end of a wait, and the least bound of what comes at once
WAITS_HERE = "tests.eventually"
PACED = ("tests.bench", "tests.cluster", "tests.core", "tests.faults.attack", "tests.faults.isolation")
_CLOCKS = frozenset({"monotonic", "perf_counter", "time"})
_ENDED = frozenset({"timeout", "wait_for", "wait"})
_ENDED_BY_NAME = frozenset({"communicate", "urlopen", "run", "create_connection"})


def waits(modules: list[Module]) -> Iterator[str]:
    """A test waits for what must come true, and takes no speed of the machine for granted. The processor's
    own time (process_time) may be bounded, since it stands still while others work; the times of core are
    made up, and what drives a load keeps its pace."""
    for module in modules:
        if module.name == WAITS_HERE or module.name.startswith(PACED):
            continue
        for node in module.nodes:
            breach = _waits(node)
            if breach:
                yield f"{module.file}:{node.lineno}: {breach} ({WAITS_HERE} has the waits)"  # type: ignore[attr-defined]


def _waits(node: ast.AST) -> str:
    if isinstance(node, ast.Compare):
        bounds = [(node.left, *node.comparators)[at : at + 2] for at in range(len(node.ops))]
        for op, (left, right) in zip(node.ops, bounds, strict=True):
            least, most = (left, right) if isinstance(op, ast.Lt | ast.LtE) else (right, left)
            if not isinstance(op, ast.Eq | ast.NotEq) and _measures(least) and 0 < _number(most) < AT_ONCE:
                return f"less than {_number(most):g} s by the clock is no proof"
        return ""
    if not isinstance(node, ast.Call):
        return ""
    called, owner = _called(node)
    seconds = {keyword.arg: _number(keyword.value) for keyword in node.keywords}
    if (
        called == "sleep"
        and owner in ("asyncio", "time")
        and not (node.args and _number(node.args[0]) == 0.0)
    ):
        return f"a bare {owner}.sleep"
    if called in _ENDED and node.args:
        seconds["timeout"] = _number(node.args[-1])
    if called in _ENDED | _ENDED_BY_NAME and 0 < seconds.get("timeout", 0.0) < PATIENCE:
        return f"an end after {seconds['timeout']:g} s, not {PATIENCE:g}"
    if called in ("eventually", "eventually_await", "poll") and 0 < seconds.get("end", 0.0) < AT_ONCE:
        return f"an end after {seconds['end']:g} s"
    return ""


def _called(node: ast.Call) -> tuple[str, str]:
    """The last two names of what is called."""
    if isinstance(node.func, ast.Attribute):
        value = node.func.value
        return node.func.attr, value.id if isinstance(value, ast.Name) else ""
    return (node.func.id, "") if isinstance(node.func, ast.Name) else ("", "")


def _measures(node: ast.expr) -> bool:
    """Whether it is what a clock shows now less something: a time that has passed."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and isinstance(node.left, ast.Call)):
        return False
    return _called(node.left)[0] in _CLOCKS


def _number(node: ast.expr) -> float:
    """A number as it stands there; -1.0 for all else."""
    found = node.value if isinstance(node, ast.Constant) else None
    return float(found) if isinstance(found, int | float) else -1.0
