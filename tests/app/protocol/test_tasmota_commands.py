"""Commands to Tasmota, and which answers acknowledge them."""

from __future__ import annotations

import json

import pytest

from app.protocol.foreign import Facts, Presence, Sending
from app.protocol.messages import Ack, Cmd, Fota
from app.protocol.tasmota import Tasmota
from app.protocol.tasmota_commands import ANSWER_WITHIN_US, LONGEST_URL

NOW_US = 1_790_000_000_000_000
URL = "http://192.0.2.1:8080/tasmota32.bin"


def command(name, id_="c-1", **args):
    return Cmd(id=id_, name=name, args=args or None)


def known(topic="tele/plug/LWT"):
    dialect = Tasmota()
    hears(dialect, topic, b"Online")
    return dialect


def hears(dialect, topic, message, *, after_us=0, retained=False):
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    return [one.what for one in dialect.take(topic, payload, retained=retained, arrival_us=NOW_US + after_us)]


def acks(heard):
    return [what for what in heard if isinstance(what, Ack)]


# --- What is sent ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "args", "messages"),
    [
        ("reboot", {}, [("Restart", b"1")]),
        ("reboot", {"delay_s": 0}, [("Restart", b"1")]),
        ("diagnose", {}, [("Status", b"0")]),
        ("set_period", {"period_ms": 60_000}, [("TelePeriod", b"60")]),
        ("set_period", {"period_ms": 1_000}, [("TelePeriod", b"10")]),
        ("set_period", {"period_ms": 86_400_000}, [("TelePeriod", b"3600")]),
        ("update", {"url": URL, "job": "r-1"}, [("OtaUrl", URL.encode()), ("Upgrade", b"1")]),
    ],
)
def test_commands_as_tasmota_takes_them(name, args, messages):
    sent = known().send("plug", command(name, **args))

    assert sent == [Sending(f"cmnd/plug/{last}", payload) for last, payload in messages]
    assert {(one.qos, one.retain) for one in sent} == {(1, False)}


@pytest.mark.parametrize(
    ("name", "args"),
    [
        # Tasmota restarts at once or not at all.
        ("reboot", {"delay_s": 5}),
        ("set_period", {}),
        ("set_period", {"period_ms": "x"}),
        ("set_period", {"period_ms": True}),
        ("update", {}),
        ("update", {"url": "ftp://192.0.2.1/x.bin"}),
        ("update", {"url": "http://"}),
        ("update", {"url": "http://[x"}),
        ("update", {"url": f"{URL} x"}),
        ("update", {"url": f"{URL}\n"}),
        ("update", {"url": "http://192.0.2.1/é.bin"}),
        ("update", {"url": "http://192.0.2.1/" + "x" * LONGEST_URL}),
        ("update", {"url": 5}),
        ("identify", {}),
        ("send_log", {}),
        ("sync_clock", {}),
        ("Backlog", {}),
    ],
)
def test_what_tasmota_can_not_do_is_none(name, args):
    dialect = known()

    assert dialect.send("plug", command(name, **args)) is None
    assert dialect._devices["plug"].conversation._awaited == {}


@pytest.mark.parametrize(
    ("topic", "device", "expected"),
    [
        ("tele/plug/LWT", "plug", "cmnd/plug/Restart"),
        ("site/town/plug/tele/LWT", "plug", "site/town/plug/cmnd/Restart"),
        ("home/tele/plug/LWT", "plug", "home/cmnd/plug/Restart"),
        # Nothing was heard of it: as Tasmota is delivered.
        ("tele/plug/LWT", "other", "cmnd/other/Restart"),
    ],
)
def test_commands_go_where_the_device_listens(topic, device, expected):
    (sent,) = known(topic).send(device, command("reboot"))

    assert sent.topic == expected


def test_commands_go_where_discovery_says():
    dialect = Tasmota()
    config = {"t": "plug", "ft": "site/%topic%/", "tp": ["do", "did", "says"]}
    hears(dialect, "tasmota/discovery/02005E100001/config", config, retained=True)

    (sent,) = dialect.send("plug", command("reboot"))

    assert sent.topic == "site/plug/do/Restart"


@pytest.mark.parametrize("device", ["", "#", "a/+/b", "a\x00", "x" * 200])
def test_what_can_not_be_a_topic_gets_nothing(device):
    assert Tasmota().send(device, command("reboot")) is None


def test_a_guess_where_a_device_listens_is_corrected_by_what_is_heard():
    dialect = Tasmota()
    dialect.send("plug", command("reboot"))
    hears(dialect, "site/plug/tele/LWT", b"Online", retained=True)

    (sent,) = dialect.send("plug", command("reboot"))

    assert sent.topic == "site/plug/cmnd/Restart"


