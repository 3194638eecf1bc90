"""What a file is, from its beginning."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.captures.kind import CaptureKind, kind_of
from app.protocol.captures.shelly_status import status_messages
from tests.app.protocol.dsmr import synthetic as dsmr
from tests.app.protocol.tic import synthetic as tic

STATUS = {
    "em:0": {"total_act_power": 5.5},
    "wifi": {"rssi": -57},
    "sys": {"mac": "AABBCCDDEEFF"},
    "ver": "1",
    "x y": {},
}


@pytest.mark.parametrize("name", tic.files())
def test_a_line_of_a_linky_has_no_mark_of_its_own(name):
    assert kind_of(tic.files()[name]) is None


@pytest.mark.parametrize("kind", dsmr.all_kinds())
def test_telegrams(kind):
    stream = dsmr.all_kinds()[kind]

    assert kind_of(stream) is CaptureKind.DSMR
    assert kind_of(stream[40:]) is CaptureKind.DSMR
    assert kind_of(dsmr.with_parity(stream)) is CaptureKind.DSMR


@pytest.mark.parametrize(
    "log",
    [
        b"tele/x/STATE {}\n",
        b"comment\ntele/x/STATE {}\ntele/x/SENSOR {}\n",
        b"2026-01-02T03:04:05Z a/b 1\n",
        b'a/b {\n "a": 1,\n "b": 2,\n "c": 3\n}\n',
    ],
)
def test_logs_of_messages(log):
    assert kind_of(log) is CaptureKind.MQTT


@pytest.mark.parametrize(
    "content", [b"", b"just some text\nof another kind\n", b"{}", b"[1]", b'{"a": {"b": 1}}', b"\0" * 99]
)
def test_what_is_none_of_them(content):
    assert kind_of(content) is None


def test_sml():
    assert kind_of(b"\x00\x1b\x1b\x1b\x1b\x01\x01\x01\x01\x76") is CaptureKind.SML


@pytest.mark.parametrize(
    "wrap", [lambda status: status, lambda status: {"id": 1, "src": "shellypro3em-x", "result": status}]
)
def test_a_shellys_status(wrap):
    content = json.dumps(wrap(STATUS), indent=1).encode()
    prefix = "shellypro3em-x" if b"src" in content else "shelly-aabbccddeeff"

    assert kind_of(content) is CaptureKind.SHELLY_STATUS
    online, status = status_messages(content)
    notification = json.loads(status.payload)
    assert (online.topic, online.payload, status.topic) == (f"{prefix}/online", b"true", f"{prefix}/events/rpc")
    assert (notification["src"], notification["method"]) == (prefix, "NotifyFullStatus")
    assert notification["params"] == {name: STATUS[name] for name in ("em:0", "wifi", "sys")}


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b'{"em:0": 1}',
        b'{"result": 3}',
        b'{"src": 7, "result": {"wifi": {}}}',
        b"[" * 5000,
        b'{"a":' * 5000,
        b"\xff",
    ],
)
def test_what_is_no_status_makes_no_messages(content):
    assert status_messages(content) == []


@given(st.binary(max_size=300))
def test_any_bytes_have_a_kind_or_none(content):
    assert kind_of(content) is None or kind_of(content) in CaptureKind
