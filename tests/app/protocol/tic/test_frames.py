"""Frames: where they begin and end, whole, cut or mixed up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.linky import TicMode
from app.protocol.tic.encode import encode_frame, encode_group
from app.protocol.tic.frames import MAX_GROUPS_IN_FRAME, FrameReader
from app.protocol.tic.groups import GroupReader
from tests.app.protocol.tic import synthetic

S, H = TicMode.STANDARD, TicMode.HISTORIQUE


def read(stream: bytes):
    groups, frames = GroupReader(), FrameReader()
    found = [*frames.take(groups.feed(stream)), *frames.take(groups.finish()), *frames.finish()]
    return found, frames


def group(label: str, data: str = "000000001") -> bytes:
    return encode_group(S, label, data)


NUMBER = group("ADSC", "041961000017")
EAST, EAIT, VTIC = group("EAST"), group("EAIT"), group("VTIC", "02")


@pytest.mark.parametrize(
    ("stream", "whole", "labels"),
    [
        (b"\x02" + NUMBER + EAST + b"\x03", 1, [["ADSC", "EAST"]]),
        # Begun in the middle, cut at the end.
        (EAST + b"\x03\x02" + NUMBER + EAST + b"\x03\x02" + NUMBER, 1, [["EAST"], ["ADSC", "EAST"], ["ADSC"]]),
        # Marks lost: the number coming again ends the frame, the end of the stream the last.
        (NUMBER + EAST + NUMBER + EAST, 2, [["ADSC", "EAST"], ["ADSC", "EAST"]]),
        (NUMBER + NUMBER, 2, [["ADSC"], ["ADSC"]]),
        # ETX lost, STX lost.
        (b"\x02" + NUMBER + EAST + b"\x02" + NUMBER + EAST + b"\x03", 2, [["ADSC", "EAST"]] * 2),
        (b"\x02" + NUMBER + EAST + b"\x03" + NUMBER + EAST + b"\x03", 2, [["ADSC", "EAST"]] * 2),
        # Both lost.
        (b"\x02" + NUMBER + EAST + NUMBER + EAST + b"\x03", 2, [["ADSC", "EAST"]] * 2),
        # The number's group lost with STX there.
        (b"\x02" + VTIC + EAST + b"\x03\x02" + VTIC + EAST + b"\x03", 2, [["VTIC", "EAST"]] * 2),
        (b"\x02" + VTIC + EAST + b"\x02" + VTIC + EAST + b"\x03", 2, [["VTIC", "EAST"]] * 2),
        # The number out of its place.
        (b"\x02" + NUMBER + EAST + NUMBER + EAIT + b"\x03", 1, [["ADSC", "EAST", "EAIT"]]),
        # STX made of noise.
        (b"\x02" + NUMBER + EAST + b"\x02" + EAIT + b"\x03", 1, [["ADSC", "EAST", "EAIT"]]),
        # The meter breaks off.
        (b"\x02" + NUMBER + EAST + b"\x04\x02" + NUMBER + EAST + b"\x03", 1, [["ADSC", "EAST"]] * 2),
        (b"\x02\x03\x02\x03", 0, []),
        # No marks, begun in the middle; the last frame ends where the one before did, or is cut.
        (
            EAST + EAIT + NUMBER + VTIC + EAIT + NUMBER + VTIC,
            1,
            [["EAST", "EAIT"], ["ADSC", "VTIC", "EAIT"], ["ADSC", "VTIC"]],
        ),
        (NUMBER + VTIC + EAIT + NUMBER + EAIT, 2, [["ADSC", "VTIC", "EAIT"], ["ADSC", "EAIT"]]),
        # A dump's line ends around the marks.
        (
            b"\x03\x02\r\n" + NUMBER[1:] + EAST + b"\n\x03\x02\r\n" + NUMBER[1:] + b"\n\x03",
            2,
            [["ADSC", "EAST"], ["ADSC"]],
        ),
    ],
)
def test_where_frames_begin_and_end(stream, whole, labels):
    found, frames = read(stream)

    assert [list(frame.groups) for frame in found] == labels
    assert frames.frames_whole == whole


def test_a_bad_group_makes_a_frame_incorrect_but_not_useless():
    [frame], frames = read(b"\x02" + NUMBER + EAST.replace(b"1", b"2") + EAIT + b"\x03")

    assert (frame.whole, frame.correct) == (True, False)
    assert list(frame.groups) == ["ADSC", "EAIT"]
    assert frames.frames_correct == 0


def test_the_first_of_a_label_that_comes_twice_counts():
    [frame], _ = read(b"\x02" + NUMBER + EAST + group("EAST", "999999999") + b"\x03")

    assert frame.number("EAST") == 1
    assert frame.repeated == ("EAST",)


def test_short_three_phase_frames_are_frames_of_their_own():
    stream = synthetic.historique_tri() + synthetic.historique_tri_short() + synthetic.historique_tri()
    found, _ = read(stream)

    assert [len(frame.groups) for frame in found] == [12, 5, 12]
    assert all(frame.correct for frame in found)


def test_short_three_phase_frames_without_marks_are_told_apart():
    stream = synthetic.historique_tri_short(22) + synthetic.historique_tri_short(23) + synthetic.historique_tri()
    found, _ = read(stream.replace(b"\x02", b"").replace(b"\x03", b""))

    assert [frame.number("IINST1") for frame in found[:2]] == [22, 23]


def test_a_stream_without_a_frame_end_does_not_grow_for_ever():
    reader = FrameReader()
    groups = GroupReader()
    longest = 0
    for number in range(10 * MAX_GROUPS_IN_FRAME):
        list(reader.take(groups.feed(group(f"X{number}", "1"))))
        longest = max(longest, len(reader._groups))

    assert longest <= MAX_GROUPS_IN_FRAME


@pytest.mark.parametrize(
    ("number", "known"),
    [("041961000017", "041961000017"), ("J21976885617", "J21976885617"), ("0419/1000017", None), ("0419", None)],
)
def test_the_meters_number_is_twelve_letters_or_digits(number, known):
    [frame], _ = read(encode_frame([group("ADSC", number)]))

    assert frame.meter_id == known


@given(st.lists(st.sampled_from([NUMBER, EAST, EAIT, VTIC, b"\x02", b"\x03", b"\x04", b"\nBAD\r", b"\r"]), max_size=30))
def test_every_group_is_in_one_frame(pieces):
    stream = b"\n".join(pieces)
    groups = GroupReader()
    events = [*groups.feed(stream), *groups.finish()]
    reader = FrameReader()
    found = [*reader.take(events), *reader.finish()]

    assert sum(len(frame.groups) + len(frame.repeated) for frame in found) == groups.groups_good
    assert sum(len(frame.bad) for frame in found) == groups.groups_bad
    assert reader.frames_whole + reader.frames_partial == len(found)
