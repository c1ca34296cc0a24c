"""What one match costs in the routing table, and whether that grows with the number of routes."""

from __future__ import annotations

import random
import statistics
import time
from typing import Any

from gateway.core.errors import NoRoute
from gateway.core.model import Route
from gateway.core.routing.table import RoutingTable, build

SIZES = (10, 1_000, 10_000)
KINDS = ("static", "param", "rest", "miss")
TRAFFIC = {"hot": 100, "all": 0}  # how many of the paths take all the requests; 0: each one alike
BAR = 1.5  # the most that a match may cost at 10,000 routes, against 10
_SHAPES = {
    "static": "/service-{n}/v1/items",
    "param": "/service-{n}/v1/items/{{id}}",
    "rest": "/service-{n}/files/{{path*}}",
}
_CALLS = {
    "static": "/service-{n}/v1/items",
    "param": "/service-{n}/v1/items/4711",
    "rest": "/service-{n}/files/a/b/c.txt",
    "miss": "/service-{n}/v2/items",
}
_PATHS = 1_000  # matched in one repetition
_Key = tuple[str, str, int]  # traffic, kind, size


def table_of(size: int) -> RoutingTable[None, None]:
    """A table of so many routes: of each service a static one, one with a parameter, one with a rest."""
    shapes = list(_SHAPES.items())
    routes = []
    for index in range(size):
        kind, shape = shapes[index % 3]
        routes.append(Route(f"{kind}-{index // 3}", shape.format(n=index // 3), "none", None))
    return build(routes)[0]


def paths_of(kind: str, size: int, hot: int, choose: random.Random) -> list[str]:
    """What is asked for: texts of their own, as a parser gives them."""
    services = range(size // 3)
    liked = choose.sample(services, hot) if 0 < hot < len(services) else services
    return [_CALLS[kind].format(n=choose.choice(liked)) for _ in range(_PATHS)]


def run(repeats: int) -> dict[str, Any]:
    """Time it, all by turns. Gives what goes into the JSON result; nanoseconds a match."""
    choose = random.Random(1)
    tables = {size: table_of(size) for size in SIZES}
    calls: dict[_Key, list[str]] = {
        (traffic, kind, size): paths_of(kind, size, hot, choose)
        for traffic, hot in TRAFFIC.items()
        for kind in KINDS
        for size in SIZES
    }
    spent: dict[_Key, list[float]] = {key: [] for key in calls}
    for _ in range(repeats):
        for key, paths in calls.items():
            spent[key].append(_time(tables[key[2]], paths))
    rows = [_row(traffic, kind, spent) for traffic in TRAFFIC for kind in KINDS]
    worst = {name: max(row["ratio"] for row in rows if row["traffic"] == name) for name in TRAFFIC}
    return {"repeats": repeats, "bar": BAR, "rows": rows, "worst_ratio": worst}


def _row(traffic: str, kind: str, spent: dict[_Key, list[float]]) -> dict[str, Any]:
    """One line of the table. The ratio is the median over the repetitions, the two sizes of each paired: a
    machine that is fast in one second and slow in the next would spoil a ratio of best times."""
    best = {str(size): min(spent[traffic, kind, size]) for size in SIZES}
    median = {str(size): statistics.median(spent[traffic, kind, size]) for size in SIZES}
    pairs = zip(spent[traffic, kind, SIZES[-1]], spent[traffic, kind, SIZES[0]], strict=True)
    ratio = statistics.median(large / small for large, small in pairs)
    return {"traffic": traffic, "kind": kind, "best_ns": best, "median_ns": median, "ratio": ratio}


def _time(table: RoutingTable[None, None], paths: list[str]) -> float:
    """Nanoseconds that one match takes, over all these paths."""
    match = table.match
    began = time.perf_counter_ns()
    for path in paths:
        try:
            match("GET", "", path)
        except NoRoute:
            pass
    return (time.perf_counter_ns() - began) / len(paths)
