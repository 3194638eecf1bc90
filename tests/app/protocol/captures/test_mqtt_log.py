"""Logs of MQTT messages, whoever printed them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.captures.mqtt_log import (
    MAX_JOINED_BYTES,
    MAX_LINE_BYTES,
    BadLine,
    LoggedMessage,
    looks_like_message,
    read_log,
)


def read(text: bytes, size: int = 0):
    size = size or max(1, len(text))
    return list(read_log(text[at : at + size] for at in range(0, len(text), size)))


def plain(text: bytes):
    return [(one.topic, one.payload) if isinstance(one, LoggedMessage) else one.why for one in read(text)]


@pytest.mark.parametrize(
    ("line", "topic", "payload"),
    [
        (b"tele/x/LWT Online", "tele/x/LWT", b"Online"),
        (b"a/b  two blanks ", "a/b", b" two blanks "),
        (b"a/b (null)", "a/b", b""),
        (b"a/b ", "a/b", b""),
        (b"a/b", "a/b", b""),
        (b"a/b 1\r", "a/b", b"1"),
        ("é/température 20".encode(), "é/température", b"20"),
        (b'zigbee2mqtt/Linky in the cellar {"a": {"b": 1}}', "zigbee2mqtt/Linky in the cellar", b'{"a": {"b": 1}}'),
        (b"node/debug [D][sensor:093]: a {1}", "node/debug", b"[D][sensor:093]: a {1}"),
        (b"a/b \xff\x00\xfe", "a/b", b"\xff\x00\xfe"),
    ],
)
def test_a_line(line, topic, payload):
    assert plain(line) == [(topic, payload)]


@pytest.mark.parametrize("line", [b"a/# 1", b"a/+/b 1", b" 1", b"\xff/b 1", b'"a/b": 1', b"{", b"\x00/b 1"])
def test_a_line_that_begins_with_no_topic(line):
    assert plain(line) == ["no topic"]


@pytest.mark.parametrize(
    ("stamp", "time_us"),
    [
        ("2026-01-02T03:04:05Z", 1_767_323_045_000_000),
        ("2026-01-02T04:04:05+0100", 1_767_323_045_000_000),
        ("2026-01-02T04:04:05.25+01:00", 1_767_323_045_250_000),
        ("2026-01-02T03:04:05", 1_767_323_045_000_000),
        ("1767323045", 1_767_323_045_000_000),
        ("1767323045.250000", 1_767_323_045_250_000),
        ("2026-13-02T03:04:05Z", None),
    ],
)
def test_a_time_before_the_topic(stamp, time_us):
    assert read(f"{stamp} a/b 1".encode()) == [LoggedMessage("a/b", b"1", time_us, 1)]


def test_json_over_several_lines_is_one_message():
    value = {"a": [1, {"b": "}"}], "c": {"d": 2}}
    text = f"a/b {json.dumps(value, indent=2)}\nc/d 1\n".encode()
    first, second = read(text)

    assert json.loads(first.payload) == value
    assert (second.topic, second.line) == ("c/d", text.count(b"\n"))


def test_json_that_was_cut_off_is_given_as_it_stood_and_hides_nothing_behind_it():
    assert plain(b'a/b {"a": 1,\nc/d 1\n') == [("a/b", b'{"a": 1,'), ("c/d", b"1")]
    assert plain(b'a/b {"a": 1,') == [("a/b", b'{"a": 1,')]


def test_lines_are_bounded():
    long = b"a/b " + b"x" * (MAX_LINE_BYTES + 10)
    assert plain(long + b"\nc/d 1\n" + long) == ["too long", ("c/d", b"1"), "too long"]
    endless = b'a/b {"a":\n' + b"1,\n" * 100_000
    assert all(len(one.payload) <= MAX_JOINED_BYTES for one in read(endless) if isinstance(one, LoggedMessage))


@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_bytes_give_an_answer_the_same_in_pieces_of_any_size(content, size):
    found = read(content)

    assert found == read(content, size)
    assert all(isinstance(one, LoggedMessage | BadLine) for one in found)


@given(st.from_regex(r"[a-z0-9]{1,8}(/[a-zA-Z0-9:_-]{1,8}){1,4}", fullmatch=True), st.text("abc 0.{}[]", max_size=20))
def test_what_was_printed_is_read(topic, payload):
    printed = payload.encode()
    found = read(topic.encode() + b" " + printed + b"\n")

    if not printed.lstrip().startswith(b"{") and " {" not in payload:
        assert found == [LoggedMessage(topic, printed, None, 1)]


@pytest.mark.parametrize(
    ("line", "looks"),
    [(b"a/b 1", True), (b"a 1", False), (b"a/ 1", False), (b"a/b", False), (b"1-0:1.8.1(00001.001*kWh)", False)],
)
def test_what_looks_like_a_message(line, looks):
    assert looks_like_message(line) is looks
