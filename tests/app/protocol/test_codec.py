"""Messages of modules from and to bytes."""

from __future__ import annotations

import json
import math
import resource

import cbor2
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.reading import Reading
from app.protocol import codec
from app.protocol.codec import DECODERS, Reason, Refused, decode_tele
from app.protocol.golden import CBOR_EXAMPLES, JSON_EXAMPLES, golden, golden_cbor
from app.protocol.messages import MAX_READINGS, Ack, Cmd, Diag, Fota, Log, State, Tele
from app.protocol.topics import Kind

STRUCTS = {
    Kind.TELE: Tele,
    Kind.STATE: State,
    Kind.LOG: Log,
    Kind.DIAG: Diag,
    Kind.FOTA: Fota,
    Kind.CMD: Cmd,
    Kind.ACK: Ack,
}
ALL_GOLDEN = [golden(name) for name in JSON_EXAMPLES] + [golden_cbor(name) for name in CBOR_EXAMPLES]

counters = st.none() | st.integers(0, 2**53)
readings = st.builds(
    Tele,
    time_ms=st.none() | st.integers(0, 253_402_300_799_999),
    boot_id=st.none() | st.integers(0, 2**32 - 1),
    seq=counters,
    active_w=st.none() | st.floats(-1e6, 1e6),
    apparent_va=st.none() | st.floats(-1e6, 1e6),
    drawn_wh=counters,
    injected_wh=counters,
    register=st.none() | st.integers(1, 10),
    registers_wh=st.none() | st.dictionaries(st.integers(1, 10), st.integers(0, 2**53)),
    voltage_v=st.none() | st.floats(0, 1000),
    voltage_2_v=st.none() | st.floats(0, 1000),
    voltage_3_v=st.none() | st.floats(0, 1000),
    current_a=st.none() | st.floats(-10_000, 10_000),
    current_2_a=st.none() | st.floats(-10_000, 10_000),
    current_3_a=st.none() | st.floats(-10_000, 10_000),
    rssi_dbm=st.none() | st.integers(-127, 0),
    frame_gap_ms=st.none() | st.integers(0, 2**31 - 1),
    state=st.none() | st.integers(0, 0xFFFF),
    resent=st.none() | st.booleans(),
    gas_m3=st.none() | st.floats(0, 1e9),
    water_m3=st.none() | st.floats(0, 1e9),
    heat_gj=st.none() | st.floats(0, 1e9),
)


