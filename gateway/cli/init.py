"""gateway init: make a folder with a config, keys, a token and an example backend, ready to run."""

from __future__ import annotations

import argparse
import errno
import json
import os
import shlex
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from gateway.auth.keys import ensure_signing_key
from gateway.cli import console, demo, process_config
from gateway.config.compilation import compile_text
from gateway.core.process.settings import ProcessConfig
from gateway.core.routing.settings import json_schema
from gateway.process.folders import FolderUnusable, data_folder, socket_folder
from gateway.runtime import durable
from gateway.runtime.os_errors import explain

CONFIG, ROUTING, BACKEND = "gateway.conf", "routing.yaml", "hello.py"
_ABOUT = {
    CONFIG: "the process: listeners, data, keys, the backends that it runs",
    ROUTING: "live: what is served, and for whom",
    "routing.schema.json": "for editors that know YAML schemas",
    BACKEND: "an example backend, to be replaced by yours",
    ".gitignore": "var/ holds keys and data: never commit it",
}
# Parts of a gateway that was set up in another way: a new gateway.conf beside it would be found first.
_EXISTING = ("config/gateway.conf", "var")
_NO_PLACE = "nothing can be made there", "name another folder"


def run(arguments: argparse.Namespace) -> int:
    """gateway init: make the folder, its keys and a token, and say what to do next."""
    if not arguments.folder.strip():
        raise ValueError("the folder's name is empty; name one, or leave it out for the one that you are in")
    folder = Path(arguments.folder)
    written = make(folder)
    header = token(process_config.load(str(folder / CONFIG)))
    show(folder, written, header)
    return 0


def files() -> Iterator[tuple[str, str]]:
    """The name and the text of each file of a new folder."""
    template = resources.files("gateway.cli") / "template"
    for name in (CONFIG, ROUTING, BACKEND):
        yield name, (template / name).read_text("utf-8")
    yield "routing.schema.json", json.dumps(json_schema(), indent=2) + "\n"
    yield ".gitignore", "/var/\n"


def make(folder: Path) -> list[Path]:
    """Write the files of a new folder, and return their paths. Nothing that exists is touched, neither a file
    nor the keys (var) and the config of another gateway: then FileExistsError names it before anything is
    written. Raises FolderUnusable too."""
    made = list(files())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (*(name for name, _ in made if name != ".gitignore"), *_EXISTING):
            if os.path.lexists(folder / name):
                raise FileExistsError(
                    f"{folder / name} is there already, and stays as it is; choose another folder, as in"
                    " gateway init shop"
                )
        written = []
        for name, text in made:
            if durable.create(folder / name, text.encode()):
                (folder / name).chmod(0o644 & ~_umask())
                written.append(folder / name)
    except OSError as error:
        nowhere = error.errno == errno.ENOENT
        if error.errno is None or (nowhere and not folder.is_absolute()):  # the current folder is gone
            raise
        reasons = _NO_PLACE if nowhere else explain(error)
        raise FolderUnusable(f"cannot make a gateway in {folder}: {'; '.join(reasons)}") from None
    return written


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def token(config: ProcessConfig) -> Path:
    """Make the keys, and a token (12 h) for the first tenant in a file; returns its path. Raises Problems,
    KeysUnusable, OSError."""
    text = Path(config.routing).read_text("utf-8")
    compiled = compile_text(text, lambda backend: None, socket_folder("."))  # type: ignore[arg-type,return-value]
    data_folder(Path(config.data))
    ensure_signing_key(Path(config.keys))
    return demo.header_file(config, next(iter(compiled.tenants)), compiled.table.routes)


def show(folder: Path, written: list[Path], header: Path) -> None:
    """Print what was made, and what to do next."""
    rows = [(console.short(path), _ABOUT[path.name]) for path in written]
    rows.append((console.short(header), "a token for the tenant acme (12 h), beside the keys that signed it"))
    console.out.print(console.pairs(rows))
    change = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))}\n"
    console.out.print(
        f"\nNext:\n{change}{console.program(absolute=bool(change))} up\n"
        "and in a second terminal, in that folder:\n"
        "curl -H @var/demo-token.header http://127.0.0.1:8080/hello/world",
        highlight=False,
        markup=False,
    )
