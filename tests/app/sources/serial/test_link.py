"""States of a line."""

from __future__ import annotations

from app.sources.serial.link import FRAME_LIMIT_US, Link, LinkMonitor


def test_a_line_is_off_then_bad_then_good_with_its_first_correct_frame():
    link = LinkMonitor()
    states = [link.state(0)]
    link.opened()
    states.append(link.state(0))
    link.frame(correct=True, now_us=5)
    states.append(link.state(5))

    assert states == [Link.OFF, Link.BAD, Link.GOOD]


def test_a_wrong_frame_makes_it_bad_and_a_correct_one_good_again():
    link = LinkMonitor()
    link.opened()
    link.frame(correct=True, now_us=0)
    link.frame(correct=False, now_us=1)
    bad = link.state(1)
    link.frame(correct=True, now_us=2)

    assert bad is Link.BAD
    assert link.state(2) is Link.GOOD


def test_ten_seconds_without_a_correct_frame_make_it_bad():
    link = LinkMonitor()
    link.opened()
    link.frame(correct=True, now_us=0)

    assert link.state(FRAME_LIMIT_US) is Link.GOOD
    assert link.state(FRAME_LIMIT_US + 1) is Link.BAD
    assert link.frame_age_us(FRAME_LIMIT_US + 1) == FRAME_LIMIT_US + 1


def test_a_closed_line_is_off_whatever_comes():
    link = LinkMonitor()
    link.opened()
    link.frame(correct=True, now_us=0)
    link.closed()
    link.frame(correct=True, now_us=1)

    assert link.state(1) is Link.OFF
    assert link.frame_age_us(1) == float("inf")