def refusal(decode, payload: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        decode(payload)
    return caught.value


OUTCOMES = {"message", *Reason}


def outcome(decode, payload: bytes) -> str:
    try:
        decode(payload)
    except Refused as error:
        return error.reason
    return "message"


def test_the_golden_reading_says_what_the_page_says():
    reading = decode_tele(golden("tele"))

    assert isinstance(reading, Reading)
    assert reading == Tele(
        time_ms=1763884800123,
        boot_id=2864434397,
        seq=123456,
        apparent_va=1840.0,
        drawn_wh=12345678,
        register=2,
        voltage_v=231.4,
        current_a=7.9,
        rssi_dbm=-61,
        frame_gap_ms=1012,
        state=0,
    )
    assert len(golden("tele")) == 190


@pytest.mark.parametrize("name", JSON_EXAMPLES)
def test_every_golden_example_is_accepted_whole(name):
    payload = golden(name)
    message = DECODERS[Kind(name.split("_")[0])](payload)
    told = json.loads(payload)
    kept = msgspec.to_builtins(message, str_keys=True)
    for one_told, one_kept in zip(
        told if isinstance(told, list) else [told], kept if isinstance(kept, list) else [kept], strict=True
    ):
        one_told.pop("v", None)

        assert one_kept == one_told


def test_the_golden_reading_is_the_same_in_cbor():
    assert decode_tele(golden_cbor("tele")) == decode_tele(golden("tele"))


def test_the_full_example_has_every_field_but_resent():
    assert set(json.loads(golden("tele_full"))) == set(Tele.__struct_fields__) - {"resent"}


def test_the_last_will_is_the_golden_one():
    assert golden("state_will") == codec.WILL_PAYLOAD


@given(readings)
def test_a_reading_survives_both_encodings(reading):
    assert decode_tele(codec.encode_json(reading)) == reading
    assert decode_tele(codec.encode_cbor(reading)) == reading


@given(st.lists(readings, min_size=1, max_size=5))
def test_an_array_of_readings_survives_both_encodings(many):
    assert decode_tele(codec.encode_json(many)) == many
    assert decode_tele(codec.encode_cbor(many)) == many


def test_a_reading_of_the_domain_can_be_encoded():
    assert decode_tele(codec.encode_json(Reading(seq=1))) == Tele(seq=1)


def test_unknown_fields_are_ignored_and_null_is_unknown():
    assert decode_tele(b'{"colour":"blue","deep":{"a":[1,{"b":2}]},"seq":null}') == Tele()
    assert decode_tele(cbor2.dumps({"colour": "blue", "deep": {"a": [1, {"b": 2}]}, "seq": None})) == Tele()


def test_whole_numbers_are_accepted_where_decimals_may_be():
    for payload in (b'{"voltage_v":231}', cbor2.dumps({"voltage_v": 231})):
        reading = decode_tele(payload)

        assert isinstance(reading, Tele)
        assert reading.voltage_v == 231.0


def test_white_space_may_precede_json():
    assert decode_tele(b' \r\n\t{"seq":1}') == Tele(seq=1)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", Reason.EMPTY),
        (b'{"seq":1}' + b" " * codec.MAX_TELE_BYTES, Reason.TOO_LARGE),
        (b"online", Reason.FORMAT),
        (b"\x00", Reason.FORMAT),
        (b"\xef\xbb\xbf{}", Reason.FORMAT),
        (b"{", Reason.SYNTAX),
        (b'{"seq":1}x', Reason.SYNTAX),
        (b'{"active_w":NaN}', Reason.SYNTAX),
        (b'{"active_w":Infinity}', Reason.SYNTAX),
        (b'{"active_w":1e999}', Reason.RANGE),
        (b'{"meter":' + b"[" * 60_000, Reason.NESTING),
        (b'{"v":2}', Reason.VERSION),
        (b'{"v":2,"seq":"one"}', Reason.VERSION),
        (b'{"seq":"one","v":0}', Reason.VERSION),
        (b'[{"seq":1},{"v":7}]', Reason.VERSION),
        (b'{"v":"1"}', Reason.TYPE),
        (b'{"seq":"one"}', Reason.TYPE),
        (b'{"seq":1.5}', Reason.TYPE),
        (b'{"seq":true}', Reason.TYPE),
        (b"[1]", Reason.TYPE),
        (b"[[]]", Reason.TYPE),
        (b'{"seq":-1}', Reason.RANGE),
        (b'{"seq":9007199254740993}', Reason.RANGE),
        (b'{"seq":99999999999999999999999999}', Reason.RANGE),
        (b'{"active_w":1000001}', Reason.RANGE),
        (b'{"register":0}', Reason.RANGE),
        (b'{"register":11}', Reason.RANGE),
        (b'{"registers_wh":{"11":1}}', Reason.RANGE),
        (b'{"voltage_v":-0.1}', Reason.RANGE),
        (b'{"rssi_dbm":1}', Reason.RANGE),
        (b'{"rssi_dbm":-128}', Reason.RANGE),
        (b'{"state":65536}', Reason.RANGE),
        (b'{"time_ms":253402300800000}', Reason.RANGE),
        (b"[]", Reason.LENGTH),
        (b"[" + b",".join([b"{}"] * (MAX_READINGS + 1)) + b"]", Reason.LENGTH),
        (cbor2.dumps({"v": 2}), Reason.VERSION),
        (cbor2.dumps([{"v": 2}]), Reason.VERSION),
        (cbor2.dumps({"active_w": math.nan}), Reason.RANGE),
        (cbor2.dumps({"active_w": math.inf}), Reason.RANGE),
        (cbor2.dumps([]), Reason.LENGTH),
        (cbor2.dumps([{}] * (MAX_READINGS + 1)), Reason.LENGTH),
        (cbor2.dumps({"seq": "one"}), Reason.TYPE),
        (cbor2.dumps({"seq": 1}) + b"\x00", Reason.SYNTAX),
        (cbor2.dumps({"seq": 1})[:-1], Reason.SYNTAX),
        (cbor2.dumps({1: 1}), Reason.SYNTAX),
        (cbor2.dumps({"seq": 2**80}), Reason.SYNTAX),
        (b"\x81" * 1000, Reason.NESTING),
    ],
)
def test_a_bad_payload_is_refused_with_its_reason(payload, reason):
    assert refusal(decode_tele, payload).reason is reason


