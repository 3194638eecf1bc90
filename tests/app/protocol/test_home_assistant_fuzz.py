"""Anything at all: the generic dialect never raises, and what it gives can be stored."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.domain.reading import Reading
from app.protocol.foreign import Heard
from app.protocol.home_assistant import HomeAssistant
from app.protocol.home_assistant_config import _LONG, _LONG_IN_DEVICE
from app.protocol.messages import Cmd
from app.protocol.tic.labels import LABELS

_TOPICS = st.sampled_from(
    [
        "a",
        "a/b",
        "a/status",
        "a/debug",
        "zigbee2mqtt/x",
        "zigbee2mqtt/x/availability",
        "zigbee2mqtt/bridge/state",
        "zigbee2mqtt/bridge/devices",
        "z/bridge/state",
        "z/y",
        "teleinfo/042261000001",
        "teleinfo/status",
        "wd/v1/m/X/tele",
        "/",
        "",
    ]
) | st.text(max_size=20)
_CONFIG_TOPICS = st.builds(
    "homeassistant/{}/{}/config".format,
    st.sampled_from(["sensor", "binary_sensor", "update", "button", "device", "light", "x"]),
    st.sampled_from(["a/power", "a/HCHC", "energy", "EASF01", "a/b", "papp", "a/", "#"]) | st.text(max_size=8),
)
_NUMBERS = st.integers() | st.floats() | st.sampled_from([2**63, 2**1100, -32768, 65535, 0, -1, 1e308, True])
_PLAIN = st.none() | st.booleans() | _NUMBERS | st.text(max_size=20) | _TOPICS
_ANY = st.recursive(
    _PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
_TEMPLATES = st.sampled_from(
    [
        "{{ value }}",
        "{{ value_json.a }}",
        "{{ value_json['a'][0] }}",
        "{{ value_json.a | float(0) * 1000 }}",
        "{{ value_json.a / value_json.b }}",
        "{{ value_json.HCHC.value }}",
        "{{ value | int }}",
        "{{ as_datetime(value) }}",
    ]
) | st.text(max_size=30)
_LIKELY = {
    "stat_t": _TOPICS,
    "~": st.text(max_size=5),
    "val_tpl": _TEMPLATES,
    "unit_of_meas": st.sampled_from(["W", "kW", "VA", "kWh", "Wh", "V", "A", "dBm", "s", "%", "lqi"]),
    "dev_cla": st.sampled_from(["power", "energy", "voltage", "connectivity", "restart", "firmware"]),
    "dev": st.fixed_dictionaries({"ids": st.sampled_from(["d1", ["d2"], "042261000001"])}),
    "avty": st.lists(st.fixed_dictionaries({"t": _TOPICS}, optional={"val_tpl": _TEMPLATES}), max_size=2),
    "avty_t": _TOPICS,
    "exp_aft": _NUMBERS,
    "cmd_t": _TOPICS,
    "pl_inst": st.text(max_size=4),
    "l_ver_t": _TOPICS,
    "l_ver_tpl": _TEMPLATES,
}
_OF_DEVICE = {*_LONG_IN_DEVICE, *_LONG_IN_DEVICE.values()}
_FIXED = ("stat_t", "unit_of_meas", "dev_cla", "dev")
_KEYS = st.sampled_from([*_LONG, *_LONG.values(), *_LONG_IN_DEVICE])
_ONE_CONFIG = st.one_of(
    st.fixed_dictionaries({}, optional=_LIKELY),
    st.fixed_dictionaries(
        {key: _LIKELY[key] for key in _FIXED},
        optional={key: likely for key, likely in _LIKELY.items() if key not in _FIXED},
    ),
    st.dictionaries(_KEYS, _ANY, max_size=8),
)
_CONFIGS = _ONE_CONFIG | st.builds(
    lambda device, parts: {"dev": {"ids": device}, "cmps": parts},
    st.sampled_from(["d1", "d3", 5]),
    st.dictionaries(st.text(max_size=4), _ONE_CONFIG | _ANY, max_size=3),
)
_ZLINKY_KEYS = [
    "apparent_power",
    "apparent_power_ph_b",
    "apparent_power_ph_c",
    "total_apparent_power",
    "current_summ_delivered",
    "currentSummDelivered",
    "current_summ_received",
    "current_tier1_summ_delivered",
    "currentTier2SummDelivered",
    "current_tarif",
    "active_register_tier_delivered",
    "current_index_tarif",
    "status_register",
    "meter_serial_number",
    "rms_current",
    "rms_voltage_ph_c",
    "injected_v_a",
    "linkquality",
    "last_seen",
    "device",
    "update",
    "state",
    "a",
    "b",
]
_ZLINKY_VALUES = _ANY | st.sampled_from(["BBRx", "HPJB", "HC..", "003A0401", "042263000001", {"state": "updating"}])
_STATES = st.one_of(
    st.dictionaries(st.sampled_from(_ZLINKY_KEYS), _ZLINKY_VALUES, max_size=10),
    st.dictionaries(
        st.sampled_from(sorted(LABELS)),
        _ANY | st.fixed_dictionaries({"raw": _ANY}, optional={"value": _ANY, "timestamp": _ANY}),
        max_size=8,
    ),
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "ieee_address": st.just("0x00158d0000000001") | _ANY,
                "friendly_name": st.just("x") | _ANY,
                "model_id": st.just("ZLinky_TIC") | _ANY,
                "definition": st.just({"model": "ZLinky_TIC"}) | _ANY,
            },
        ),
        max_size=3,
    ),
    _ANY,
)


def _json(tree: Any) -> bytes:
    """JSON as a careless program writes it: NaN, huge numbers and lone surrogates included."""
    import json

    return json.dumps(tree).encode("utf-8", "surrogatepass")


_PAYLOADS = st.one_of(
    st.binary(max_size=40), _STATES.map(_json), _NUMBERS.map(repr).map(str.encode), st.just(b"online"), st.just(b"")
)
_MESSAGES = st.lists(
    st.tuples(_CONFIG_TOPICS, _CONFIGS.map(_json) | st.binary(max_size=20)) | st.tuples(_TOPICS, _PAYLOADS),
    max_size=10,
)


def check(heard: list[Heard]) -> None:
    for device, what in heard:
        assert isinstance(device, str)
        # The bounds stand in the types: this is the check of the wire's decoder.
        built = msgspec.to_builtins(what, str_keys=True)
        assert msgspec.convert(built, type(what), str_keys=True) == what
        if isinstance(what, Reading):
            assert any(
                getattr(what, name) is not None
                for name in Reading.__struct_fields__
                if name not in {"time_ms", "state"}
            )
            for name in Reading.__struct_fields__:
                value = getattr(what, name)
                assert not isinstance(value, bool)
                assert not isinstance(value, float) or math.isfinite(value)


@settings(max_examples=150)
@given(messages=_MESSAGES, retained=st.booleans(), step_us=st.integers(-(10**9), 10**9))
@example(
    messages=[
        ("homeassistant/sensor/a/config", b'{"stat_t":"a","unit_of_meas":"W","dev":{"ids":"i"}}'),
        ("a", b"1e400"),
    ],
    retained=False,
    step_us=1,
)
@example(messages=[("zigbee2mqtt/x", b'{"current_tarif":"BASE","last_seen":1e400}')], retained=False, step_us=1)
@example(messages=[("zigbee2mqtt/x", b"[" * 100_000)], retained=False, step_us=1)
def test_any_messages(messages, retained, step_us):
    dialect = HomeAssistant()
    now_us = 10**15
    devices = set()
    for topic, payload in messages:
        dialect.claims(topic)
        heard = list(dialect.take(topic, payload, retained=retained, arrival_us=now_us))
        now_us += step_us
        heard += dialect.due(now_us)
        check(heard)
        devices |= {one.device for one in heard}
    check(list(dialect.due(now_us + 10**13)))
    for device in devices:
        for name in ("reboot", "update", "diagnose"):
            for sending in dialect.send(device, Cmd(id="1", name=name)) or ():
                assert not sending.topic.startswith(("wd/", "$"))
        dialect.forget(device)
    assert list(dialect.due(now_us + 10**14)) == []


@given(topic=st.text(), payload=st.binary())
def test_any_topic_and_any_bytes(topic, payload):
    dialect = HomeAssistant()
    dialect.claims(topic)
    check(list(dialect.take(topic, payload, retained=False, arrival_us=0)))


@given(payloads=st.lists(_PAYLOADS, max_size=6), template=_TEMPLATES, unit=_LIKELY["unit_of_meas"], name=_KEYS)
def test_any_value_of_an_entity(payloads, template, unit, name):
    dialect = HomeAssistant()
    for number, kind in enumerate((None, "power", "energy")):
        config = {"stat_t": "a", "val_tpl": template, "unit_of_meas": unit, "dev": {"ids": "i"}}
        config |= {"dev_cla": kind} if kind else {}
        dialect.take(f"homeassistant/sensor/{name}{number}/config", _json(config), retained=True, arrival_us=0)
    for at, payload in enumerate(payloads):
        check(list(dialect.take("a", payload, retained=False, arrival_us=at)))
    check(list(dialect.due(10**12)))


_ODD = (None, True, 5, -1, 1e300, 2**200, "", "x", "{{", "~", [], {}, [[]], [{}], [None], {"a": {}}, [["mac", {}]])


@pytest.mark.parametrize("key", sorted({*_LONG, *_LONG.values(), *_LONG_IN_DEVICE, *_LONG_IN_DEVICE.values(), "~"}))
def test_each_key_of_a_config_with_each_kind_of_value(key):
    base = {"state_topic": "a", "unit_of_measurement": "W", "availability_topic": "b", "command_topic": "a/set"}
    for odd in _ODD:
        dialect = HomeAssistant()
        for component in ("sensor", "update", "button", "binary_sensor", "device"):
            device = {"identifiers": ["d"], "name": "n"} | ({key: odd} if key in _OF_DEVICE else {})
            config = base | {"device": device} | {key: odd}
            part = {"platform": "sensor"} | base | {key: odd}
            config |= {"components": {"c": part, "odd": odd}} if component == "device" and key != "components" else {}
            heard = dialect.take(f"homeassistant/{component}/x/config", _json(config), retained=True, arrival_us=0)
            availability = {"device": {"ids": "d"}, "avty": [{"t": "b", key: odd}], "stat_t": "a"}
            heard = [
                *heard,
                *dialect.take("homeassistant/sensor/y/config", _json(availability), retained=True, arrival_us=0),
            ]
            for topic, payload in (("a", b"5"), ("a", b'{"state":{}}'), ("b", b"online"), ("b", b"[]")):
                heard += dialect.take(topic, payload, retained=False, arrival_us=0)
            check([*heard, *dialect.due(10**13)])


@pytest.mark.parametrize("key", _ZLINKY_KEYS)
def test_each_key_of_a_zlinky_with_each_kind_of_value(key):
    for odd in _ODD:
        dialect = HomeAssistant()
        message = {"current_tarif": "BASE", "status_register": "003A0001", "device": {"ieeeAddr": odd, "model": odd}}
        message |= {"update": {"state": odd, "latest_version": odd, "progress": odd}} | {key: odd}
        check(list(dialect.take("zigbee2mqtt/x", _json(message), retained=False, arrival_us=0)))


def test_each_label_of_teleinfo2mqtt_with_each_kind_of_value():
    for label in sorted(LABELS):
        for odd in _ODD:
            dialect = HomeAssistant()
            for group in (odd, {"raw": odd, "value": odd, "timestamp": odd}, {"raw": "1", "timestamp": {"date": odd}}):
                message = _json({"PAPP": {"raw": "00100"}, label: group})
                check(list(dialect.take("teleinfo/042261000001", message, retained=False, arrival_us=0)))
