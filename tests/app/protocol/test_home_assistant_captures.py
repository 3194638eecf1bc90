"""Captures of real devices where they are at hand: what each must give, counted by hand."""

from __future__ import annotations

import collections
import pathlib

import pytest

from app.domain.reading import Reading
from app.protocol.foreign import Facts
from app.protocol.home_assistant import HomeAssistant
from tests.app.protocol.discovery import facts, values

CAPTURES = pathlib.Path(__file__).parents[3].parent / "shared" / "captures" / "mqtt"

pytestmark = pytest.mark.skipif(
    not CAPTURES.is_dir(), reason="captures of real devices are not at hand (../shared/captures/mqtt)"
)

# Messages, and of what was heard of them: devices, facts, readings, presence, refusals.
EXPECTED = {
    # One message of a ZLinky that no config describes.
    "z2m_zlinky_base_standard.log": (1, 1, 1, 1, 0, 0),
    # A config alone: a device is discovered, nothing is measured.
    "ha_discovery_zlinky_tempo.log": (1, 1, 1, 0, 0, 0),
}


def messages(name):
    for line in (CAPTURES / name).read_text().splitlines():
        topic, _, payload = line.partition(" ")
        yield topic, payload.encode()


def heard_of(dialect, *names):
    found = []
    for name in names:
        for topic, payload in messages(name):
            assert dialect.claims(topic)
            found += dialect.take(topic, payload, retained=False, arrival_us=1)
    return [*found, *dialect.due(10**13)]


@pytest.mark.parametrize("name", EXPECTED)
def test_what_a_capture_gives(name):
    heard = heard_of(HomeAssistant(), name)
    kinds = collections.Counter(type(one.what).__name__ for one in heard)
    found = (
        len(list(messages(name))),
        len({one.device for one in heard}),
        kinds["Facts"],
        kinds["Reading"],
        kinds["Presence"],
        kinds["Refusal"],
    )
    assert found == EXPECTED[name]


def test_the_zlinky_by_hand():
    """Read off the message: apparent_power 1670, rms 2 A and 236 V, 4096 kWh in tier 1 and in all, NTARF 1."""
    heard = heard_of(HomeAssistant(), "z2m_zlinky_base_standard.log")
    (reading,) = [one.what for one in heard if isinstance(one.what, Reading)]
    assert values(reading) == {
        # last_seen 2022-11-21T18:58:06.560Z; the meter's current_date is 12 s older.
        "time_ms": 1_669_057_086_560,
        "apparent_va": 1670,
        "drawn_wh": 4_096_000,
        "register": 1,
        "registers_wh": {1: 4_096_000, 2: 0},
        "voltage_v": 236,
        "current_a": 2,
        # 003A0001: the dry contact is open, nothing else.
        "state": 1 << 3,
    }
    told = facts([one.what for one in heard])
    assert told.pop("meter_serial").startswith("8120")
    assert told == {
        "name": "ZLinky",
        "maker": "LiXee",
        "model": "ZLinky_TIC",
        "firmware": "4001-0011",
        "hardware": "1",
        "meter_kind": "linky-standard",
        "link_quality": 120,
    }
    # The delivery point is personal.
    site = next(payload for _, payload in messages("z2m_zlinky_base_standard.log")).split(b'"site_id":"')[1][:14]
    assert site.decode() not in repr(heard)


def test_the_tempo_config_by_hand():
    dialect = HomeAssistant()
    heard = heard_of(dialect, "ha_discovery_zlinky_tempo.log")
    (only,) = heard
    assert isinstance(only.what, Facts)
    assert only.device.startswith("zigbee2mqtt_0x")
    told = facts([only.what])
    assert told.pop("name") == only.device.removeprefix("zigbee2mqtt_")
    assert told == {"maker": "LiXee", "model": "Lixee ZLinky", "firmware": "4000-0015", "hardware": "1"}
    # Its topics are followed from now on.
    address = only.device.removeprefix("zigbee2mqtt_")
    said = dialect.take(f"zigbee2mqtt/{address}", b'{"current_tier1_summ_delivered":7}', retained=False, arrival_us=2)
    assert [values(one.what) for one in said if isinstance(one.what, Reading)] == [{"registers_wh": {1: 7000}}]
    online = dialect.take("zigbee2mqtt/bridge/state", b'{"state":"online"}', retained=True, arrival_us=3)
    assert [one.device for one in online] == [only.device]
