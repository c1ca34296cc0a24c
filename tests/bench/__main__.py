"""python -m tests.bench: measure, print tables, write JSON. How to read it: tests/bench/__init__.py."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from tests import bench
from tests.bench import machine
from tests.bench.load.closed import LoadFailed
from tests.bench.parts import (
    admission,
    documents,
    download,
    idle,
    isolation,
    latency,
    proxy,
    reload,
    routing_table,
    shared,
    shields,
    tls,
    token_cost,
    workers,
)
from tests.bench.reports import (
    admission as report_admission,
)
from tests.bench.reports import (
    documents as report_documents,
)
from tests.bench.reports import (
    isolation as report_isolation,
)
from tests.bench.reports import (
    report,
)
from tests.bench.reports import (
    shields as report_shields,
)
from tests.bench.sites.contenders import ContenderWrong
from tests.bench.sites.servers import ServerFailed

RESULTS = Path("var/bench")  # below the current directory
_ROUNDS = 5
_NOISY = 15.0  # percent that a core may be busy before anything of ours runs


Say = Callable[[str], None]
Part = tuple[Callable[[Path, argparse.Namespace, Say], dict[str, Any]], Callable[[dict[str, Any]], Any]]


def _turns(arguments: argparse.Namespace, usual: int = _ROUNDS) -> tuple[int, int]:
    """Rounds, so many where none were asked for, and seconds of each turn."""
    return (2, 1) if arguments.quick else (arguments.rounds or usual, arguments.seconds)


# What each part measures, and how it is shown.
PARTS: dict[str, Part] = {
    "proxy": (lambda place, a, say: proxy.run(place, *_turns(a), say), report.proxy),
    "download": (lambda place, a, say: download.run(place, *_turns(a), say), report.download),
    "latency": (lambda place, a, say: latency.run(place, *_turns(a), say), report.latency),
    "idle": (lambda place, a, say: idle.run(place, 1_000 if a.quick else 5_000, say), report.idle),
    "tls": (
        lambda place, a, say: tls.run(place, *_turns(a), 1_000 if a.quick else 5_000, say),
        report.tls,
    ),
    "token": (lambda place, a, say: token_cost.run(place, 500 if a.quick else 5_000), report.token),
    "table": (lambda place, a, say: routing_table.run(5 if a.quick else 50), report.table),
    "reload": (lambda place, a, say: reload.run(place, *((1, 2) if a.quick else (3, 4)), say), report.reload),
    "workers": (
        lambda place, a, say: workers.run(place, *_turns(a, workers.ROUNDS), 2 if a.quick else 20, say),
        report.workers,
    ),
    "shields": (lambda place, a, say: shields.run(place, a.quick, say), report_shields.shields),
    "shared": (lambda place, a, say: shared.run(place, *_turns(a, shared.ROUNDS), say), report.shared),
    "admission": (
        lambda place, a, say: admission.run(place, a.quick, say, a.case or ()),
        report_admission.admission,
    ),
    "isolation": (
        lambda place, a, say: isolation.run(
            place,
            3.0 if a.quick else 10.0,
            say,
            lambda name: not a.attack or any(t in name for t in a.attack),
        ),
        report_isolation.isolation,
    ),
    "documents": (
        lambda place, a, say: documents.run(place, a.quick, a.kinto.absolute(), say),
        report_documents.documents,
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Run the bench. Gives the exit code: 0 measured (whether bars are met or not), 1 could not measure."""
    arguments = _parser().parse_args(argv)
    # A pipe has no width; a terminal says its own.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    try:
        if arguments.compare:
            first, second = (json.loads(Path(path).read_text()) for path in arguments.compare)
            console.print(report.compare(first, second))
        else:
            _measure(arguments, console)
    except (ServerFailed, ContenderWrong, LoadFailed, OSError, ValueError, RuntimeError) as error:
        console.print(Text("error: ", style="bold red").append(str(error), style="not bold default"))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=bench.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", choices=list(PARTS), action="append", help="this part alone (may be repeated)"
    )
    rounds = f"turns of each contender (default {_ROUNDS}; of the parts workers and shared {workers.ROUNDS})"
    parser.add_argument("--rounds", type=int, help=rounds)
    parser.add_argument("--seconds", type=int, default=3, help="of each turn (default 3)")
    parser.add_argument("--quick", action="store_true", help="short and rough")
    parser.add_argument(
        "--attack",
        metavar="TEXT",
        action="append",
        help="of the part isolation, those with this text in their names",
    )
    parser.add_argument(
        "--case",
        metavar="TEXT",
        action="append",
        help="of the part admission, a quiet tenant alone and the cases with this text in their names",
    )
    parser.add_argument(
        "--kinto",
        type=Path,
        metavar="FOLDER",
        default=RESULTS / "kinto",
        help=f"the virtual environment of Kinto; made when it is not there (default {RESULTS / 'kinto'})",
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the result there as well")
    parser.add_argument("--compare", nargs=2, metavar=("A.json", "B.json"), help="two results side by side")
    return parser


def _measure(arguments: argparse.Namespace, console: Console) -> None:
    parts = [part for part in PARTS if not arguments.only or part in arguments.only]
    result: dict[str, Any] = {
        "version": 1,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "quick": arguments.quick,
        "machine": machine.describe(),
    }
    console.print(report.machine(result["machine"]))
    result["other_load"] = machine.other_load()
    if result["other_load"] > _NOISY:
        note = f"a core is {result['other_load']:.0f} % busy with something else; the figures will be rough"
        console.print(Text(note, style="yellow"))

    def say(text: str) -> None:
        console.print(Text(text, style="dim"))

    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder:
        for part in parts:
            console.print()
            place = Path(folder) / part
            place.mkdir()
            measure, show = PARTS[part]
            result[part] = measure(place, arguments, say)
            console.print(show(result[part]))
    for path in _write(result, arguments.json):
        say(f"written: {path}")


def _write(result: dict[str, Any], extra: Path | None) -> list[Path]:
    RESULTS.mkdir(parents=True, exist_ok=True)
    paths = [RESULTS / f"{result['when'].replace(':', '')}.json", *([extra] if extra else [])]
    for path in paths:
        path.write_text(json.dumps(result, indent=1) + "\n")
    return paths


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # so that what was started is stopped
    sys.exit(main())
