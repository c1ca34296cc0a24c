"""The circuit of an address, with a simulated clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.core.policy.circuit import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    PASSIVE,
    Circuit,
    Failure,
    HealthRule,
)

PROBED = HealthRule(path="/healthz", interval=5.0, rise=2, fall=3)
KINDS: list[Failure] = ["connect", "reset", "malformed", "timeout", "status"]


def circuit(rule: HealthRule = PASSIVE) -> Circuit:
    return Circuit(rule, 0.0, 0.0)


def opened(rule: HealthRule = PASSIVE, now: float = 0.0) -> Circuit:
    made = circuit(rule)
    while not made.failed("connect", now, 0.0):
        pass
    return made


def failures_until_open(kind: Failure, rule: HealthRule = PASSIVE) -> int:
    made = circuit(rule)
    for number in range(1, 1000):
        if made.failed(kind, 0.0, 0.0):
            return number
    raise AssertionError("it never opened")


def test_a_failure_counts_by_how_much_it_says_of_the_address() -> None:
    counts = {kind: failures_until_open(kind) for kind in KINDS}
    assert counts == {"connect": 3, "reset": 5, "malformed": 5, "status": 5, "timeout": 10}


@pytest.mark.parametrize("fall", [1, 2, 3, 7, 100])
def test_as_many_bad_probes_as_the_rule_says(fall: int) -> None:
    assert failures_until_open("probe", HealthRule(path="/", fall=fall)) == fall


@given(st.lists(st.sampled_from(KINDS), max_size=2), st.integers(1, 50))
def test_failures_that_are_not_in_a_row_never_open_it(kinds: list[Failure], times: int) -> None:
    made = circuit()
    for _ in range(times):
        for kind in kinds:
            assert not made.failed(kind, 0.0, 0.0)
        made.succeeded(0.0)
    assert made.state == "closed"
    assert made.failures == 0


def test_open_it_takes_no_request_until_the_pause_is_over_and_then_one() -> None:
    made = opened(now=10.0)
    assert not made.fit(10.0)
    assert not made.begin_trial("one", 10.0 + FIRST_PAUSE - 0.01)
    assert made.fit(10.0 + FIRST_PAUSE)
    assert made.begin_trial("one", 10.0 + FIRST_PAUSE)
    assert not made.fit(1000.0)
    assert not made.begin_trial("two", 1000.0)


def test_a_good_trial_closes_it_and_a_bad_one_doubles_the_pause_up_to_a_bound() -> None:
    made, now, pauses = opened(), 0.0, []
    for _ in range(8):
        pauses.append(made.retry_at - now)
        now = made.retry_at
        assert made.begin_trial("x", now)
        assert made.failed("connect", now, 0.0)
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
    now = made.retry_at
    assert made.begin_trial("x", now)
    assert made.succeeded(now)
    assert (made.state, made.failures, made.fit(now)) == ("closed", 0, True)


def test_an_address_that_falls_again_at_once_goes_on_where_it_was_and_one_that_was_steady_does_not() -> None:
    for steady, pause in ((1.0, 0.5), (60.0, FIRST_PAUSE)):
        made = opened()
        made.begin_trial("x", 1.0)
        made.succeeded(1.0)
        now = 1.0 + steady
        while not made.failed("connect", now, 0.0):
            pass
        assert made.retry_at - now == pause


def test_a_trial_without_a_verdict_is_free_again_after_the_same_pause() -> None:
    made = opened()
    made.begin_trial("one", 1.0)
    assert not made.left("another", 2.0, 0.0)
    assert made.left("one", 2.0, 0.0)
    assert made.state == "open"
    assert made.retry_at == 2.0 + FIRST_PAUSE
    assert made.begin_trial("two", 3.0)


def test_failures_of_requests_that_began_before_do_not_push_the_trial_away() -> None:
    made = opened()
    for _ in range(100):
        assert not made.failed("reset", 0.1, 0.0)
    assert made.fit(FIRST_PAUSE)


def test_with_probes_no_request_is_the_trial_and_none_closes_it() -> None:
    made = opened(PROBED)
    assert not made.fit(1e6)
    assert not made.succeeded(1e6)
    assert made.state == "open"
    assert made.probe_due(FIRST_PAUSE)


def test_with_probes_an_address_is_back_within_one_interval() -> None:
    for rise in (1, 2, 3, 10):
        rule = HealthRule(path="/", interval=5.0, rise=rise)
        made, now = opened(rule), 0.0
        for _ in range(20):  # a long outage
            now = made.retry_at
            assert made.probe_due(now)
            made.begin_trial("p", now)
            made.failed("probe", now, 0.0)
        back = now  # in the moment after a probe failed
        while made.state != "closed":
            now = made.retry_at
            assert made.probe_due(now)
            made.begin_trial("p", now)
            made.probe_succeeded(now, 0.0)
        assert now - back <= 5.0, rise


def test_as_many_good_probes_in_a_row_as_the_rule_says_close_it() -> None:
    made, now = opened(PROBED), 0.0
    for verdict in (True, False, True, True):
        now = made.retry_at
        made.begin_trial("p", now)
        if verdict:
            made.probe_succeeded(now, 0.0)
        else:
            made.failed("probe", now, 0.0)
        assert made.state == "open" or verdict
    assert made.state == "closed"


def test_no_probe_within_an_interval_of_a_good_request() -> None:
    made = circuit(PROBED)
    now, last_success, probes = 0.0, -100.0, []
    for step in range(2000):
        now = step * 0.05
        if 20 < now < 60 and step % 37 == 0:
            made.succeeded(now)
            last_success = now
        if made.probe_due(now):
            assert now - last_success >= PROBED.interval - 0.05
            probes.append(now)
            made.probed(now)
            made.probe_succeeded(now, 0.0)
    assert not [moment for moment in probes if 25 < moment < 64]
    assert [moment for moment in probes if moment < 20]
    assert [moment for moment in probes if moment > 65]


def test_pauses_differ_so_that_gateways_are_not_in_step() -> None:
    made = circuit()
    made.failed("connect", 0.0, 0.0)
    made.failed("connect", 0.0, 0.0)
    made.failed("connect", 0.0, 1.0)
    assert made.retry_at == FIRST_PAUSE * 0.75


class Machine(RuleBasedStateMachine):
    """Requests that come, are answered, fail or leave, in any order and at any time."""

    probes = False

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.circuit = Circuit(PROBED if self.probes else PASSIVE, 0.0, 0.5)
        self.inside: list[object] = []
        self.trials: list[object] = []
        self.failed_at = 0.0

    @rule(seconds=st.floats(0.0, 20.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def come(self) -> None:
        if self.circuit.fit(self.now):
            who = object()
            if self.circuit.state != "closed":
                assert self.circuit.begin_trial(who, self.now)
                self.trials.append(who)
            self.inside.append(who)

    @precondition(lambda self: self.inside)
    @rule(data=st.data(), what=st.sampled_from(["ok", "left", *KINDS]), chance=st.floats(0, 1))
    def go(self, data: st.DataObject, what: str, chance: float) -> None:
        who = data.draw(st.sampled_from(self.inside))
        self.inside.remove(who)
        if what == "ok":
            self.circuit.succeeded(self.now)
            if not self.probes:
                assert self.circuit.state == "closed"
        elif what != "left":
            self.circuit.failed(what, self.now, chance)  # type: ignore[arg-type]
        self.circuit.left(who, self.now, chance)

    @rule(good=st.booleans(), chance=st.floats(0, 1))
    def probe(self, good: bool, chance: float) -> None:
        if not self.circuit.probe_due(self.now):
            return
        assert self.probes
        self.circuit.probed(self.now)
        self.circuit.begin_trial(self, self.now)
        if good:
            self.circuit.probe_succeeded(self.now, chance)
        else:
            self.circuit.failed("probe", self.now, chance)

    @invariant()
    def one_trial_at_most(self) -> None:
        state = self.circuit.state
        if state == "half-open":
            assert not self.circuit.fit(self.now)
            assert self.circuit._trial in self.inside
        else:
            assert self.circuit._trial is None

    @invariant()
    def it_recovers_by_itself(self) -> None:
        """Whatever happened, open means that a trial comes, and soon."""
        if self.circuit.state == "open":
            assert self.circuit.retry_at <= self.now + LONGEST_PAUSE
            later = self.circuit.retry_at + 0.01
            assert self.circuit.probe_due(later) if self.probes else self.circuit.fit(later)

    @invariant()
    def healthy_means_no_marks_left_over(self) -> None:
        if self.circuit.state == "closed":
            assert self.circuit._marks < 1


class ProbedMachine(Machine):
    probes = True


TestPassive = Machine.TestCase
TestProbed = ProbedMachine.TestCase
