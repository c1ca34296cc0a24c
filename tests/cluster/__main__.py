"""Kills, pauses and partitions what three nodes run on, under load, and prints what became of it. Exit code 1
where an acknowledged write is lost, where the nodes do not become one again, or a limit does not hold."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Never

from tests.cluster import nets, nodes
from tests.cluster.nets import Namespace, Switch
from tests.cluster.nodes import ADMIN, GATEWAYS, PORT, Program

LIMIT = 175  # seconds for all of it
HEALED = 60.0  # seconds in which all is one again
CLIENTS, STORES = "clients", "stores"
SCOPES = "documents:read documents:write documents:manage"


@dataclass
class Row:
    """One event. began, ended: of what was done; again: when all was one again (epoch)."""

    name: str
    began: float
    ended: float = 0.0
    again: float = 0.0


@dataclass
class Cluster:
    """The nodes and what runs on them."""

    folder: Path
    switch: Switch
    programs: dict[str, Program]
    tokens: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    probes: int = 0

    def conf(self, node: str) -> Path:
        """The config of a gateway."""
        return self.folder / node / "gateway.conf"

    def token(self, tenant: str) -> str:
        """Of a tenant, made once."""
        if tenant not in self.tokens:
            arguments = ["token", "--tenant", tenant, "--scope", SCOPES]
            self.tokens[tenant] = nodes.command(self.conf("a"), *arguments).strip()
        return self.tokens[tenant]

    def ask(
        self, node: str, method: str, path: str, tenant: str = "acme", data: Any = None
    ) -> tuple[int, str]:
        """What a gateway answers; 0 where it does not. path: from the port on."""
        url = f"http://{GATEWAYS[node]}:{path}"
        headers = {"Authorization": f"Bearer {self.token(tenant)}", "Content-Type": "application/json"}
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(url, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=3) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def answers(self, node: str) -> bool:
        """Whether a gateway does."""
        return self.ask(node, "GET", f"{ADMIN}/readyz")[0] != 0

    def is_one(self) -> bool:
        """Whether both gateways serve, agree on the config, and read what the other has written."""
        revisions = set()
        for node in GATEWAYS:
            status, text = self.ask(node, "GET", f"{ADMIN}/readyz?verbose")
            wanted = "store: available", "shared state: redis, ok", "(zookeeper) is available"
            if status != 200 or not all(one in text for one in wanted):
                return False
            revisions.add(text.partition("config: revision ")[2].partition(";")[0])
        self.probes += 1
        for node, other in zip(GATEWAYS, reversed(GATEWAYS), strict=True):
            path = f"{PORT}/documents/probe/{node}-{self.probes}"
            if self.ask(node, "PUT", path, data={})[0] != 201 or self.ask(other, "GET", path)[0] != 200:
                return False
        return len(revisions) == 1

    def event(self, name: str, do: Callable[[], None], undo: Callable[[], None], seconds: float) -> None:
        """Do something for so long, then wait until all is one again."""
        row = Row(name, time.time())
        self.rows.append(row)
        print(f"  {name}", file=sys.stderr, flush=True)
        do()
        time.sleep(seconds)
        undo()
        row.ended = time.time()
        self.wait(self.is_one, name)
        row.again = time.time()

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = HEALED) -> None:
        """Until it is true. Ends the test where it never is."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                asked = (self.folder / "keys.jwks").exists()
                state = [self.ask(node, "GET", f"{ADMIN}/readyz?verbose")[1] for node in GATEWAYS if asked]
                logs = "\n".join(f"--- {name}\n{program.told}" for name, program in self.programs.items())
                fail(f"{what}: not one again within {seconds:g} s\n{'---'.join(state)}\n{logs}")
            time.sleep(0.1)


def fail(why: str) -> Never:
    """End with a reason."""
    print(why, file=sys.stderr)
    raise SystemExit(1)


def build(folder: Path) -> Cluster:
    """The cables and what runs at their ends; this process becomes a client."""
    switch, client = Switch(CLIENTS, STORES), Namespace()
    store, gateways = Namespace(), {name: Namespace() for name in GATEWAYS}
    switch.plug(client, CLIENTS, "c-c", "10.98.0.9/24")
    switch.plug(store, STORES, "s-s", f"{nodes.STORE}/24")
    for number, (name, node) in enumerate(gateways.items(), 1):
        switch.plug(node, CLIENTS, f"{name}-c", f"{GATEWAYS[name]}/24")
        switch.plug(node, STORES, f"{name}-s", f"10.99.0.{number}/24")
    programs = nodes.store_programs(store, folder)
    programs |= {name: nodes.gateway(name, node, folder) for name, node in gateways.items()}
    client.enter()
    return Cluster(folder, switch, programs)


def begin(cluster: Cluster) -> None:
    """Start everything, and give it its config."""
    for name in ("redis", "zookeeper", "mongodb"):
        cluster.programs[name].start()
    time.sleep(2.0)
    cluster.programs["a"].start()
    cluster.wait(lambda: (cluster.folder / "keys.jwks").exists(), "the first gateway", 40)
    cluster.programs["b"].start()
    for node in GATEWAYS:
        cluster.wait(partial(cluster.answers, node), "the start", 60)
    cluster.wait(cluster.is_one, "the start", 60)