def test_an_array_of_readings_without_a_length_is_read():
    items = cbor2.dumps({"seq": 1}) * MAX_READINGS

    assert decode_tele(b"\x9f" + items + b"\xff") == [Tele(seq=1)] * MAX_READINGS
    for bad in (b"\x9f" + items[:-1], b"\x9f" + items + b"\xff\x00"):
        assert refusal(decode_tele, bad).reason is Reason.SYNTAX
    assert refusal(decode_tele, b"\x9f\xff").reason is Reason.LENGTH


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"\x9a\x00\x03\xff\xfb" + b"\xa0" * 262_139, id="announced"),
        pytest.param(b"\x9f" + b"\xa0" * 262_142 + b"\xff", id="open"),
        pytest.param(b"[" + b"{}," * 87_000 + b"{}]", id="json"),
    ],
)
def test_an_array_of_far_too_many_is_refused_before_it_is_decoded(payload, monkeypatch):
    def forbidden(*_args: object, **_words: object) -> None:
        raise AssertionError("the messages were made")

    monkeypatch.setattr(codec.msgspec, "convert", forbidden)
    error = refusal(decode_tele, payload)

    assert error.reason is Reason.LENGTH
    assert "at most 1000" in error.detail or "more than 1000" in error.detail


@pytest.mark.parametrize("payload", [b'{"x":"' + b"x" * 65_536 + b'"}', cbor2.dumps({"x": [{}] * 65_536})])
def test_a_single_reading_has_the_lower_limit(payload):
    assert refusal(decode_tele, payload).reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("decode", "payload", "reason"),
    [
        (codec.decode_cmd, b'{"name":"restart"}', Reason.MISSING),
        (codec.decode_cmd, b'{"id":"","name":"restart"}', Reason.LENGTH),
        (codec.decode_cmd, b'{"id":"1","name":"restart","args":{"a":[1]}}', Reason.TYPE),
        (codec.decode_ack, b"{}", Reason.MISSING),
        (codec.decode_state, b'{"ssid":"' + b"x" * 33 + b'"}', Reason.LENGTH),
        (codec.decode_state, b"[{}]", Reason.TYPE),
        (codec.decode_log, b"[]", Reason.LENGTH),
        (codec.decode_fota, b'{"percent":100.5}', Reason.RANGE),
    ],
)
def test_other_messages_are_refused_with_their_reason(decode, payload, reason):
    assert refusal(decode, payload).reason is reason


def test_a_refusal_quotes_no_long_text():
    error = refusal(decode_tele, b'{"' + b"x" * 5000 + b'":[}')

    assert len(error.detail) <= codec.MAX_DETAIL_LENGTH


@pytest.mark.parametrize("kind", list(Kind))
@given(payload=st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: b"\xa2\x63seq" + tail))
def test_random_bytes_are_a_message_or_refused(kind, payload):
    assert outcome(DECODERS[kind], payload) in OUTCOMES


@settings(max_examples=400)
@given(data=st.data())
def test_a_damaged_example_is_a_message_or_refused(data):
    payload = bytearray(data.draw(st.sampled_from(ALL_GOLDEN)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(payload) - 1))
        if data.draw(st.booleans()):
            payload[at] = data.draw(st.integers(0, 255))
        else:
            del payload[at : at + data.draw(st.integers(1, 5))]
            payload.append(0x20)
    for decode in DECODERS.values():
        assert outcome(decode, bytes(payload)) in OUTCOMES


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4),
        max_leaves=12,
    )
)
def test_any_cbor_tree_is_a_message_or_refused(tree):
    payload = cbor2.dumps(tree)
    for decode in DECODERS.values():
        assert outcome(decode, payload) in OUTCOMES


# Each announces far more than it brings, or asks for something of its own to be built.
HOSTILE_CBOR = [
    b"\x9b" + b"\x7f" + b"\xff" * 7,
    b"\xbb" + b"\x7f" + b"\xff" * 7,
    b"\xa1\x63seq\x5b" + b"\x7f" + b"\xff" * 7,
    b"\xa1\x63seq\x7b" + b"\x00\x00\x00\xff" + b"\xff" * 4,
    b"\xa1\x63seq\x9a\xff\xff\xff\xff",
    b"\xbf\x63seq",
    b"\x9f" * 1000,
    b"\xa1\x63seq\xc4\x82\x1b" + b"\x7f" * 8 + b"\x01",
    b"\xa1\x63seq\xc5\x82\x1b" + b"\x7f" * 8 + b"\x01",
    b"\xa1\x63seq\xd8\x1e\x82\x01\x00",
    b"\xa1\x63seq\xd8\x23\x78\x20" + b"(a*)*" * 6 + b"bb",
    b"\xa1\x63seq\xd8\x1c\x81\xd8\x1d\x00",
    b"\xa1\x63seq\xd9\x01\x02\x80",
    b"\xa1\x63seq\xc2\x59\xff\xff" + b"\xff" * 65535,
    b"\xa1\x80\x01",
]


@pytest.mark.parametrize("payload", HOSTILE_CBOR)
def test_hostile_cbor_is_refused_without_memory(payload):
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = refusal(decode_tele, payload)

    assert error.reason in {Reason.SYNTAX, Reason.NESTING, Reason.LENGTH, Reason.TOO_LARGE}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 20_000
