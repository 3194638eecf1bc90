"""`./run decode` of telegrams, of logs of messages and of a Shelly's status."""

from __future__ import annotations

import argparse
import json

import pytest

from app.domain.reading import Reading
from app.hub import decode_command
from app.hub.capture_findings import Findings, as_json, as_table
from app.hub.decode_command import NOTHING_FOUND, CaptureUnreadableError
from app.hub.mqtt_capture import START_US, read_mqtt
from app.protocol.dialects import Dialects
from app.protocol.foreign import Facts, Heard, Presence, Refusal
from app.protocol.messages import Log
from tests.app.protocol.dsmr import synthetic

KEYS = {"messages", "readings", "presence", "discovered", "quarantined"}


class FakeDialect:
    """Speaks on fake/DEVICE/WHAT: `power` waits two seconds for its reading, as dialects of many topics do."""

    name = "fake"
    filters = ("fake/#",)

    def __init__(self):
        self.waiting = []

    def claims(self, topic):
        return topic.startswith(("fake/", "shelly"))

    def take(self, topic, payload, *, retained, arrival_us):
        _, device, *what = topic.split("/")
        if what == ["lwt"]:
            return [Heard(device, Presence(payload == b"on"))]
        if what == ["power"]:
            self.waiting.append((arrival_us + 2_000_000, device, float(payload)))
            return []
        if what == ["info"]:
            return [Heard(device, Facts(mac="AABBCCDDEEFF", meter_serial="012345678901", firmware=payload.decode()))]
        if what == ["log"]:
            return [Heard(device, Log(text="hello"))]
        return [Heard("", Refusal("format", "of no kind"))]

    def due(self, arrival_us):
        due = [one for one in self.waiting if one[0] <= arrival_us]
        self.waiting = [one for one in self.waiting if one[0] > arrival_us]
        return [Heard(device, Reading(active_w=watts)) for _, device, watts in due]


@pytest.fixture(autouse=True)
def fake_dialects(monkeypatch):
    monkeypatch.setattr(decode_command, "every_dialect", lambda: Dialects([FakeDialect()]))


@pytest.fixture
def decode(tmp_path, capsys):
    def run(content: bytes, *words: str):
        path = tmp_path / "capture"
        path.write_bytes(content)
        parser = argparse.ArgumentParser()
        decode_command.add_arguments(parser)
        code = decode_command.run(parser.parse_args([str(path), *words]))
        return code, capsys.readouterr().out

    return run


LOG = b"""\
fake/one/lwt on
fake/one/info 1.2
fake/one/power 12.5
fake/one/what 1
nobody/knows this topic
{ no topic
fake/one/log x
fake/012345678901/power 7
fake/one/lwt off
"""


