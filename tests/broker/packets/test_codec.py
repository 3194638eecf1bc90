"""The codec: what is written can be read, in any chunks, and nothing else than ProtocolError comes out of it."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.packets import (
    V5,
    V311,
    Connect,
    Packet,
    PacketReader,
    Properties,
    ProtocolError,
    Publish,
    PublishTemplate,
    Reason,
    Subscribe,
    Subscription,
    decode,
    encode,
    read_header,
)
from tests.helpers.packet_strategies import packets, versions

LIMIT = 64 * 1024


def read_all(data: bytes, version: int) -> list[Packet]:
    return PacketReader(version=version).feed(data)


@given(st.data(), versions)
def test_every_packet_survives_a_round_trip(data, version):
    packet = data.draw(packets(version))

    assert read_all(encode(packet, version), version) == [packet]


@given(st.data(), versions)
def test_any_chunking_gives_the_same_packets(data, version):
    sent = data.draw(st.lists(packets(version), min_size=1, max_size=5))
    stream = b"".join(encode(packet, version) for packet in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    reader = PacketReader(version=version)
    found: list[Packet] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[start:end])

    assert found == sent


@given(st.data(), versions)
def test_one_byte_at_a_time_gives_the_same_packet(data, version):
    packet = data.draw(packets(version))
    reader = PacketReader(version=version)
    found: list[Packet] = []
    for byte in encode(packet, version):
        found += reader.feed(bytes((byte,)))

    assert found == [packet]


@settings(max_examples=500)
@given(st.binary(max_size=200), versions)
def test_random_bytes_raise_nothing_but_protocol_error(noise, version):
    with contextlib.suppress(ProtocolError):
        read_all(noise, version)


@settings(max_examples=500)
@given(st.integers(0, 255), st.binary(max_size=80), versions)
def test_random_bodies_raise_nothing_but_protocol_error(first, body, version):
    with contextlib.suppress(ProtocolError):
        decode(first, body, 0, len(body), version)


@settings(max_examples=300)
@given(st.data(), versions)
def test_damaged_packets_raise_nothing_but_protocol_error(data, version):
    whole = bytearray(encode(data.draw(packets(version)), version))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError):
        read_all(bytes(whole), version)


@given(st.binary(min_size=1, max_size=12))
def test_a_header_needs_more_or_is_whole_or_wrong(data):
    try:
        found = read_header(data, 0, len(data), LIMIT)
    except ProtocolError:
        return
    if isinstance(found, int):
        assert found > len(data)
    else:
        start, end = found
        assert 2 <= start <= end <= len(data)


@pytest.mark.parametrize(
    ("first", "body"),
    [
        # A CONNECT whose properties are user properties of two empty strings.
        (0x10, lambda n: b"\0\x04MQTT\x05\x02\0\0" + pad_properties(b"\x26\0\0\0\0" * n)),
        (0x30, lambda n: b"\0\x01t" + pad_properties(b"\x26\0\0\0\0" * n)),
        (0x30, lambda n: b"\0\x01t" + pad_properties(b"\x0b\x01" * n)),
        (0x82, lambda n: b"\0\x01\0" + b"\0\x01a\0" * n),
        (0xA2, lambda n: b"\0\x01\0" + b"\0\x01a" * n),
    ],
)
def test_a_packet_at_the_limit_takes_no_more_memory_than_a_few_times_the_limit(first, body):
    """Fields of few bytes are the decoder's worst case: each becomes an object."""
    data = body(LIMIT // 6)
    tracemalloc.start()
    with contextlib.suppress(ProtocolError):
        decode(first, data, 0, len(data), V5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 6 * LIMIT


def pad_properties(properties: bytes) -> bytes:
    size = len(properties)
    length = bytearray()
    while size >= 128:
        length.append(size & 127 | 128)
        size >>= 7
    length.append(size)
    return bytes(length) + properties


def test_a_packet_over_the_limit_is_refused_by_its_header_alone():
    reader = PacketReader(max_packet_size=1000)

    with pytest.raises(ProtocolError) as caught:
        reader.feed(b"\x30\xff\xff\x7f")

    assert caught.value.reason == Reason.PACKET_TOO_LARGE


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x10\x0c\0\x04MQTX\x04\x02\0\0\0\0", Reason.UNSUPPORTED_VERSION),
        (b"\x10\x0c\0\x04MQTT\x03\x02\0\0\0\0", Reason.UNSUPPORTED_VERSION),
        (b"\x10\x0c\0\x04MQTT\x04\x03\0\0\0\0", Reason.MALFORMED_PACKET),  # the reserved flag
        (b"\x10\x0c\0\x04MQTT\x04\x42\0\0\0\0", Reason.MALFORMED_PACKET),  # a password without a name
        (b"\x36\x05\0\x01a\0\x01", Reason.MALFORMED_PACKET),  # QoS 3
        (b"\x38\x03\0\x01a", Reason.MALFORMED_PACKET),  # DUP at QoS 0
        (b"\x32\x05\0\x01a\0\0", Reason.MALFORMED_PACKET),  # packet id 0
        (b"\x30\x03\0\x01#", Reason.TOPIC_NAME_INVALID),
        (b"\x30\x02\0\0", Reason.TOPIC_NAME_INVALID),
        (b"\x30\x03\0\x01\0", Reason.MALFORMED_PACKET),  # the null character
        (b"\x30\x04\0\x02\xc3\x28", Reason.MALFORMED_PACKET),  # not UTF-8
        (b"\x30\x05\0\x03\xed\xa0\x80", Reason.MALFORMED_PACKET),  # a surrogate
        (b"\x80\x06\0\x01\0\x01a\0", Reason.MALFORMED_PACKET),  # SUBSCRIBE needs its flags
        (b"\x82\x02\0\x01", Reason.PROTOCOL_ERROR),  # without a filter
        (b"\x82\x06\0\x01\0\x01a\x03", Reason.MALFORMED_PACKET),
        (b"\x60\x02\0\x01", Reason.MALFORMED_PACKET),  # PUBREL needs its flags
        (b"\x00\x00", Reason.MALFORMED_PACKET),
        (b"\xf0\x00", Reason.PROTOCOL_ERROR),  # AUTH in 3.1.1
        (b"\x30\x80\x00", Reason.MALFORMED_PACKET),  # a length that is not the shortest
    ],
)
def test_what_3_1_1_forbids_is_refused(data, reason):
    with pytest.raises(ProtocolError) as caught:
        read_all(data, V311)

    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        (b"\x23\x00\x00", Reason.TOPIC_ALIAS_INVALID),
        (b"\x01\x02", Reason.PROTOCOL_ERROR),
        (b"\x01\x01\x01\x01", Reason.PROTOCOL_ERROR),  # twice
        (b"\x11\0\0\0\x01", Reason.PROTOCOL_ERROR),  # session expiry in a PUBLISH
        (b"\x7f", Reason.MALFORMED_PACKET),
        (b"\x0b\x00", Reason.PROTOCOL_ERROR),
        (b"\x08\0\x01#", Reason.PROTOCOL_ERROR),
    ],
)
def test_properties_a_publish_can_not_have_are_refused(properties, reason):
    body = b"\0\x01a" + bytes((len(properties),)) + properties

    with pytest.raises(ProtocolError) as caught:
        decode(0x30, body, 0, len(body), V5)

    assert caught.value.reason == reason


@given(st.binary(max_size=300), st.integers(0, 1), versions, st.integers(1, 65_535))
def test_a_template_writes_what_the_codec_writes(payload, qos, version, packet_id):
    number = packet_id if qos else 0
    template = PublishTemplate("a/b", qos=qos, version=version)

    expected = encode(Publish(topic="a/b", payload=payload, qos=qos, packet_id=number), version)
    assert template.encode(payload, number) == expected


def test_a_string_too_long_for_its_field_is_an_error():
    with pytest.raises(ProtocolError):
        encode(Connect(client_id="x" * 70_000), V311)


def test_no_local_on_a_shared_subscription_is_refused():
    packet = Subscribe(packet_id=1, subscriptions=(Subscription("$share/g/a", 0, True),))

    with pytest.raises(ProtocolError) as caught:
        read_all(encode(packet, V5), V5)

    assert caught.value.reason == Reason.PROTOCOL_ERROR


def test_absent_properties_are_none():
    assert Properties().session_expiry_s is None