# --- What is answered -----------------------------------------------------------------------------------------------


def test_a_reboot_is_accepted_and_done_when_it_is_back():
    dialect = known()
    dialect.send("plug", command("reboot"))
    dialect.due(NOW_US)
    accepted = hears(dialect, "stat/plug/RESULT", {"Restart": "Restarting"}, after_us=2_000_000)
    gone = hears(dialect, "tele/plug/LWT", b"Offline", after_us=3_000_000)
    back = hears(dialect, "tele/plug/LWT", b"Online", after_us=12_000_000)
    again = hears(dialect, "tele/plug/LWT", b"Online", after_us=13_000_000)

    assert accepted == [Ack(id="c-1", result="accepted", took_ms=2000)]
    assert gone == [Presence(online=False)]
    assert back == [Presence(online=True), Ack(id="c-1", result="done", took_ms=10_000)]
    assert again == [Presence(online=True)]


def test_a_retained_will_is_no_return():
    dialect = known()
    dialect.send("plug", command("reboot"))
    hears(dialect, "stat/plug/RESULT", {"Restart": "Restarting"})

    assert hears(dialect, "tele/plug/LWT", b"Online", retained=True) == [Presence(online=True)]


def test_being_there_does_not_answer_a_reboot_that_was_not_accepted():
    dialect = known()
    dialect.send("plug", command("reboot"))

    assert hears(dialect, "tele/plug/LWT", b"Online") == [Presence(online=True)]


def test_a_period_is_answered_with_the_one_it_has():
    dialect = known()
    dialect.send("plug", command("set_period", period_ms=1_000))
    facts, ack = hears(dialect, "stat/plug/RESULT", {"TelePeriod": 10})

    assert facts == Facts(period_ms=10_000)
    assert (ack.id, ack.result, ack.data) == ("c-1", "done", {"period_ms": 10_000})
    assert "10 s" in ack.detail


def test_a_period_that_fits_needs_no_words():
    dialect = known()
    dialect.send("plug", command("set_period", period_ms=60_000))

    assert acks(hears(dialect, "stat/plug/RESULT", {"TelePeriod": 60}))[0].detail is None


def test_answers_may_come_under_the_name_of_the_command():
    dialect = known()
    dialect.send("plug", command("set_period", period_ms=60_000))

    assert acks(hears(dialect, "stat/plug/TELEPERIOD", {"TelePeriod": 60}))


def test_the_last_command_of_a_kind_is_answered():
    dialect = known()
    dialect.send("plug", command("set_period", "c-1", period_ms=60_000))
    dialect.send("plug", command("set_period", "c-2", period_ms=30_000))

    assert [ack.id for ack in acks(hears(dialect, "stat/plug/RESULT", {"TelePeriod": 30}))] == ["c-2"]
    assert not acks(hears(dialect, "stat/plug/RESULT", {"TelePeriod": 30}))


@pytest.mark.parametrize(("after_us", "answered"), [(ANSWER_WITHIN_US, True), (ANSWER_WITHIN_US + 1, False)])
def test_an_answer_in_time_counts(after_us, answered):
    dialect = known()
    dialect.send("plug", command("set_period", period_ms=60_000))
    dialect.due(NOW_US)

    assert bool(acks(hears(dialect, "stat/plug/RESULT", {"TelePeriod": 60}, after_us=after_us))) is answered


def test_what_was_not_answered_is_given_up():
    dialect = known()
    dialect.send("plug", command("set_period", period_ms=60_000))
    dialect.send("other", command("diagnose"))
    dialect.due(NOW_US)
    assert dialect._asked == {"plug", "other"}
    dialect.due(NOW_US + ANSWER_WITHIN_US + 1)

    assert not dialect._asked
    assert not any(device.conversation.is_open for device in dialect._devices.values())


def test_what_nobody_asked_for_answers_nothing():
    dialect = known()

    assert hears(dialect, "stat/plug/RESULT", {"TelePeriod": 60}) == [Facts(period_ms=60_000)]
    assert hears(dialect, "stat/plug/RESULT", {"Restart": "Restarting"}) == []
    assert hears(dialect, "stat/plug/RESULT", {"Command": "Unknown"}) == []
    assert hears(dialect, "stat/plug/RESULT", {"EnergyTotal": {"Total": 0.0}}) == []


def test_a_retained_answer_answers_nothing():
    dialect = known()
    dialect.send("plug", command("set_period", period_ms=60_000))

    assert hears(dialect, "stat/plug/RESULT", {"TelePeriod": 60}, retained=True) == [Facts(period_ms=60_000)]


def test_another_device_answers_for_itself():
    dialect = known()
    dialect.send("plug", command("set_period", period_ms=60_000))

    assert not acks(hears(dialect, "stat/other/RESULT", {"TelePeriod": 60}))


