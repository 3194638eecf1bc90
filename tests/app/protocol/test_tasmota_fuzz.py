"""Whatever is sent to it, the Tasmota dialect answers with readings within bounds, or a refusal; it never raises."""

from __future__ import annotations

import json

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.reading import Reading
from app.protocol import foreign
from app.protocol.codec import Reason
from app.protocol.foreign import Facts, Presence, Refusal, Sending
from app.protocol.messages import Ack, Bssid, Channel, Cmd, Fota, PeriodMs, ShortText, Ssid
from app.protocol.tasmota import Tasmota

NOW_US = 1_790_000_000_000_000
KINDS = [
    "LWT",
    "STATE",
    "SENSOR",
    "LIVE",
    "TIC",
    "INFO1",
    "INFO3",
    "RESULT",
    "STATUS",
    "STATUS10",
    "UPGRADE",
    "RESTART",
]
TOPICS = (
    st.sampled_from([f"tele/plug/{kind}" for kind in KINDS])
    | st.sampled_from([f"site/plug/stat/{kind}" for kind in KINDS])
    | st.sampled_from(["tasmota/discovery/02005E100001/config", "tasmota/discovery/02005E100001/sensors"])
    | st.lists(st.sampled_from(["tele", "stat", "", "+", "#", "plug", "tasmota", "discovery", "LWT", "SENSOR"])).map(
        "/".join
    )
    | st.text(max_size=40)
)
LABELS = "ADCO ADSC OPTARIF PTEC BASE HCHC HCHP PAPP IINST EAST EASF01 SINSTS STGE DATE NTARF URMS1 ADPS EAIT PPOT PREF"
# The right keys, in the right places; what stands under them may be anything.
KEYS_OF_SECTION = {
    "ENERGY": "Power ApparentPower Total ExportActive Voltage Current Load",
    "TIC": LABELS,
    "METER": "P W PP PW I I1 I2 U1 U2",
    "CONTRACT": "CONSO PROD HC.. HP.. NUIT serial period hour color",
    "ALERT": "volt load Volt Load",
    "Wifi": "Signal RSSI SSId BSSId APMac Channel LinkCount Downtime",
    "StatusFWR": "Version Hardware",
    "StatusPRM": "RestartReason Uptime",
    "StatusLOG": "TelePeriod",
    "StatusNET": "IPAddress Mac",
    "Status": "DeviceName FriendlyName",
    "Info1": "Module Version RestartReason IPAddress",
}
OTHER_KEYS = "Time Epoch UptimeSec Uptime Upgrade Restart TelePeriod Command"
CONFIG_KEYS = "t ft tp mac md sw ip dn fn hn onln ofln sn"
HUGE = 10**400
NUMBERS = [None, True, False, 0, -1, 1, 170, 2**31, 2**53 + 1, 2**64, HUGE, -HUGE, 0.5, 1e308, -1e308, -0.0]
TEXTS = [
    "",
    " ",
    "5",
    "-3.5",
    "1" * 40,
    "1e9",
    "x" * 300,
    "\x00",
    "\u0663",
    "Online",
    "Successful",
    "Version 1",
    "HC..",
]
TIMES = ["0T00:00:04", "99999T99:99:99", "2026-05-01T10:00:00Z", "9999-12-31T23:59:59-14:00", "E260501100000"]
WORDS = ["E269999999999", "012345678901", "003A0001", "%prefix%/%topic%/", "%topic%", "a/+/b", "plug", "#", "Unknown"]
LISTS = [[], [1, 2, 3], [HUGE], [None], ["cmnd", "stat", "tele"], ["a", "b"], [[1]], {}, {"Power": 1}, {"a": {"a": 1}}]
HOSTILE = st.sampled_from([*NUMBERS, *TEXTS, *TIMES, *WORDS, *LISTS])


def objects(keys, values=HOSTILE):
    return st.dictionaries(st.sampled_from(keys.split()), values, max_size=6)


