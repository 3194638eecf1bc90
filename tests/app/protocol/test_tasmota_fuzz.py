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
LABELS = [
    "ADCO",
    "ADSC",
    "OPTARIF",
    "PTEC",
    "BASE",
    "HCHC",
    "HCHP",
    "PAPP",
    "IINST",
    "EAST",
    "EASF01",
    "SINSTS",
    "STGE",
]
LABELS += ["DATE", "NTARF", "URMS1", "ADPS", "EAIT", "PPOT", "PREF", "ISOUSC"]
KEYS = st.sampled_from(
    (
        "ENERGY TIC METER CONTRACT ALERT Wifi Time Epoch UptimeSec Uptime StatusSNS StatusSTS StatusFWR StatusLOG "
        "StatusNET StatusPRM Status Info1 Upgrade Restart TelePeriod Command t ft tp mac md sw ip dn fn hn onln ofln sn "
        "Power ApparentPower Total ExportActive Voltage Current Load P W PP PW I I1 U1 CONSO PROD HC.. HP.. serial "
        "period hour color volt load Signal RSSI SSId BSSId Channel LinkCount Downtime Version Module RestartReason "
        "Hardware " + " ".join(LABELS)
    ).split()
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["012345678901", "HC..", "HP..", "BASE", "E260501100000", "003A0001", "0T00:00:04", "Online"])
    | st.sampled_from(["%prefix%/%topic%/", "plug", "cmnd", "2026-05-01T10:00:00Z", "1" * 30, "3.5", "Successful", "٣"])
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=15
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=8)
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


@settings(max_examples=150, deadline=None)
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


@settings(max_examples=150, deadline=None)
@given(sections=st.fixed_dictionaries({}, optional=dict.fromkeys(["ENERGY", "TIC", "METER", "CONTRACT"], OBJECTS)))
def test_a_message_of_values_gives_one_reading_at_most(sections):
    payload = json.dumps(sections).encode()
    heard = Tasmota().take("tele/plug/SENSOR", payload, retained=False, arrival_us=NOW_US)

    assert sum(isinstance(one.what, Reading) for one in heard) <= 1
    for one in heard:
        check(one.what)


@settings(max_examples=150, deadline=None)
@given(
    frames=st.lists(
        st.dictionaries(
            st.sampled_from(LABELS),
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
