"""The config that a running gateway serves, as its admin listener says, and how the file differs from it."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.cli import console
from gateway.config.live import read
from gateway.config.ports import ConfigRefused
from gateway.core.config.revision import digest_of
from gateway.core.process.settings import ProcessConfig
from gateway.core.routing.problems import Problem
from gateway.edge.client.listener import reachable

_TIMEOUT = 5.0  # seconds
_MAX_BODY = 64 * 1024 * 1024  # bytes
_TRIES = 3  # the config may change between the two requests


@dataclass(frozen=True, slots=True)
class RunningConfig:
    """What a running gateway serves. status: as GET /admin/config gives it. text: of the config, without what
    may be a secret."""

    status: dict[str, Any]
    text: str

    def title(self) -> str:
        """The revision, the path of its file, and since when it is live."""
        status = self.status
        return f"revision {status['revision']} of {status['path']}, live since {_moment(status['loaded_at'])}"

    def problems(self) -> list[Problem]:
        """The problems for which the gateway refused the file; none when it did not."""
        found = (self.status["refused"] or {}).get("problems", [])
        return [Problem((p["path"],), p["reason"], p["hint"], p["line"]) for p in found]

    def differences(self, path: Path) -> Iterator[str]:
        """Why the file at this path is not what is live, in sentences; nothing when it is."""
        status = self.status
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
    """Read it from the admin listener. token: where the listener requires one. Raises OSError, ValueError."""
    for _ in range(_TRIES):
        status = json.loads(_get(config, "/admin/config", token)[0])
        text, digest = _get(config, "/admin/config?text", token)
        if digest == status["digest"]:
            return RunningConfig(status, text)
    raise OSError("the live config changes all the time; try again")


def _get(config: ProcessConfig, path: str, token: str | None) -> tuple[str, str]:
    """The body and the ETag of a response."""
    authority = reachable(*config.admin[0])
    where = f"http://{authority}{path}"
    connection = http.client.HTTPConnection(authority, timeout=_TIMEOUT)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        response = connection.getresponse()
        body = response.read(_MAX_BODY).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or "no readable response"
        raise OSError(f"{where}: {why}; does the gateway run, with this process config?") from None
    finally:
        connection.close()
    if response.status in (401, 403):
        gateway = console.program()
        hint = f'{gateway} routes --live --token "$({gateway} token --tenant TENANT --scope gateway:admin)"'
        raise ValueError(f"{where} needs a token with the scope gateway:admin; run {hint}")
    if response.status != 200:
        raise ValueError(f"{where} answered {response.status}; is it the admin listener of this version?")
    return body, response.getheader("ETag", "").strip('"')


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except OSError:  # a loop of links
        return path
