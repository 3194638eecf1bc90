"""Discovery configs: keys long and short, `~`, whole devices, wrong types."""

from __future__ import annotations

import msgspec
import pytest

from app.protocol.codec import Reason, Refused
from app.protocol.home_assistant_config import (
    MAX_AVAILABILITIES,
    MAX_COMPONENTS,
    MAX_CONFIG_BYTES,
    ConfigTopic,
    parse_config,
    parse_config_topic,
)

WHERE = ConfigTopic("sensor", "node", "power")
LONG = {
    "name": "Power",
    "unique_id": "u1",
    "object_id": "o1",
    "state_topic": "a/b",
    "value_template": "{{ value }}",
    "unit_of_measurement": "W",
    "device_class": "power",
    "expire_after": 60,
    "availability": [
        {"topic": "a/up", "payload_available": "1", "payload_not_available": "0", "value_template": "{{ value }}"}
    ],
    "availability_mode": "all",
    "device": {
        "identifiers": ["id1", "id2"],
        "name": "Meter",
        "manufacturer": "Maker",
        "model": "M1",
        "sw_version": "1.2",
        "hw_version": 3,
        "connections": [["mac", "02:00:00:00:00:01"]],
    },
}
SHORT = {
    "name": "Power",
    "uniq_id": "u1",
    "obj_id": "o1",
    "stat_t": "a/b",
    "val_tpl": "{{ value }}",
    "unit_of_meas": "W",
    "dev_cla": "power",
    "exp_aft": 60,
    "avty": [{"t": "a/up", "pl_avail": "1", "pl_not_avail": "0", "val_tpl": "{{ value }}"}],
    "avty_mode": "all",
    "dev": {
        "ids": ["id1", "id2"],
        "name": "Meter",
        "mf": "Maker",
        "mdl": "M1",
        "sw": "1.2",
        "hw": 3,
        "cns": [["mac", "02:00:00:00:00:01"]],
    },
}


def one(config, where=WHERE):
    entities = parse_config(where, msgspec.json.encode(config))
    assert len(entities) == 1
    return entities[0]


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("homeassistant/sensor/power/config", ConfigTopic("sensor", "", "power")),
        ("homeassistant/sensor/node/power/config", ConfigTopic("sensor", "node", "power")),
        ("homeassistant/device/0x1/config", ConfigTopic("device", "", "0x1")),
        ("homeassistant/config", None),
        ("homeassistant/sensor/config", None),
        ("homeassistant/sensor/a/b/c/config", None),
        ("homeassistant/sensor//power/config", None),
        ("homeassistant/status", None),
        ("other/sensor/power/config", None),
        ("homeassistant/sensor/power/confi", None),
        ("homeassistant/sensor/" + "x" * 600 + "/config", None),
    ],
)
def test_the_topic(topic, expected):
    assert parse_config_topic(topic) == expected


def test_another_prefix():
    assert parse_config_topic("ha/sensor/power/config", "ha") == ConfigTopic("sensor", "", "power")
    assert parse_config_topic("homeassistant/sensor/power/config", "ha") is None


def comparable(entity):
    """An entity with its templates as text: they have no equality."""
    plain = {name: getattr(entity, name) for name in entity.__dataclass_fields__}
    plain["template"] = entity.template.text
    plain["availabilities"] = [
        (each.topic, each.template and each.template.text, each.available, each.not_available)
        for each in entity.availabilities
    ]
    return plain


def test_long_and_short_keys_say_the_same():
    long, short = comparable(one(LONG)), comparable(one(SHORT))
    assert long == short
    assert long["state_topic"] == "a/b"
    assert long["availabilities"] == [("a/up", "{{ value }}", "1", "0")]
    assert long["availability_mode"] == "all"
    assert long["expire_after_s"] == 60
    device = long["device"]
    assert (device.id, device.name, device.maker, device.model) == ("id1", "Meter", "Maker", "M1")
    assert (device.firmware, device.hardware, device.mac) == ("1.2", "3", "02:00:00:00:00:01")
    assert long["names"] == ("power", "o1", "u1", "Power")


def test_a_long_key_wins():
    assert one(LONG | {"stat_t": "other"}).state_topic == "a/b"


def test_the_tilde_stands_at_the_beginning_or_the_end():
    config = {"~": "home/linky", "stat_t": "~/PAPP", "avty_t": "status/~", "cmd_t": "x/~/y", "dev": {"ids": "i"}}
    entity = one(config)
    assert entity.state_topic == "home/linky/PAPP"
    assert entity.availabilities[0].topic == "status/home/linky"
    assert entity.command_topic == "x/~/y"


