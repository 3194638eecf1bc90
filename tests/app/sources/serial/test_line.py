"""Readings of the bytes of a line, with given times."""

from __future__ import annotations

import datetime as dt
import itertools
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.linky import TicMode
from app.domain.reading import StateBit
from app.sources.serial.line import MeterLine
from app.sources.serial.link import Link, LinkMonitor
from app.sources.serial.meter_clock import LARGEST_CLOCK_OFFSET_MS
from tests.app.protocol.tic import synthetic

NOON_US = int(dt.datetime(2025, 11, 23, 9, 0, tzinfo=dt.UTC).timestamp()) * 1_000_000


class Feeder:
    """A line that gets a frame each 1.1 s."""

    def __init__(self) -> None:
        self.link = LinkMonitor()
        self.link.opened()
        self.line = MeterLine(self.link, boot_id=7)
        self.now_us = NOON_US
        self.steady_us = 0

    def feed(self, chunk: bytes, step_us: int = 1_100_000):
        self.now_us += step_us
        self.steady_us += step_us
        return self.line.feed(chunk, now_us=self.now_us, steady_us=self.steady_us)


def test_a_standard_meter():
    feeder = Feeder()
    made = [*feeder.feed(synthetic.standard_mono(1)), *feeder.feed(synthetic.standard_mono(2))]

    assert [reading.meter_serial for reading in made] == ["041961000017"] * 2
    assert [reading.mode for reading in made] == [TicMode.STANDARD] * 2
    assert [reading.arrival_us for reading in made] == [NOON_US + 1_100_000, NOON_US + 2_200_000]
    assert [reading.reading.time_ms for reading in made] == [NOON_US // 1000 + 1000, NOON_US // 1000 + 2000]
    assert [reading.reading.seq for reading in made] == [0, 1]
    assert {reading.reading.boot_id for reading in made} == {7}
    assert [reading.reading.frame_gap_ms for reading in made] == [None, 1100]
    assert feeder.link.state(feeder.steady_us) is Link.GOOD


def test_a_historique_meter_has_no_time():
    [made] = Feeder().feed(synthetic.historique_hc())

    assert made.mode is TicMode.HISTORIQUE
    assert made.reading.time_ms is None
    assert made.reading.drawn_wh == 12_345_678


def test_two_frames_in_one_second_of_the_meter_are_placed_apart():
    feeder = Feeder()
    made = [feeder.feed(synthetic.standard_mono(1), 300_000)[0].reading.time_ms for _ in range(6)]

    assert [time_ms - NOON_US // 1000 for time_ms in made if time_ms] == [1000, 1300, 1600, 1900, 1999, 1999]


def test_a_meter_whose_clock_is_far_off_is_stamped_on_arrival(caplog):
    caplog.set_level(logging.INFO)
    feeder = Feeder()
    feeder.now_us += (LARGEST_CLOCK_OFFSET_MS + 5000) * 1000
    far = [feeder.feed(synthetic.standard_mono(second))[0].reading for second in (1, 2)]
    feeder.now_us = NOON_US
    near = feeder.feed(synthetic.standard_mono(3))[0].reading

    assert [reading.time_ms for reading in far] == [None, None]
    assert near.time_ms == NOON_US // 1000 + 3000
    assert len(caplog.records) == 2


def test_a_degraded_clock_is_not_used_but_said():
    [made] = Feeder().feed(synthetic.standard_mono(1, letter="h"))

    assert made.reading.time_ms is None
    assert (made.reading.state or 0) & StateBit.METER_CLOCK_DEGRADED


def test_a_frame_cut_at_its_beginning_gives_nothing():
    stream = synthetic.standard_mono(1)
    feeder = Feeder()

    assert feeder.feed(stream[200:]) == []
    assert feeder.link.state(feeder.steady_us) is Link.BAD


def test_a_frame_without_the_meters_number_is_the_known_meters():
    damaged = synthetic.standard_mono(2).replace(b"041961000017", b"041961000018")
    feeder = Feeder()
    first = feeder.feed(damaged)
    feeder.feed(synthetic.standard_mono(1))
    [then] = feeder.feed(damaged)

    assert first == []
    assert feeder.line.frames_without_number == 1
    assert then.meter_serial == "041961000017"
    assert (then.reading.state or 0) & StateBit.METER_LINK_BAD
    assert feeder.line.frames_bad == 2


def test_after_an_interruption_the_meter_may_be_another():
    feeder = Feeder()
    feeder.feed(synthetic.standard_mono(1))
    feeder.feed(synthetic.standard_mono(2)[:100])
    feeder.line.interrupted()
    [other] = feeder.feed(synthetic.standard_tri_producer())

    assert other.meter_serial == "041976000023"
    assert other.reading.drawn_wh == 100_000
    assert other.reading.frame_gap_ms is None


def test_errors_are_counted_by_label_and_fault():
    feeder = Feeder()
    feeder.feed(synthetic.standard_mono(1).replace(b"EAST\t", b"EAST\t\x02").replace(b"PREF\t09", b"PREF\t08"))

    assert feeder.line.errors_by_label == {"EAST": 1, "PREF": 1}
    assert feeder.line.errors_by_fault == {"control_byte": 1, "checksum": 1}
    assert feeder.line.groups_bad == 2


@pytest.mark.parametrize("name", synthetic.files())
@given(cuts=st.lists(st.integers(0, 2100), max_size=20))
def test_any_chunking_gives_the_same_readings(name, cuts):
    stream = synthetic.files()[name]

    def readings(edges):
        line = MeterLine(LinkMonitor(), boot_id=1)
        return [
            reading.reading
            for start, end in itertools.pairwise([0, *sorted(edges), len(stream)])
            for reading in line.feed(stream[start:end], now_us=NOON_US, steady_us=0)
        ]

    assert readings([cut for cut in cuts if cut < len(stream)]) == readings([])


@given(st.lists(st.binary(max_size=300) | st.sampled_from(list(synthetic.files().values())), max_size=6))
def test_any_bytes_give_readings_or_none(chunks):
    feeder = Feeder()
    for chunk in chunks:
        for reading in feeder.feed(chunk):
            assert len(reading.meter_serial) == 12
