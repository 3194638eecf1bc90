"""Small parts: the timing wheel, the frames of TLS workers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.native import mux_frames as frames
from broker.native.keepalive import Wheel, ticks
from broker.native.session import Session


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 40)), max_size=60))
def test_the_wheel_gives_everything_back_when_it_is_due(steps):
    """A negative tick takes it out; the latest tick counts."""
    wheel = Wheel()
    things = [Session(str(number), "") for number in range(10)]
    expected: dict[Session, int] = {}
    for number, tick in steps:
        if tick < 0:
            wheel.remove(things[number])
            expected.pop(things[number], None)
        else:
            wheel.put(things[number], tick)
            expected[things[number]] = max(tick, 1)
    assert len(wheel) == len(expected)
    for tick in range(1, 45):
        due = wheel.due(tick)
        assert {item for item, at in expected.items() if at == tick} == set(due)
        assert all(item.wheel_tick == 0 for item in due)

    assert len(wheel) == 0


@pytest.mark.parametrize(("seconds", "expected"), [(0, 1), (0.5, 1), (0.6, 2), (10, 20)])
def test_ticks_cover_the_time(seconds, expected):
    assert ticks(seconds) == expected


@given(
    st.lists(st.tuples(st.integers(1, 7), st.integers(0, 2**32 - 1), st.binary(max_size=100)), max_size=10),
    st.data(),
)
def test_frames_survive_any_chunking(sent, data):
    stream = b"".join(frames.head(kind, number, len(chunk)) + chunk for kind, number, chunk in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    reader = frames.FrameReader()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += list(reader.feed(stream[start:end]))

    assert found == sent


def test_a_frame_that_is_too_long_is_refused():
    with pytest.raises(frames.MuxError):
        list(frames.FrameReader().feed(frames.head(2, 1, frames.LARGEST + 1)))
