"""Whether an address is fit for requests: a circuit for each, driven by what is heard of it.

Closed: requests go there. Open: none do. Half-open: one trial is under way, and its end decides. Failures
in a row are added up by their weight, any success clears them, and the sum opens the circuit. Without probes
the trial is a request, when one comes after the pause; with them it is a probe, and only probes close it.
That everything is taken (seats, queues, limits) is no failure and never heard of here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half-open"]
Failure = Literal["connect", "reset", "malformed", "timeout", "status", "probe"]

# How much a failure counts towards 1. An address that refuses connections is away for sure; an exchange may
# break because of its request; a view that takes too long says little of the others. `probe` counts by the
# rule's fall.
_WEIGHTS: dict[Failure, float] = {
    "connect": 1 / 3,
    "reset": 1 / 5,
    "malformed": 1 / 5,
    "status": 1 / 5,
    "timeout": 1 / 10,
}
_ENOUGH = 1 - 1e-9
FIRST_PAUSE = 0.25  # seconds: a restarted backend is often back by the second or third trial
LONGEST_PAUSE = 5.0
_STEADY = 10.0  # seconds closed after which an opening counts as the first one again


@dataclass(frozen=True, slots=True)
class HealthRule:
    """How a backend's addresses are judged. path: what a probe asks for, "" for no probes; host: its Host.
    interval and timeout: seconds. rise and fall: probes in a row that close and open a circuit. expect: the
    statuses of a good one. server_errors: whether a response of 5xx to a request is a failure."""

    path: str = ""
    host: str = "localhost"
    interval: float = 5.0
    timeout: float = 2.0
    rise: int = 2
    fall: int = 3
    expect: tuple[tuple[int, int], ...] = ((200, 399),)
    server_errors: bool = False

    def expects(self, status: int) -> bool:
        """Whether a probe with this status succeeded."""
        return any(low <= status <= high for low, high in self.expect)


PASSIVE = HealthRule()


class Circuit:
    """One address's. Times: seconds on any monotonic clock; chance: random, 0 to 1.

    since: when it was closed, or ceased to be. failures: in a row. last_error: what the last one was.
    retry_at: when the next trial is due. heard: a request succeeded since the last probe was due. Methods
    that may change the state say whether they did.
    """

    __slots__ = (
        "_marks",
        "_openings",
        "_probe_at",
        "_rises",
        "_trial",
        "failures",
        "heard",
        "last_error",
        "retry_at",
        "rule",
        "since",
        "state",
    )

    def __init__(self, rule: HealthRule, now: float, chance: float) -> None:
        self.rule = rule
        self.state: State = "closed"
        self.since = now
        self.failures = 0
        self.last_error = ""
        self.retry_at = 0.0
        self.heard = False
        self._marks = 0.0
        self._openings = 0  # in a row: without a steady time between
        self._rises = 0
        self._trial: object = None
        self._probe_at = now + rule.interval * chance  # not all in step

    def follow(self, rule: HealthRule) -> None:
        """Judge by another rule from now on; what is known of the address stays."""
        self.rule = rule

    # --- known by another process ---

    def facts(self) -> tuple[State, float, int, str, float]:
        """What another process has to know of it, on the same clock; see `told`."""
        return self.state, self.since, self.failures, self.last_error, self.retry_at

    def told(self, state: State, since: float, failures: int, last_error: str, retry_at: float) -> None:
        """Be as another process says, that decides."""
        if state == "closed" != self.state:
            self.probed(since)
        self.state, self.since, self.failures = state, since, failures
        self.last_error, self.retry_at = last_error, retry_at

    def put_off(self, until: float) -> None:
        """The trial is another process's: do not ask for it before this time."""
        self.retry_at = max(self.retry_at, until)

    # --- requests ---

    def fit(self, now: float) -> bool:
        """Whether a request may go there."""
        if self.state == "closed":
            return True
        return self.state == "open" and not self.rule.path and now >= self.retry_at

    def begin_trial(self, holder: object, now: float) -> bool:
        """The trial is his now, if it is due and nobody has it."""
        if self.state != "open" or now < self.retry_at:
            return False
        self._trial = holder
        return self._become("half-open", now)

    def left(self, holder: object, now: float, chance: float) -> bool:
        """His trial, if it is his, ended without a verdict: the next one is due after the same pause."""
        if self.state != "half-open" or self._trial is not holder:
            return False
        self.retry_at = now + self._pause(chance)
        return self._become("open", now)

    def retry_now(self, now: float) -> None:
        """There is reason to believe that the address is back: the next trial is due."""
        self.retry_at = now

    def heard_from(self) -> None:
        """A request succeeded: no probe is needed for an interval."""
        self.heard = True

    def succeeded(self, now: float) -> bool:
        """A response to a request came."""
        self.heard = True
        if self.state == "closed":
            self._clear()
            return False
        if self.rule.path:
            return False
        return self._become("closed", now)

    def failed(self, kind: Failure, now: float, chance: float, detail: str = "") -> bool:
        """A request or a probe failed. One that began before the circuit opened changes nothing."""
        if self.state == "open":
            return False
        self.failures += 1
        self.last_error = detail or kind
        self._rises = 0
        if self.state == "closed":
            self._marks += 1 / self.rule.fall if kind == "probe" else _WEIGHTS[kind]
            if self._marks < _ENOUGH:
                return False
            if now - self.since >= _STEADY:
                self._openings = 0
        self._openings += 1
        self.retry_at = now + self._pause(chance)
        return self._become("open", now)

    # --- probes ---

    def probe_due(self, now: float) -> bool:
        """Whether a probe should go there: none while requests succeed, nor while a trial is under way."""
        if not self.rule.path or self.state == "half-open":
            return False
        if self.state == "open":
            return now >= self.retry_at
        if now < self._probe_at:
            return False
        if self.heard:
            self.probed(now)
            return False
        return True

    def probed(self, now: float) -> None:
        """A probe left, or was not needed: the next one is due in an interval."""
        self.heard = False
        self._probe_at = now + self.rule.interval

    def probe_succeeded(self, now: float, chance: float) -> bool:
        """Gives whether the circuit changed its state. chance: random, 0 to 1."""
        if self.state == "closed":
            self._clear()
            return False
        self._rises += 1
        if self._rises >= self.rule.rise:
            return self._become("closed", now)
        self.retry_at = now + min(FIRST_PAUSE, self._longest()) * (1 - chance / 4)
        return self._become("open", now)

    def _clear(self) -> None:
        self.failures = self._rises = 0
        self._marks = 0.0

    def _become(self, state: State, now: float) -> bool:
        before, self.state = self.state, state
        if "closed" in (before, state):
            self.since = now
        if state != "half-open":
            self._trial = None
        if state == "closed":
            self._clear()
            self.probed(now)
        return state != before

    def _pause(self, chance: float) -> float:
        """Twice as long each time, to a bound; up to a quarter shorter, so that gateways are not in step."""
        pause = FIRST_PAUSE * 2.0 ** min(self._openings - 1, 16)
        return min(pause, self._longest()) * (1 - chance / 4)

    def _longest(self) -> float:
        """With probes, `rise` of them fit into one interval: so soon is an address known to be back."""
        return self.rule.interval * 0.9 / self.rule.rise if self.rule.path else LONGEST_PAUSE
