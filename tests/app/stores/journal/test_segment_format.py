from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.stores.journal.segment_format import (
    Damage,
    Frame,
    NotASegment,
    decode_header,
    encode_frame,
    encode_header,
    frames,
)
from tests.app.stores.journal.rows import SMALL

BODIES = st.lists(st.tuples(st.integers(0, 254), st.binary(max_size=60)), max_size=6)


def joined(bodies):
    return b"".join(bytes(buffer) for table, body in bodies for buffer in encode_frame(table, body))


@given(BODIES)
def test_frames_round_trip(bodies):
    data = joined(bodies)

    assert [(found.table, bytes(found.body)) for found in frames(data, 0, len(data))] == bodies


@given(BODIES, st.binary(max_size=80))
def test_any_tail_keeps_what_was_whole(bodies, tail):
    data = joined(bodies)
    found = list(frames(data + tail, 0, len(data) + len(tail)))

    assert [(each.table, bytes(each.body)) for each in found[: len(bodies)]] == bodies


@given(BODIES, st.data())
def test_a_changed_byte_harms_its_own_frame_alone(bodies, data):
    whole = joined(bodies)
    if not whole:
        return
    position = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[position] ^= data.draw(st.integers(1, 255))
    found = list(frames(bytes(changed), 0, len(changed)))

    assert sum(isinstance(each, Damage) for each in found) <= 1
    good = [(each.table, bytes(each.body)) for each in found if isinstance(each, Frame)]
    assert len(good) >= len(bodies) - 1
    assert all(each in bodies for each in good)


@given(st.binary(max_size=300))
def test_garbage_never_raises(data):
    covered = sum(found.end - found.start for found in frames(data, 0, len(data)) if isinstance(found, Damage))

    assert covered <= len(data)
    with pytest.raises(NotASegment):
        decode_header(data)


@given(st.data())
def test_a_changed_header_is_no_header(data):
    header = encode_header("a" * 32, 7, None, {"small": SMALL})
    assert decode_header(header).tables == (("small", SMALL),)
    changed = bytearray(header)
    position = data.draw(st.integers(0, len(header) - 1))
    changed[position] ^= data.draw(st.integers(1, 255))

    with pytest.raises(NotASegment):
        decode_header(bytes(changed))
