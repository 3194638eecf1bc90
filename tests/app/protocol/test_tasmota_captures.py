"""Captures of real modules where they are at hand: how many readings each must give, counted by hand."""

from __future__ import annotations

import pathlib

import pytest

from app.domain.reading import Reading
from app.protocol.foreign import Refusal
from app.protocol.tasmota import Tasmota

CAPTURES = pathlib.Path(__file__).parents[3].parent / "shared" / "captures" / "mqtt"
pytestmark = pytest.mark.skipif(not CAPTURES.is_dir(), reason="captures are not at hand (../shared/captures/mqtt)")

# Readings and other things heard. Not counted are: a `RESULT` (EnergyConfig, TelePeriod, and the EnergyTotal that sets a
# counter back, which is the answer to a command), and STATE, which gives facts.
#   teleinfo: 16 lines, of them 4 RESULT without a fact; 3 SENSOR with ENERGY and TIC (one reading each, of the TIC),
#     4 full frames, 2 of skip mode, 3 of changed mode: 12 readings; the meter once.
#   athom: TelePeriod and STATE are facts, SENSOR a reading, EnergyTotal nothing.
#   denky: SENSOR with METER a reading, STATE facts.
EXPECTED = {
    "tasmota_teleinfo_hc_denky.log": (12, 1),
    "tasmota_athom_plug.log": (1, 2),
    "tasmota_denky_bernaerts_meter.log": (1, 1),
}
NOW_US = 1_790_000_000_000_000


def played(name):
    dialect = Tasmota()
    heard = []
    for at, line in enumerate((CAPTURES / name).read_text().splitlines()):
        topic, _, payload = line.partition(" ")
        assert dialect.claims(topic)
        heard += dialect.take(topic, payload.encode(), retained=False, arrival_us=NOW_US + at * 1000)
    assert not [one for one in heard if isinstance(one.what, Refusal)]
    return heard


@pytest.mark.parametrize("name", EXPECTED)
def test_a_capture_of_a_real_module(name):
    heard = played(name)
    readings = [one.what for one in heard if isinstance(one.what, Reading)]

    assert (len(readings), len(heard) - len(readings)) == EXPECTED[name]
    assert len({one.device for one in heard}) == 1


def test_the_indexes_of_the_teleinfo_module_are_those_of_its_frames():
    readings = [one.what for one in played("tasmota_teleinfo_hc_denky.log") if isinstance(one.what, Reading)]

    # ENERGY counts 9,098 kWh meanwhile.
    assert [one.drawn_wh - 920_750 - 2_275_000 for one in readings] == [
        *(560, 570, 579, 613, 613, 614, 614, 628, 629),
        # Changed mode, which sent the power alone.
        *(629, 629, 629),
    ]
    assert [one.apparent_va for one in readings] == [170, 190, 170, 180, 180, 170, 200, 170, 170, 160, 190, 170]
    assert {(one.active_w, one.register) for one in readings} == {(None, 2)}


def test_the_plug_and_the_fork_say_watts():
    (plug,) = [one.what for one in played("tasmota_athom_plug.log") if isinstance(one.what, Reading)]
    (fork,) = [one.what for one in played("tasmota_denky_bernaerts_meter.log") if isinstance(one.what, Reading)]

    assert (plug.active_w, plug.drawn_wh, plug.voltage_v, plug.rssi_dbm) == (0, 1_066_000, 227.7, -70)
    assert (fork.active_w, fork.apparent_va, fork.drawn_wh, fork.current_a) == (203, 350, None, 1.521)
