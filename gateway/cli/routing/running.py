"""The config that a running gateway serves, as its admin listener says, and how the file differs from it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.cli import console
from gateway.cli.config.client import client_of
from gateway.config.ports import ConfigRefused
from gateway.config.sources.file import read
from gateway.core.config.revision import digest_of
from gateway.core.process.settings import ProcessConfig
from gateway.core.routing.problems import Problem

_TRIES = 3  # the config may change between the two requests


@dataclass(frozen=True, slots=True)
class RunningConfig:
    """What a running gateway serves. status: as GET /admin/config gives it. text: of the config, without what
    may be a secret."""

    status: dict[str, Any]
    text: str

    def title(self) -> str:
        """The revision, where it is, and since when it is live."""
        status = self.status
        return f"revision {status['revision']} of {status['path']}, live since {_moment(status['loaded_at'])}"

    def problems(self) -> list[Problem]:
        """The problems for which the gateway refused the file; none when it did not."""
        found = (self.status["refused"] or {}).get("problems", [])
        return [Problem((p["path"],), p["reason"], p["hint"], p["line"]) for p in found]

    def differences(self, path: Path) -> Iterator[str]:
        """Why the file at this path is not what is live, in sentences; nothing when it is, and where no file
        is the source."""
        status = self.status
        if status["source"] != "file":
            return
        theirs = Path(status["path"])
        if _real(theirs) != _real(path):
            yield f"the gateway that runs reads {theirs}, and not {console.short(path)}"
        if status.get("cut_off"):
            yield f"{theirs} was replaced outside of the gateway's container; mount its folder, not the file"
        try:
            if digest_of(read(path)) == status["digest"]:
                return
        except ConfigRefused as refused:
            yield f"{console.short(path)}: {refused.problems[0].reason}"
            return
        refusal, revision = status["refused"], status["revision"]
        if status["changing_for"] is not None:
            seconds = f"{status['changing_for']:.0f} s"
            yield f"it has been changing for {seconds}, and is read when it is left alone"
        elif refusal is not None:
            yield f"it was refused at {_moment(refusal['at'])}; revision {revision} stays live"
        else:
            yield f"it was not read since revision {revision}"


def fetch(config: ProcessConfig, token: str | None) -> RunningConfig:
    """Read it from the admin listener. token: None for the local one. Raises OSError, ValueError."""
    client = client_of(config, token)
    for _ in range(_TRIES):
        status = client.get("/admin/config").json()
        found = client.get("/admin/config", {"text": ""})
        if found.etag == status["digest"]:
            return RunningConfig(status, found.text)
    raise OSError("the live config changes all the time; try again")


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except OSError:  # a loop of links
        return path
