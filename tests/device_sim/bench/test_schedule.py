"""Every reading once, in order, stamped near its time."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_sim.bench.schedule import Schedule


@st.composite
def schedules(draw):
    connections = draw(st.integers(1, 60))
    rate = draw(st.floats(0.5, 1000.0 * connections, allow_nan=False))
    return Schedule(connections, rate, draw(st.integers(0, 12)))


@st.composite
def cuts(draw, total):
    return [0, *sorted(draw(st.lists(st.integers(0, total), max_size=6))), total]


def messages(span):
    for connection in range(span.first_connection, span.last_connection):
        for index in range(span.first_round, span.last_round):
            yield connection, index


@given(schedules(), st.data())
def test_however_time_is_cut_each_connection_gets_every_round_once_and_in_order(schedule, data):
    seen: dict[int, list[int]] = {}
    points = data.draw(cuts(schedule.total))
    for done, due in itertools.pairwise(points):
        got = [message for span in schedule.spans(done, due) for message in messages(span)]
        assert len(got) == due - done
        assert {index * schedule.connections + connection for connection, index in got} == set(range(done, due))
        for connection, index in got:
            seen.setdefault(connection, []).append(index)

    assert all(rounds == list(range(schedule.rounds)) for rounds in seen.values())


@given(schedules(), st.data())
def test_a_connection_appears_in_one_span_only_so_that_its_readings_leave_in_one_send(schedule, data):
    done = data.draw(st.integers(0, schedule.total))
    due = data.draw(st.integers(done, schedule.total))
    connections = [
        connection
        for span in schedule.spans(done, due)
        for connection in range(span.first_connection, span.last_connection)
    ]

    assert len(connections) == len(set(connections))


@given(schedules())
def test_stamps_are_at_most_two_milliseconds_early_and_rise_with_each_round(schedule):
    stamps: dict[int, list[int]] = {}
    for span in schedule.spans(0, schedule.total):
        for connection, index in messages(span):
            stamp = schedule.round_ms(index) + span.offset_ms
            due_ms = (index * schedule.connections + connection) * 1000 / schedule.rate
            assert due_ms - 2.001 <= stamp <= due_ms + 0.001
            stamps.setdefault(connection, []).append(stamp)

    assert all(earlier < later for found in stamps.values() for earlier, later in itertools.pairwise(found))


@given(schedules(), st.floats(0, 1e4, allow_nan=False))
def test_what_is_due_follows_the_rate_and_never_exceeds_the_schedule(schedule, elapsed_s):
    due = schedule.due(elapsed_s)

    assert 0 <= due <= schedule.total
    assert due == schedule.total or abs(due - elapsed_s * schedule.rate) <= 1


@pytest.mark.parametrize(("connections", "rate"), [(0, 1.0), (1, 0.0), (2, 2001.0)])
def test_a_schedule_whose_stamps_would_repeat_is_refused(connections, rate):
    with pytest.raises(ValueError):
        Schedule(connections, rate, 1)


def test_seconds_become_whole_rounds():
    schedule = Schedule.of_seconds(16_000, 48_000, 8)

    assert (schedule.rounds, schedule.total, schedule.seconds) == (24, 384_000, 8.0)