def apply(cluster: Cluster, *more: str) -> None:
    """Make a config live at gateway a. more: tenants."""
    token = (cluster.folder / "a" / "var" / "operator.token").read_text().strip()
    url = f"http://{GATEWAYS['a']}:{ADMIN}/admin/v1/config"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/yaml"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=HEALED) as live:
        headers["If-Match"] = live.headers["ETag"]
    request = urllib.request.Request(url, nodes.routing(*more).encode(), headers, method="PUT")
    try:
        urllib.request.urlopen(request, timeout=HEALED).close()
    except urllib.error.HTTPError as error:
        fail(f"the config was not taken: {error.code} {error.read().decode()}")


def events(cluster: Cluster) -> None:
    """What befalls them."""
    programs, switch = cluster.programs, cluster.switch

    def sign(name: str, number: signal.Signals) -> Callable[[], None]:
        return lambda: programs[name].signal(number)

    def cut_and_change() -> None:
        switch.cut("b-s")
        apply(cluster, "late")

    cluster.event("nothing", lambda: None, lambda: None, 4)
    heal = lambda: switch.mend("b-s", STORES)  # noqa: E731
    cluster.event("b without the store node; config changed at a", cut_and_change, heal, 10)
    if cluster.ask("b", "GET", f"{PORT}/documents/load/a-0", tenant="late")[0] != 404:
        fail("b does not know the tenant that a's config has")
    cluster.event("redis stands still", sign("redis", signal.SIGSTOP), sign("redis", signal.SIGCONT), 5)
    cluster.event("redis killed", sign("redis", signal.SIGKILL), programs["redis"].start, 3)
    cluster.event("mongodb stands still", sign("mongodb", signal.SIGSTOP), sign("mongodb", signal.SIGCONT), 5)
    cluster.event("zookeeper killed", sign("zookeeper", signal.SIGKILL), programs["zookeeper"].start, 3)
    cluster.event("gateway a killed", sign("a", signal.SIGKILL), programs["a"].start, 0.5)
    cluster.event("gateway b stands still", sign("b", signal.SIGSTOP), sign("b", signal.SIGCONT), 4)
    cluster.event("nothing", lambda: None, lambda: None, 3)


def report(cluster: Cluster, lines: list[dict[str, Any]]) -> int:
    """Print the table. Returns 1 where something must not be so."""
    writes = [line for line in lines if line["kind"] == "write"]
    acknowledged = [line for line in writes if line["status"] in (200, 201)]
    lost = [
        line
        for line in acknowledged
        if cluster.ask("b", "GET", f"{PORT}/documents/load/{line['id']}")[0] != 200
    ]
    title = f"{'event':<48}{'stored':>8}{'refused':>9}{'unknown':>9}{'lost':>6}"
    print(f"{title}{'limited/s':>11}{'one again':>11}")
    wrong = len(lost)
    for row in cluster.rows:
        here = [line for line in writes if row.began <= line["at"] < row.again]
        stored = sum(line["status"] in (200, 201) for line in here)
        unknown = sum(line["status"] == 0 for line in here)
        gone = sum(line in lost for line in here)
        taken = [line for line in lines if line["kind"] == "limited" and row.began <= line["at"] < row.again]
        passed = sum(line["status"] not in (0, 429) for line in taken)
        seconds = row.again - row.began
        # Beside the burst: a slice for each gateway, and what comes back of the second before.
        over = passed > nodes.RATE * (seconds + 1 + len(GATEWAYS) * 0.1) + nodes.RATE
        wrong += over
        counts = f"{stored:>8}{len(here) - stored - unknown:>9}{unknown:>9}{gone:>6}"
        mark = " !" if over else ""
        print(f"{row.name:<48}{counts}{passed / seconds:>11.1f}{row.again - row.ended:>10.1f}s{mark}")
    print(f"{len(acknowledged)} writes were acknowledged, {len(lost)} of them are lost; limit {nodes.RATE}/s")
    return 1 if wrong or not acknowledged else 0


def main() -> int:
    """See above."""
    why = nets.missing() or nodes.missing()
    if why:
        print(f"cluster-test is skipped: {why}", file=sys.stderr)
        return 1 if os.environ.get("CLUSTER") == "required" else 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: fail(f"ended by {signal.Signals(number).name}"))
    signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(LIMIT)
    with tempfile.TemporaryDirectory(prefix="gateway-cluster-") as made:
        folder = Path(made)
        cluster = build(folder)
        begin(cluster)
        with (folder / "load.ndjson").open("wb") as output:
            arguments = [cluster.token("acme"), cluster.token("limited")]
            command = [sys.executable, "-m", "tests.cluster.load", *arguments]
            load = nets.start(command, stdout=output, cwd=nodes.ROOT)
        cluster.token("late")
        events(cluster)
        load.terminate()
        load.wait()
        lines = (folder / "load.ndjson").read_text().splitlines()
        code = report(cluster, [json.loads(line) for line in lines if line.endswith("}")])
        for program in cluster.programs.values():
            program.signal(signal.SIGKILL)
    return code


def _too_late(number: int, frame: object) -> Never:
    """A machine that is too busy proves nothing, for or against."""
    print(f"cluster-test: not at its end within {LIMIT} s; run it where less else runs", file=sys.stderr)
    raise SystemExit(1 if os.environ.get("CLUSTER") == "required" else 0)


if __name__ == "__main__":
    sys.exit(main())
