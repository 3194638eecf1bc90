"""What the generator writes and reads is MQTT."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_sim.bench import wire


@given(st.integers(0, 268_435_455))
def test_remaining_length_is_read_back(length):
    encoded = wire.remaining_length(length)

    assert len(encoded) <= 4
    assert sum((digit & 0x7F) << 7 * place for place, digit in enumerate(encoded)) == length


@given(st.lists(st.binary(max_size=300), max_size=10), st.data())
def test_packets_are_found_however_the_stream_is_cut(bodies, data):
    stream = b"".join(b"\x30" + wire.remaining_length(len(body)) + body for body in bodies)
    found = []
    rest = b""
    at = 0
    while at < len(stream):
        step = data.draw(st.integers(1, len(stream) - at))
        packets, rest = wire.split(rest + stream[at : at + step])
        found += packets
        at += step

    assert found == [(0x30, body) for body in bodies]
    assert rest == b""


def test_an_endless_length_is_an_error():
    with pytest.raises(ValueError):
        wire.split(b"\x30\x80\x80\x80\x80\x80")


def test_connect_as_the_standard_lays_it_out():
    assert wire.connect("c", "u", "p", 60) == b"\x10\x13\x00\x04MQTT\x04\xc2\x00\x3c\x00\x01c\x00\x01u\x00\x01p"
    assert wire.connect("c", "", "", 0) == b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c"


def test_publish_head_counts_the_packet_identifier_and_the_payload():
    assert wire.publish_head("a/b", 10, 0) == b"\x30\x0f\x00\x03a/b"
    assert wire.publish_head("a/b", 10, 1) == b"\x32\x11\x00\x03a/b"
