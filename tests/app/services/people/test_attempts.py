"""Locks of names and the throttle of addresses, by a clock of the test."""

from __future__ import annotations

import pytest

from app.domain.errors import TooManyAttempts
from app.services.people import attempts
from app.services.people.attempts import FAILURES_OF_ADDRESS, AddressThrottle, LockOuts

MINUTE_US = 60_000_000


@pytest.fixture
def lock_outs(clock):
    return LockOuts(lambda: 5, lambda: 15 * MINUTE_US, clock)


@pytest.mark.parametrize("is_known", [True, False])
def test_a_name_is_locked_after_five_failures_for_a_quarter_of_an_hour(lock_outs, clock, is_known):
    for number in range(1, 5):
        assert lock_outs.failed("Claire", is_known=is_known) == (number, None)
        lock_outs.check("claire")

    failed, until_us = lock_outs.failed("claire", is_known=is_known)

    assert (failed, until_us) == (5, clock() + 15 * MINUTE_US)
    clock.now_us += 15 * MINUTE_US - 1
    with pytest.raises(TooManyAttempts) as locked:
        lock_outs.check("CLAIRE")
    assert locked.value.wait_s == 1
    clock.now_us += 1
    lock_outs.check("claire")


def test_the_next_lock_comes_after_as_many_failures_more(lock_outs, clock):
    for _ in range(5):
        lock_outs.failed("claire", is_known=True)
    clock.now_us += 15 * MINUTE_US

    assert [lock_outs.failed("claire", is_known=True)[1] for _ in range(4)] == [None] * 4
    assert lock_outs.failed("claire", is_known=True)[1] == clock() + 15 * MINUTE_US


def test_a_good_log_in_forgets_the_failures(lock_outs):
    for _ in range(4):
        lock_outs.failed("claire", is_known=True)
    lock_outs.forget("CLAIRE")

    assert lock_outs.failed("claire", is_known=True) == (1, None)


def test_unknown_names_do_not_crowd_out_known_ones_and_are_bounded(lock_outs, monkeypatch):
    monkeypatch.setattr(attempts, "MOST_UNKNOWN_NAMES", 100)
    for _ in range(4):
        lock_outs.failed("claire", is_known=True)
    for number in range(300):
        lock_outs.failed(f"nobody{number}", is_known=False)

    assert lock_outs.failed("claire", is_known=True)[0] == 5
    assert len(lock_outs._unknown) == 100
    assert lock_outs.failed("nobody299", is_known=False)[0] == 2
    assert lock_outs.failed("nobody0", is_known=False)[0] == 1


def test_what_the_registry_knows_locks_at_once(lock_outs, clock):
    lock_outs.load([("Claire", 5, clock() + MINUTE_US)])

    with pytest.raises(TooManyAttempts):
        lock_outs.check("claire")


def test_an_address_may_fail_so_often_and_then_once_each_half_minute(clock):
    throttle = AddressThrottle(clock)
    for _ in range(FAILURES_OF_ADDRESS):
        throttle.check("192.0.2.1")
        throttle.failed("192.0.2.1")

    with pytest.raises(TooManyAttempts) as refused:
        throttle.check("192.0.2.1")
    throttle.check("192.0.2.2")
    assert refused.value.wait_s == 30
    clock.now_us += 30_000_000
    throttle.check("192.0.2.1")
    throttle.failed("192.0.2.1")
    with pytest.raises(TooManyAttempts):
        throttle.check("192.0.2.1")


def test_a_network_of_ipv6_counts_as_one_address_and_names_are_bounded(clock, monkeypatch):
    throttle = AddressThrottle(clock)
    for number in range(FAILURES_OF_ADDRESS):
        throttle.failed(f"2001:db8::{number:x}")

    with pytest.raises(TooManyAttempts):
        throttle.check("2001:db8::ffff")
    throttle.check("2001:db8:0:1::1")

    monkeypatch.setattr(attempts, "MOST_ADDRESSES", 10)
    for number in range(50):
        throttle.failed(f"198.51.100.{number}")
    assert len(throttle._held) == 10