SECTIONS = {name: objects(keys) | HOSTILE for name, keys in KEYS_OF_SECTION.items()}
FLAT = st.fixed_dictionaries({}, optional=SECTIONS | dict.fromkeys(OTHER_KEYS.split(), HOSTILE))
VALUES = HOSTILE
OBJECTS = (
    FLAT
    | FLAT.map(lambda inner: {"StatusSNS": inner, "StatusSTS": inner})
    | objects(LABELS)
    | objects(CONFIG_KEYS)
    | st.fixed_dictionaries({"t": st.just("plug")}, optional=dict.fromkeys(CONFIG_KEYS.split()[1:], HOSTILE))
)
PAYLOADS = st.binary(max_size=60) | OBJECTS.map(lambda value: json.dumps(value).encode())
MESSAGES = st.lists(st.tuples(TOPICS, PAYLOADS, st.booleans(), st.integers(-(10**9), 10**10)), max_size=6)
COMMANDS = st.builds(
    Cmd,
    id=st.text(min_size=1, max_size=5),
    name=st.sampled_from(["reboot", "diagnose", "set_period", "update", "other"]),
    args=st.none() | st.dictionaries(st.sampled_from(["period_ms", "url", "delay_s", "job"]), VALUES, max_size=4),
)


class Bounds(msgspec.Struct):
    """What the rest of the platform expects of facts."""

    name: ShortText | None = None
    model: ShortText | None = None
    firmware: ShortText | None = None
    hardware: ShortText | None = None
    meter_kind: ShortText | None = None
    meter_serial: ShortText | None = None
    ip: ShortText | None = None
    mac: Bssid | None = None
    ssid: Ssid | None = None
    bssid: Bssid | None = None
    channel: Channel | None = None
    reset_reason: ShortText | None = None
    period_ms: PeriodMs | None = None


def check(what) -> None:
    """That the decoder of our own messages would take it, which checks every bound."""
    if isinstance(what, Reading | Ack | Fota | Presence):
        assert msgspec.json.decode(msgspec.json.encode(what), type=type(what)) == what
        assert what != Reading()
    elif isinstance(what, Facts):
        msgspec.json.decode(msgspec.json.encode(what), type=Bounds)
        assert what.rssi_dbm is None or -127 <= what.rssi_dbm < 0
        assert what != Facts()
    else:
        assert isinstance(what, Refusal)
        assert what.reason in {*Reason, "too_many_devices"}
        assert len(what.detail) < 200


@settings(max_examples=300, deadline=None)
@given(messages=MESSAGES, command=COMMANDS)
def test_anything_may_be_sent(messages, command):
    dialect = Tasmota()
    sent = dialect.send("plug", command)
    for topic, payload, retained, after_us in messages:
        heard = list(dialect.take(topic, payload, retained=retained, arrival_us=NOW_US + after_us))
        for one in heard:
            check(one.what)
            assert isinstance(one.device, str)
            assert not (retained and isinstance(one.what, Reading))
        assert dialect.claims(topic) or not heard
        assert dialect.due(NOW_US + after_us) == ()
    for device in ("plug", *dialect._devices):
        sent = dialect.send(device, command)
        assert sent is None or all(isinstance(one, Sending) and "+" not in one.topic for one in sent)
    for device in list(dialect._devices):
        dialect.forget(device)
    assert not dialect._devices
    assert not dialect._topics._roots_of


@settings(max_examples=300, deadline=None)
@given(
    sections=st.fixed_dictionaries(
        {}, optional={name: SECTIONS[name] for name in ("ENERGY", "TIC", "METER", "CONTRACT", "ALERT")}
    )
)
def test_a_message_of_values_gives_one_reading_at_most(sections):
    payload = json.dumps(sections).encode()
    heard = Tasmota().take("tele/plug/SENSOR", payload, retained=False, arrival_us=NOW_US)

    assert sum(isinstance(one.what, Reading) for one in heard) <= 1
    for one in heard:
        check(one.what)


@settings(max_examples=300, deadline=None)
@given(
    frames=st.lists(
        st.dictionaries(
            st.sampled_from(LABELS.split()),
            st.integers(0, 99)
            | st.integers()
            | st.sampled_from(["HC..", "HP..", "BASE", "012345678901", "E260501100000"]),
            min_size=1,
            max_size=8,
        ),
        max_size=6,
    )
)
def test_frames_in_any_order_stay_within_bounds(frames):
    dialect = Tasmota()
    for frame in frames:
        payload = json.dumps({"TIC": frame}).encode()
        for one in dialect.take("tele/plug/SENSOR", payload, retained=False, arrival_us=NOW_US):
            check(one.what)


def test_the_dialect_is_one():
    dialect: foreign.Dialect = Tasmota()

    assert dialect.name == "tasmota"
    assert set(foreign.Dialect.__annotations__) <= set(dir(dialect))
