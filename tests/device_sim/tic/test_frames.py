"""The simulated meter's frames, read by the platform's own codec: every mode, contract and phase count."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import pathlib

import pytest

from app.domain.linky import TempoColour, TicMode, decode_day_profile, decode_stge, parse_horodate, phases_of_serial
from app.domain.reading import StateBit
from app.protocol.tic.frames import FrameReader
from app.protocol.tic.groups import GroupReader
from app.protocol.tic.readings import ReadingMaker, Warn
from device_sim.tic.contracts import CONTRACTS, colour_of, is_peak_day
from device_sim.tic.faults import FREEZE_FRAME, INDEX_BACK_FRAME, Fault
from device_sim.tic.meter import PARIS, MeterPlan
from device_sim.tic.power import ConstantPower, HouseholdProfile
from device_sim.tic.stream import MeterStream

CAPTURES = pathlib.Path(__file__).parents[3].parent / "shared" / "captures" / "tic"
SEED = 3
NOON = dt.datetime(2026, 1, 15, 12, 10, tzinfo=PARIS)
H, S = TicMode.HISTORIQUE, TicMode.STANDARD


def stream(mode=S, contract="base", phases=1, *, producer=False, power_w=None, start=NOON, faults=(), kva=None):
    plan = MeterPlan(CONTRACTS[contract], phases, producer, kva or (12 if phases == 3 else 6), SEED)
    solar_w = 3000.0 if producer else 0.0
    source = HouseholdProfile(SEED, phases, solar_w=solar_w) if power_w is None else ConstantPower(power_w, phases)
    return MeterStream(plan, mode, source, start.timestamp(), faults)


def sent(meter, frames):
    data = b""
    for piece in meter.pieces():
        data += piece.data
        frames -= piece.ends_frame
        if not frames:
            break
    return data


@dataclasses.dataclass
class Read:
    frames: list
    readings: list
    warnings: list
    groups_bad: int


def read(data):
    groups, frames, maker = GroupReader(), FrameReader(), ReadingMaker()
    found = [*frames.take(groups.feed(data)), *frames.take(groups.finish()), *frames.finish()]
    results = [maker.read(frame) for frame in found]
    return Read(
        found,
        [result.reading for result in results if result.reading is not None],
        [warning for result in results for warning in result.warnings],
        groups.groups_bad,
    )


@pytest.mark.parametrize(
    ("mode", "contract", "phases", "producer"),
    list(itertools.product(TicMode, CONTRACTS, (1, 3), (False, True))),
)
def test_every_frame_is_read_whole(mode, contract, phases, producer):
    meter = stream(mode, contract, phases, producer=producer)
    result = read(sent(meter, 12))
    assert len(result.frames) == len(result.readings) == 12
    assert result.groups_bad == 0
    assert result.warnings == []
    for frame, reading in zip(result.frames, result.readings, strict=True):
        assert frame.correct
        assert frame.mode is mode
        assert phases_of_serial(frame.meter_id) == phases
        assert (reading.current_3_a is not None) == (phases == 3)
        assert reading.drawn_wh > 0
        assert (reading.injected_wh is not None) == (producer and mode is S)
    registers = result.readings[0].registers_wh
    assert sum(registers.values()) == result.readings[0].drawn_wh
    assert len(registers) == (10 if mode is S else len(CONTRACTS[contract].indexes))


@pytest.mark.parametrize("contract", CONTRACTS)
@pytest.mark.parametrize("mode", TicMode)
def test_the_register_is_that_of_the_hour_all_year(mode, contract):
    row = CONTRACTS[contract]
    seen = set()
    for hour in range(0, 365 * 24, 29):
        at = (dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=hour, minutes=40)).astimezone(PARIS)
        result = read(sent(stream(mode, contract, start=at), 1))
        assert (result.groups_bad, result.warnings) == (0, [])
        seen.add(result.readings[0].register)
        if mode is S or len(row.indexes) > 1:
            assert result.readings[0].register == row.register_at(at, SEED)
        if mode is S:
            assert result.readings[0].time_ms == int(at.timestamp()) * 1000
    # What the historique mode does not know has no periods there.
    assert seen == set(range(1, 1 + (len(row.tariffs) if mode is S else len(row.indexes))))


def test_an_index_grows_by_what_was_drawn():
    meter = stream(power_w=3600.0)
    readings = read(sent(meter, 200)).readings
    elapsed_s = (readings[-1].time_ms - readings[0].time_ms) / 1000
    assert readings[-1].drawn_wh - readings[0].drawn_wh == pytest.approx(elapsed_s, abs=1.5)
    assert readings[0].apparent_va == pytest.approx(3600 / 0.97, abs=1)


def test_what_is_injected_is_negative_and_grows_its_own_index():
    readings = read(sent(stream(producer=True, power_w=-3600.0), 100)).readings
    elapsed_s = (readings[-1].time_ms - readings[0].time_ms) / 1000
    assert readings[-1].injected_wh - readings[0].injected_wh == pytest.approx(elapsed_s, abs=1.5)
    assert readings[-1].drawn_wh == readings[0].drawn_wh
    assert readings[0].apparent_va == pytest.approx(-3600 / 0.97, abs=1)
    # Without a producer's contract nothing is injected.
    assert read(sent(stream(power_w=-3600.0), 1)).readings[0].apparent_va == 0


def test_the_pace_is_that_of_the_line():
    for mode, shortest_s, longest_s in ((H, 1.0, 3.0), (S, 0.7, 1.4)):
        for phases in (1, 3):
            pieces = list(
                itertools.takewhile(lambda piece: not piece.ends_frame, stream(mode, "tempo", phases).pieces())
            )
            assert shortest_s < sum(piece.line_s for piece in pieces) < longest_s


def test_more_than_subscribed_on_one_phase_is_told():
    [frame] = read(sent(stream(H, power_w=9000.0), 1)).frames
    assert int(frame.data("ADPS")) == int(frame.data("IINST")) > int(frame.data("ISOUSC")) == 30
    [frame] = read(sent(stream(H, power_w=3000.0), 1)).frames
    assert frame.data("ADPS") is None
    reading = read(sent(stream(S, power_w=9000.0), 1)).readings[0]
    assert reading.state & StateBit.OVER_POWER


def test_more_than_subscribed_on_three_phases_makes_frames_short():
    result = read(sent(stream(H, phases=3, power_w=20_000.0), 43))
    labels = [tuple(frame.groups) for frame in result.frames]
    short = ("ADIR1", "ADIR2", "ADIR3", "ADCO", "IINST1", "IINST2", "IINST3")
    assert [label == short for label in labels] == ([True] * 20 + [False]) * 2 + [True]
    assert "PAPP" in labels[20]
    assert result.groups_bad == 0
    assert result.readings[0].drawn_wh is None
    assert all(
        reading.state & StateBit.OVER_POWER
        for reading, label in zip(result.readings, labels, strict=True)
        if label == short
    )


def test_short_frames_go_on_for_a_minute():
    meter = stream(H, phases=3, power_w=20_000.0)
    pieces = meter.pieces()
    next(pieces)
    meter._meter._source = ConstantPower(300.0, 3)
    data = b""
    while meter.at_s < NOON.timestamp() + 70:
        data += next(pieces).data
    frames = read(data).frames[1:-1]
    long_at = [number for number, frame in enumerate(frames) if "PAPP" in frame.groups]
    # A long one after 20, and only long ones in the end.
    assert 19 in long_at
    assert len(frames) - 1 in long_at
    assert not any(label.startswith("ADIR") for frame in frames for label in frame.groups)


def a_day(wanted):
    return next(day for day in (dt.date(2026, 11, 2) + dt.timedelta(days=n) for n in range(150)) if wanted(day))


def at(day, hour, minute=0):
    return dt.datetime(day.year, day.month, day.day, hour, minute, tzinfo=PARIS)


def test_a_mobile_peak_is_announced_and_runs_into_the_night():
    day = a_day(lambda day: is_peak_day(day, SEED) and not is_peak_day(day + dt.timedelta(days=1), SEED))
    tomorrow = day + dt.timedelta(days=1)
    expected = {
        at(day, 6, 29): (None, "HN.."),
        at(day, 6, 30): ("30", "HN.."),
        at(day, 7): (None, "PM.."),
        at(tomorrow, 0, 59): (None, "PM.."),
        at(tomorrow, 1): (None, "HN.."),
    }
    for time, (notice, period) in expected.items():
        [frame] = read(sent(stream(H, "ejp", start=time), 1)).frames
        assert (frame.data("PEJP"), frame.data("PTEC")) == (notice, period), time
    [frame] = read(sent(stream(S, "ejp", start=at(day, 6, 40)), 1)).frames
    status = decode_stge(frame.data("STGE"))
    assert (status.mobile_peak_notice, status.mobile_peak_running) == (1, 0)
    assert frame.groups["DPM1"].horodate == f" {day:%y%m%d}070000"
    assert frame.groups["FPM1"].horodate == f" {tomorrow:%y%m%d}010000"
    assert [(step.minute, step.register) for step in decode_day_profile(frame.data("PPOINTE"))][-1] == (420, 2)
    [frame] = read(sent(stream(S, "ejp", start=at(day, 8)), 1)).frames
    status = decode_stge(frame.data("STGE"))
    assert (status.mobile_peak_notice, status.mobile_peak_running, frame.data("NTARF")) == (0, 1, "02")


def test_the_colour_of_tomorrow_is_known_in_the_evening():
    day = a_day(lambda day: colour_of(day, SEED) is TempoColour.RED)
    before = day - dt.timedelta(days=1)
    for time, word in ((at(before, 19, 59), "----"), (at(before, 20), "ROUG")):
        [frame] = read(sent(stream(H, "tempo", start=time), 1)).frames
        assert frame.data("DEMAIN") == word
        [frame] = read(sent(stream(S, "tempo", start=time), 1)).frames
        tomorrow = decode_stge(frame.data("STGE")).tempo_tomorrow
        assert tomorrow is (TempoColour.RED if word == "ROUG" else TempoColour.NONE)
    for time, period in (
        (at(day, 5, 59), f"HCJ{'.BWR'[colour_of(before, SEED)]}"),
        (at(day, 6), "HPJR"),
        (at(day, 22), "HCJR"),
    ):
        [frame] = read(sent(stream(H, "tempo", start=time), 1)).frames
        assert frame.data("PTEC") == period


def test_colours_follow_the_rules_of_the_contract():
    days = [dt.date(2025, 9, 1) + dt.timedelta(days=n) for n in range(365 * 4)]
    for day in days:
        if colour_of(day, SEED) is TempoColour.RED:
            assert day.weekday() < 5
            assert day.month in {11, 12, 1, 2, 3}
        if day.weekday() == 6:
            assert colour_of(day, SEED) is TempoColour.BLUE
    red = sum(colour_of(day, SEED) is TempoColour.RED for day in days) / 4
    white = sum(colour_of(day, SEED) is TempoColour.WHITE for day in days) / 4
    assert 15 < red < 30
    assert 30 < white < 55


def test_the_standard_mode_says_everything_of_its_contract():
    [frame] = read(sent(stream(S, "hchp", 3, producer=True, start=at(dt.date(2026, 7, 1), 13)), 1)).frames
    status = decode_stge(frame.data("STGE"))
    assert (status.producer, status.supplier_register, status.tic_standard, status.breaker_open) == (
        True,
        1,
        True,
        False,
    )
    assert status.dry_contact_open is False
    assert frame.data("RELAIS") == "001"
    assert frame.data("NGTF") == "H PLEINE/CREUSE "
    assert frame.data("LTARF") == " HEURE  CREUSE  "
    assert frame.groups["DATE"].horodate == "E260701130000"
    assert [(step.minute, step.register, step.contact) for step in decode_day_profile(frame.data("PJOURF+1"))] == [
        (0, 2, "open"),
        (60, 1, "closed"),
        (360, 2, "open"),
        (750, 1, "closed"),
        (930, 2, "open"),
    ]
    assert len(frame.data("PJOURF+1")) == 98
    assert frame.data("PPOINTE") is None
    assert sum(int(frame.data(f"EASD{n:02}")) for n in range(1, 5)) == int(frame.data("EAST"))
    for label in ("SMAXSN", "SMAXSN1-1", "CCASN", "CCAIN-1", "UMOY3", "SMAXIN-1"):
        assert parse_horodate(frame.groups[label].horodate) is not None
    assert frame.data("PRM").startswith("00")


@pytest.mark.skipif(not CAPTURES.is_dir(), reason="captures of real meters are not at hand (../shared/captures/tic)")
@pytest.mark.parametrize(
    ("name", "meter"),
    [
        ("std_tempo_tri_prod_openhab.raw", stream(S, "tempo", 3, producer=True)),
        ("std_base_tri_hallard.txt", stream(S, "base", 3)),
        ("std_hc_mono_enedis.txt", stream(S, "hchp")),
        ("hist_tempo_mono_pyteleinfo.bin", stream(H, "tempo")),
        ("hist_hc_mono_hallard.txt", stream(H, "hchp")),
        ("hist_base_tri_hallard.txt", stream(H, "base", 3)),
        ("hist_base_mono_enedis.txt", stream(H, "base")),
    ],
)
def test_labels_and_their_order_are_those_of_a_real_meter(name, meter):
    real = max((list(frame.groups) for frame in read((CAPTURES / name).read_bytes()).frames), key=len)
    assert list(read(sent(meter, 1)).frames[0].groups) == real


def test_a_contract_of_before_left_its_registers():
    readings = read(sent(stream(S, "base", power_w=6000.0), 60)).readings
    first, last = readings[0].registers_wh, readings[-1].registers_wh
    assert first[2] == last[2] > 0
    assert last[1] > first[1]


def test_the_same_seed_is_the_same_meter():
    assert sent(stream(S, "tempo", 3, producer=True), 5) == sent(stream(S, "tempo", 3, producer=True), 5)


def said(frame):
    return {label: (group.data, group.horodate) for label, group in frame.groups.items()}


class TestFaults:
    @pytest.mark.parametrize("mode", TicMode)
    def test_bad_checksum(self, mode):
        result = read(sent(stream(mode, "hchp", faults=[Fault.BAD_CHECKSUM]), 20))
        assert len(result.frames) == 20
        assert result.groups_bad == 20
        assert not any(frame.correct for frame in result.frames)

    @pytest.mark.parametrize("fault", [Fault.NOISE, Fault.LOST_BYTES])
    @pytest.mark.parametrize("mode", TicMode)
    def test_harmed_characters_cost_their_groups_and_no_frame(self, mode, fault):
        result = read(sent(stream(mode, "tempo", faults=[fault]), 40))
        assert 40 * 0.7 <= result.groups_bad <= 40 * 2
        assert len(result.readings) == 40

    def test_midframe(self):
        data = sent(stream(H, "hchp", faults=[Fault.MIDFRAME]), 3)
        assert data.startswith(b"\0" * 7)
        result = read(data)
        assert [frame.began for frame in result.frames] == [False, True, True]
        assert result.groups_bad == 0

    @pytest.mark.parametrize("mode", TicMode)
    def test_freeze(self, mode):
        meter = stream(mode, "hchp", faults=[Fault.FREEZE])
        frames = [said(frame) for frame in read(sent(meter, 60)).frames]
        assert all(frame == frames[FREEZE_FRAME - 1] for frame in frames[FREEZE_FRAME:])
        living = [said(frame) for frame in read(sent(stream(mode, "hchp"), 60)).frames]
        assert living[-1] != living[FREEZE_FRAME - 1]

    def test_clock_degraded(self):
        result = read(sent(stream(faults=[Fault.CLOCK_DEGRADED]), 2))
        assert result.warnings == [Warn.CLOCK_DEGRADED] * 2
        assert all(reading.state & StateBit.METER_CLOCK_DEGRADED for reading in result.readings)
        assert decode_stge(result.frames[0].data("STGE")).clock_degraded

    @pytest.mark.parametrize("mode", TicMode)
    def test_index_back(self, mode):
        result = read(sent(stream(mode, "hchp", faults=[Fault.INDEX_BACK]), INDEX_BACK_FRAME))
        assert Warn.INDEX_FELL in result.warnings
        assert Warn.REGISTER_SUM not in result.warnings
        assert [reading.drawn_wh is None for reading in result.readings] == [False, False, False, True]
