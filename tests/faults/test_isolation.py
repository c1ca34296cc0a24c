"""The attacks run as they say; what they do to a third tenant is measured by the bench."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from tests.bench.parts.isolation import run
from tests.bench.reports import isolation as report_isolation
from tests.faults import isolation


def test_each_attack_has_a_name_of_its_own_and_says_what_it_does() -> None:
    found = isolation.load()
    assert len(found) > 4 and all(name == one.name and len(name) > 10 for name, one in found.items())


def test_a_third_tenant_is_served_beside_an_attack_and_all_that_it_saw_is_in_one_table(
    tmp_path: Path,
) -> None:
    found = run(tmp_path, 1.0, lambda text: None, lambda name: "small GETs through the threaded" in name)
    (row,) = json.loads(json.dumps(found))["rows"]
    assert row["failed"] == 0 and not row["driver"] and not row["log"]
    assert set(row["by_kind_p99_ms"]) == {"reads", "pages", "threaded", "asynchronous"}
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(report_isolation.isolation(found))
    assert row["name"][:30] in console.export_text()
