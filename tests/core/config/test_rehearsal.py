"""What is told of requests by clients' certificates, of which the names are not kept."""

from __future__ import annotations

from typing import Any

from gateway.core.config.rehearsal import Recorded, rehearse
from gateway.core.http.head import Outline
from gateway.core.model import Caller
from gateway.core.routing.compile import compile_data
from gateway.core.routing.snapshot import Snapshot

SCOPES = {"read": ["read"], "write": ["write"], "manage": []}
ROUTES = [{"name": "a", "path": "/a/{rest*}", "target": "documents", "auth": ["mtls"], "scopes": SCOPES}]
TILLS = {"subjects": ["uri:till/*"], "tenant": "acme", "scopes": ["read"]}
OPS = {"subjects": ["cn:ops"], "tenant": "acme", "scopes": ["read"]}


def config(**certificates: dict[str, Any]) -> Snapshot[None, None]:
    data = {"version": 1, "tenants": {"acme": {}, "globex": {}}, "certificates": certificates}
    return compile_data({**data, "routes": ROUTES}, lambda of: None, "")


def found(new: Snapshot[None, None]) -> tuple[dict[str, int], int]:
    """How many of each kind, and how many cannot be judged."""
    caller = Caller("acme", frozenset({"read"}), "tills", "mtls")
    outline = Outline("shop.example", (), "", "", (), False, False, 0, "Host")
    kept = Recorded(1.0, "GET", "/a/1", outline, caller, "a", 200, "")
    outcome = rehearse(config(tills=TILLS, ops=OPS), new, [kept])
    counts = {kind: one["count"] for kind, one in outcome["kinds"].items() if one["count"]}
    return counts, sum(one["count"] for one in outcome["unknown"])


def test_a_caller_by_certificate_is_judged_by_the_entry_that_it_was_known_by() -> None:
    assert found(config(tills=TILLS, ops=OPS)) == found(config(tills=TILLS)) == ({}, 0)
    assert found(config(ops=OPS)) == ({"refused": 1}, 0)
    assert found(config(tills={**TILLS, "scopes": []}, ops=OPS)) == ({"refused": 1}, 0)
    assert found(config(tills={**TILLS, "scopes": ["read", "write"]}, ops=OPS)) == ({}, 0)


def test_what_other_names_mean_for_it_is_not_known() -> None:
    assert found(config(tills={**TILLS, "subjects": ["uri:x"]}, ops=OPS)) == ({}, 1)
    assert found(config(renamed=TILLS, ops=OPS)) == ({}, 1)
    assert found(config(tills={**TILLS, "tls": "partner"}, ops=OPS)) == ({}, 1)
    assert found(config(tills=TILLS, ops=OPS, more={**OPS, "subjects": ["uri:b"]})) == ({}, 1)
