"""What this machine lacks of what the process config names."""

from __future__ import annotations

from gateway.core.process.settings import ProcessConfig
from gateway.core.routing.problems import Problem
from gateway.edge.tls.sites import SiteUnusable, TlsSites
from gateway.planes import conf
from gateway.planes.shared import sharing


def lacks(config: ProcessConfig) -> tuple[list[Problem], list[str]]:
    """What keeps the gateway from starting, and what should be known all the same."""
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
