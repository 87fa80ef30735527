"""When a lease is renewed and when its program ends, as functions of two clocks."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from coordledger.integrations import lease as leases
from coordledger.integrations.lease import (
    ENDLESS,
    KILL,
    RENEW,
    RUN,
    TERMINATE,
    Lease,
    Reading,
    attempt_timeout,
    grace,
    granted,
    margin,
    phase,
    until_look,
    until_next,
    until_retry,
)

ORDER = (RUN, RENEW, TERMINATE, KILL)
AT = 1_800_000_000.0

seconds = st.floats(0, 100_000)
calm = settings(deadline=None)  # no machine is quiet
lengths = st.floats(leases.LEAST, 86_400)
fractions = st.floats(0, 1)


def lease_of(length: float, skew: float = 30.0) -> Lease:
    return granted(Reading(500.0, AT), AT + length + skew, skew)


def after(elapsed: float, *, jump: float = 0.0) -> Reading:
    return Reading(500.0 + elapsed, AT + elapsed + jump)


@calm
@given(lengths, st.floats(1, 3600))
def test_a_lease_is_usable_until_the_skew_before_its_end(length, skew):
    lease = lease_of(length, skew)
    assert abs(lease.length - length) < 0.001
    assert abs(lease.left(after(0)) - length) < 0.001
    assert lease.left(after(length + 0.001)) < 0.001


@calm
@given(lengths, seconds, st.floats(-100_000, 100_000))
def test_whichever_clock_says_that_less_is_left_counts(length, elapsed, jump):
    lease = lease_of(length)
    left = lease.left(after(elapsed, jump=jump))
    assert left <= length - elapsed + 0.001
    assert left <= length - elapsed - jump + 0.001


@calm
@given(lengths, seconds, seconds, st.floats(0, 100_000))
def test_phases_follow_each_other_and_none_comes_back(length, first, more, jump):
    lease = lease_of(length)
    before = ORDER.index(phase(lease, after(first)))
    assert ORDER.index(phase(lease, after(first + more))) >= before
    assert ORDER.index(phase(lease, after(first, jump=jump))) >= before


@calm
@given(lengths, seconds, st.floats(0, 100_000))
def test_a_clock_that_is_set_back_gives_no_time(length, elapsed, back):
    lease = lease_of(length)
    assert phase(lease, after(elapsed, jump=-back)) == phase(lease, after(elapsed))


@calm
@given(lengths)
def test_at_first_it_runs_at_half_it_is_renewed_and_all_is_dead_before_the_usable_end(length):
    lease = lease_of(length)
    assert phase(lease, after(0)) == RUN
    assert phase(lease, after(length * 0.49)) == RUN
    assert phase(lease, after(length * 0.51)) == RENEW
    assert 0 < margin(lease) <= 2
    assert 0 < grace(lease) <= 10
    assert margin(lease) + grace(lease) < length / 2
    assert phase(lease, after(length - margin(lease) - grace(lease) + 0.001)) == TERMINATE
    assert phase(lease, after(length - margin(lease) + 0.001)) == KILL


@calm
@given(lengths, seconds)
def test_the_next_phase_begins_when_it_was_said_to(length, elapsed):
    lease = lease_of(length)
    now = after(elapsed)
    span = until_next(lease, now)
    if span == 0:
        assert phase(lease, now) == KILL
    else:
        assert phase(lease, after(elapsed + span * 0.999)) == phase(lease, now)
        assert phase(lease, after(elapsed + span + 0.001)) != phase(lease, now)


@calm
@given(st.floats(10, 86_400), fractions)
def test_a_renewal_that_always_fails_at_once_is_tried_often_and_ever_more(length, jitter):
    lease = lease_of(length)
    elapsed, pauses = length / 2 + 0.001, []
    while phase(lease, after(elapsed)) == RENEW:
        pauses.append(until_retry(lease, after(elapsed), jitter))
        elapsed += pauses[-1]
    assert len(pauses) >= 6
    assert max(pauses) <= 30
    assert min(pauses) >= 0.1
    assert pauses[-1] <= max(pauses[0] * 2, 0.2)


@calm
@given(st.floats(30, 86_400), fractions, st.floats(1, 600))
def test_a_renewal_that_always_hangs_is_tried_again_in_time(length, jitter, most):
    lease = lease_of(length)
    elapsed, tries = length / 2 + 0.001, 0
    while phase(lease, after(elapsed)) == RENEW and tries < 5:
        allowed = attempt_timeout(lease, after(elapsed), most)
        assert 1 <= allowed <= most
        elapsed += allowed
        elapsed += until_retry(lease, after(elapsed), jitter)
        tries += 1
    assert tries >= 2


@calm
@given(lengths, seconds)
def test_looks_come_at_most_each_second_and_at_least_each_minute(length, elapsed):
    assert 1 <= until_look(lease_of(length)) <= 60


def test_a_lease_that_was_over_when_it_was_asked_for_kills_at_once():
    lease = granted(Reading(500.0, AT), AT + 20, 30)
    assert lease.length == 0
    assert phase(lease, after(0)) == KILL


@calm
@given(seconds, st.floats(-100_000, 100_000))
def test_what_needs_no_lease_any_more_is_never_ended(elapsed, jump):
    assert phase(ENDLESS, after(elapsed, jump=jump)) not in (TERMINATE, KILL)


def test_the_clocks_of_this_machine_go_forward():
    first, second = leases.read_clocks(), leases.read_clocks()
    assert second.steady >= first.steady > 0
    assert second.wall > 1_600_000_000