@pytest.mark.parametrize(("word", "result"), [("Unknown", "unknown"), ("Error", "failed")])
def test_a_command_it_does_not_know(word, result):
    dialect = known()
    dialect.send("plug", command("set_period", "c-1", period_ms=60_000))
    dialect.send("plug", command("diagnose", "c-2"))
    (ack,) = hears(dialect, "stat/plug/RESULT", {"Command": word})

    assert (ack.id, ack.result) == ("c-2", result)


def test_a_diagnosis_is_accepted_with_the_first_answer_and_done_with_the_state():
    dialect = known()
    dialect.send("plug", command("diagnose"))
    first = hears(dialect, "stat/plug/STATUS", {"Status": {"DeviceName": "Oven"}})
    second = hears(dialect, "stat/plug/STATUS2", {"StatusFWR": {"Version": "14.2.0", "Hardware": "ESP32"}})
    wifi = {"SSId": "example", "Signal": -70, "Channel": 6}
    last = hears(dialect, "stat/plug/STATUS11", {"StatusSTS": {"UptimeSec": 60, "Wifi": wifi}})

    assert [ack.result for ack in acks(first)] == ["accepted"]
    assert not acks(second)
    (done,) = acks(last)
    assert (done.result, done.data) == (
        "done",
        {"firmware": "14.2.0", "hardware": "ESP32", "uptime_s": 60, "rssi_dbm": -70, "channel": 6},
    )


# --- Updates --------------------------------------------------------------------------------------------------------


def updating():
    dialect = known()
    hears(dialect, "stat/plug/STATUS2", {"StatusFWR": {"Version": "13.1.0"}})
    dialect.send("plug", command("update", url=URL, job="r-1"))
    return dialect


def test_an_update_from_the_command_to_the_new_firmware():
    dialect = updating()
    first = hears(dialect, "stat/plug/RESULT", {"OtaUrl": URL})
    begun = hears(dialect, "stat/plug/RESULT", {"Upgrade": f"Version 13.1.0 from {URL}"})
    written = hears(dialect, "stat/plug/UPGRADE", {"Upgrade": "Successful. Restarting"}, after_us=90_000_000)
    hears(dialect, "tele/plug/LWT", b"Online", after_us=100_000_000)
    step = hears(dialect, "tele/plug/INFO1", {"Info1": {"Version": "14.2.0(minimal)"}}, after_us=101_000_000)
    runs = hears(dialect, "tele/plug/INFO1", {"Info1": {"Version": "14.2.0"}}, after_us=190_000_000)

    assert first == []
    assert begun[0] == Fota(job="r-1", phase="downloading")
    assert acks(begun)[0].result == "accepted"
    assert written == [Fota(job="r-1", phase="rebooting", percent=100, from_firmware="13.1.0")]
    assert step == [Facts(firmware="14.2.0(minimal)")]
    assert runs[0] == Facts(firmware="14.2.0")
    assert (runs[1].phase, runs[1].job, runs[1].to_firmware) == ("done", "r-1", "14.2.0")
    assert [(ack.result, ack.data) for ack in acks(runs)] == [("done", {"firmware": "14.2.0"})]


@pytest.mark.parametrize("payload", [b'{"Upgrade":"Failed Wrong HTTP Code"}', b"Failed Wrong HTTP Code"])
def test_a_download_that_failed(payload):
    dialect = updating()
    hears(dialect, "stat/plug/RESULT", {"Upgrade": f"Version 13.1.0 from {URL}"})
    failed, ack = hears(dialect, "stat/plug/UPGRADE", payload)

    assert (failed.phase, failed.error, failed.job) == ("failed", "download", "r-1")
    assert (ack.result, ack.detail) == ("failed", "Failed Wrong HTTP Code")


def test_an_update_that_is_refused():
    (ack,) = hears(updating(), "stat/plug/RESULT", {"Upgrade": "1 or >13.1.0 to upgrade"})

    assert (ack.result, ack.detail) == ("failed", "1 or >13.1.0 to upgrade")


def test_somebody_elses_update_is_told_too():
    dialect = known()

    assert hears(dialect, "stat/plug/RESULT", {"Upgrade": "Version 13.1.0 from x"}) == [Fota(phase="downloading")]
    assert hears(dialect, "stat/plug/UPGRADE", {"Upgrade": "Successful. Restarting"})[0].phase == "rebooting"


@pytest.mark.parametrize("payload", [b"", b"\xff", b"{}", b'{"Upgrade":5}', b"[", b"hello"])
def test_other_words_of_an_upgrade_say_nothing(payload):
    assert hears(updating(), "stat/plug/UPGRADE", payload) == []