def test_a_log_of_messages(decode):
    code, out = decode(LOG, "--json")
    found = json.loads(out)

    assert code == 0
    assert set(found) >= KEYS
    assert (found["kind"], found["messages"]) == ("mqtt", 8)
    # By the virtual clock lines are 50 ms apart; what waits for two seconds is due after the last of eight.
    assert found["readings"] == [
        {"dialect": "fake", "device": "one", "at_ms": START_US // 1000 + 2400, "active_w": 12.5},
        {"dialect": "fake", "device": "012345xxxxxx", "at_ms": START_US // 1000 + 2400, "active_w": 7.0},
    ]
    assert [(one["device"], one["online"]) for one in found["presence"]] == [("one", True), ("one", False)]
    assert found["discovered"] == [
        {
            "dialect": "fake",
            "device": "one",
            "facts": {"firmware": "1.2", "meter_serial": "012345xxxxxx", "mac": "AABBCCxxxxxx"},
        },
        {"dialect": "fake", "device": "012345xxxxxx", "facts": {}},
    ]
    assert found["quarantined"] == [
        {"reason": "format", "detail": "of no kind", "where": "line 4: fake/one/what"},
        {"reason": "line", "detail": "no topic", "where": "line 6"},
    ]
    assert found["unclaimed"] == {"nobody/knows": 1}
    assert found["others"] == {"log": 1}


def test_numbers_are_shown_to_who_asks(decode):
    _, hidden = decode(LOG)
    _, shown = decode(LOG, "--show-ids")

    assert "012345678901" not in hidden
    assert "AABBCCDDEEFF" not in hidden
    assert "012345678901" in shown
    assert "AABBCCDDEEFF" in shown
    assert "12.5 W" in hidden


def test_our_own_modules_in_a_log(decode):
    log = (
        b'wd/v1/m/WD1/state {"online": true, "firmware": "2.0", "time_ms": 5}\n'
        b'wd/v1/m/WD1/tele {"time_ms": 5, "apparent_va": 1, "gas_m3": 2.5}\n'
        b'wd/v1/m/WD1/tele [{"seq": 1, "apparent_va": 1}, {"seq": 2, "apparent_va": 1}]\n'
        b'wd/v1/m/WD1/tele {"apparent_va": "much"}\n'
        b'wd/v1/m/WD1/log [{"text": "a"}]\n'
        b'wd/v1/m/WD1/state {"online": false}\n'
    )
    code, out = decode(log, "--json")
    found = json.loads(out)

    assert code == 0
    assert found["messages"] == 6
    assert [reading.get("seq") for reading in found["readings"]] == [None, 1, 2]
    assert found["readings"][0]["gas_m3"] == 2.5
    assert [one["online"] for one in found["presence"]] == [True, False]
    assert found["discovered"] == [{"dialect": "wattdeck", "device": "WD1", "facts": {"firmware": "2.0"}}]
    assert [one["reason"] for one in found["quarantined"]] == ["type"]
    assert found["others"] == {"log": 1}


def test_a_log_of_nobody_known(decode):
    code, out = decode(b"a/b 1\nc/d 2\n", "--json")

    assert code == NOTHING_FOUND
    assert json.loads(out)["unclaimed"] == {"a/b": 1, "c/d": 1}


def test_a_shellys_status_is_read_as_its_messages(decode):
    content = b'{"em:0": {"total_act_power": 1}, "sys": {"mac": "AABBCCDDEEFF"}, "wifi": {}}'
    for words in ((), ("--as", "shelly-status")):
        _, out = decode(content, "--json", *words)
        found = json.loads(out)

        assert (found["kind"], found["messages"]) == ("shelly-status", 2)
        assert [one["reason"] for one in found["quarantined"]] == ["format"] * 2


def test_telegrams(decode):
    good, bad = synthetic.netherlands(1), synthetic.netherlands(2).replace(b"229.9", b"229.8")
    code, out = decode(good + bad + synthetic.belgium() + good[:200], "--json")
    found = json.loads(out)

    assert code == 0
    assert set(found) >= KEYS
    assert (found["kind"], found["messages"]) == ("dsmr", 3)
    assert [(one["device"], one["active_w"]) for one in found["readings"]] == [
        ("E00990xxxxxxxxxxx", 111.0),
        ("1WDK99xxxxxxxx", -2500.0),
    ]
    assert [(one["reason"], one["where"]) for one in found["quarantined"]] == [("crc", "telegram 2")]
    assert found["discovered"][1]["facts"]["tariffs"] == "Belgium: tariff 1 is the day, 2 the night"
    assert any("within a telegram" in hint for hint in found["hints"])
    assert any("one telegram in ten" in hint for hint in found["hints"])


def test_telegrams_for_a_person(decode):
    code, out = decode(synthetic.belgium())

    assert code == 0
    for text in ("-2500 W", "drawn 300792 Wh", "gas 112.384 m3", "water 872.234 m3", "tariff 1 is the day"):
        assert text in out
    assert "1WDK9900000020" not in out


def test_a_file_said_to_be_something_is_read_as_that(decode):
    assert decode(synthetic.netherlands(), "--as", "mqtt")[0] == NOTHING_FOUND
    assert decode(b"no telegram here", "--as", "dsmr")[0] == NOTHING_FOUND
    assert decode(LOG, "--as", "mqtt")[0] == 0


def test_sml_is_told(decode):
    with pytest.raises(CaptureUnreadableError, match="SML, which is not read yet"):
        decode(b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01\x76\x05")


def test_tic_has_the_common_keys_beside_its_own(decode):
    from tests.app.protocol.tic import synthetic as tic

    _, out = decode(tic.files()["std_hc_mono.bin"], "--json")
    found = json.loads(out)

    assert set(found) >= KEYS
    assert (found["kind"], found["messages"], len(found["readings"]), found["frames"]) == ("tic", 3, 3, 3)
    assert found["discovered"] == [{"dialect": "tic", "device": "041961xxxxxx", "facts": {}}]


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr("app.hub.capture_findings.MAX_READINGS_KEPT", 2)
    monkeypatch.setattr("app.hub.capture_findings.MAX_NOTES_KEPT", 2)
    log = (
        b"fake/a/power 1\n" * 5
        + b"fake/a/lwt on\n" * 5
        + b"fake/a/x 1\n" * 5
        + b"".join(b"n/%d 1\n" % n for n in range(5))
    )
    found = read_mqtt([log], Dialects([FakeDialect()]))

    assert (found.readings_made, len(found.readings), len(found.presence), len(found.quarantined)) == (5, 2, 2, 2)
    assert found.reasons == {"format": 5}
    assert found.unclaimed == {"n/0": 1, "n/1": 1, "...": 3}
    assert "5 (the first 2 are shown)" in "\n".join(as_table(found, "x", show_ids=False))


def test_nothing_is_a_finding_too():
    assert set(as_json(Findings("mqtt"), show_ids=False)) >= KEYS
    assert not Findings("mqtt").anything