def test_availability_as_one_topic():
    config = {"stat_t": "s", "avty_t": "n/status", "pl_avail": "yes", "pl_not_avail": "no", "dev": {"ids": ["i"]}}
    assert [(a.topic, a.available, a.not_available) for a in one(config).availabilities] == [("n/status", "yes", "no")]
    plain = one({"stat_t": "s", "avty_t": "n/status", "dev": {"ids": ["i"]}})
    assert [(a.available, a.not_available) for a in plain.availabilities] == [("online", "offline")]
    assert plain.availability_mode == "latest"


def test_the_id_may_be_one_text_a_list_a_connection_or_the_node():
    assert one({"stat_t": "s", "dev": {"ids": "alone"}}).device.id == "alone"
    assert one({"stat_t": "s", "dev": {"ids": [17, "b"]}}).device.id == "17"
    # TICMeter has a connection and no identifier.
    assert one({"stat_t": "s", "dev": {"cns": [["SN", "T-7"]]}}).device.id == "T-7"
    assert one({"stat_t": "s"}).device.id == "node"
    assert parse_config(ConfigTopic("sensor", "", "power"), b'{"stat_t":"s"}') == []
    assert parse_config(ConfigTopic("sensor", "", "power"), b'{"stat_t":"s","dev":{"name":"x"}}') == []


def test_a_whole_device_in_one_message():
    message = {
        "dev": {"ids": "ea334450945afc", "name": "Kitchen"},
        "o": {"name": "gateway"},
        "~": "plug",
        "stat_t": "~/state",
        "avty_t": "~/up",
        "cmps": {
            "p1": {"p": "sensor", "dev_cla": "power", "unit_of_meas": "W", "val_tpl": "{{ value_json.power }}"},
            "e1": {"p": "sensor", "stat_t": "~/energy", "unit_of_meas": "kWh", "uniq_id": "e1x"},
            "gone": {"p": "sensor"},
            "odd": 7,
            "no platform": {"stat_t": "x"},
        },
    }
    entities = parse_config(ConfigTopic("device", "", "0AFFD2"), msgspec.json.encode(message))
    assert [(e.component, e.state_topic, e.unit, e.key) for e in entities] == [
        ("sensor", "plug/state", "W", "0AFFD2/p1"),
        ("sensor", "plug/energy", "kWh", "0AFFD2/e1"),
    ]
    assert all(e.device.id == "ea334450945afc" and e.availabilities[0].topic == "plug/up" for e in entities)


def test_bounds():
    many = {"dev": {"ids": "i"}, "cmps": {f"c{n}": {"p": "sensor", "stat_t": "s"} for n in range(MAX_COMPONENTS + 50)}}
    assert len(parse_config(ConfigTopic("device", "", "x"), msgspec.json.encode(many))) == MAX_COMPONENTS
    wide = {"dev": {"ids": "i"}, "stat_t": "s", "avty": [{"t": f"t{n}"} for n in range(100)]}
    assert len(one(wide).availabilities) == MAX_AVAILABILITIES
    with pytest.raises(Refused) as refused:
        parse_config(WHERE, b" " * (MAX_CONFIG_BYTES + 1))
    assert refused.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", Reason.SYNTAX),
        (b"\xff\xfe", Reason.SYNTAX),
        (b"[1]", Reason.TYPE),
        (b'"text"', Reason.TYPE),
        (b"[" * 20_000 + b"]" * 20_000, Reason.NESTING),
    ],
)
def test_what_is_no_config(payload, reason):
    with pytest.raises(Refused) as refused:
        parse_config(WHERE, payload)
    assert refused.value.reason is reason


@pytest.mark.parametrize("topic", ["a/+/b", "a/#", "", "x\0y", "t" * 600, 7, None, ["a"]])
def test_topics_that_can_not_be_one(topic):
    assert one({"stat_t": topic, "dev": {"ids": "i"}}).state_topic is None


@pytest.mark.parametrize("given", [True, -1, 0, "soon", 1e400, [60], 1e12, None])
def test_expiries_that_are_none(given):
    text = b"1e400" if given == float("inf") else msgspec.json.encode(given)
    payload = b'{"stat_t":"s","dev":{"ids":"i"},"exp_aft":' + text + b"}"
    try:
        entities = parse_config(WHERE, payload)
    except Refused:
        return  # not even JSON to our decoder
    assert entities[0].expire_after_s is None


def test_an_expiry_as_text():
    assert one({"stat_t": "s", "dev": {"ids": "i"}, "exp_aft": "120"}).expire_after_s == 120
