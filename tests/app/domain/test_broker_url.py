"""The address of a broker, and that a password in it is never said."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.broker_url import BrokerUrl, masked, parse_broker_url


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("mqtt://broker", BrokerUrl("broker", 1883, tls=False)),
        ("mqtts://broker/", BrokerUrl("broker", 8883, tls=True)),
        ("mqtt://10.0.0.1:2000", BrokerUrl("10.0.0.1", 2000, tls=False)),
        ("mqtt://[::1]:2000", BrokerUrl("::1", 2000, tls=False)),
        ("mqtts://hub:s%40cret%3A@broker:1", BrokerUrl("broker", 1, True, "hub", "s@cret:")),
        ("mqtt://hub@broker", BrokerUrl("broker", 1883, False, "hub")),
    ],
)
def test_what_people_write(text, wanted):
    assert parse_broker_url(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "broker", "mqtt://", "http://geheim@broker", "mqtt://hub:geheim@", "mqtt://hub:geheim@b:99999",
        "mqtt://hub:geheim@b:0", "mqtt://hub:geheim@b/topic", "mqtt://hub:geheim@b?x", "mqtt://hub:ge@geheim@b",
        "mqtt://hub:geheim@[::1", "mqtt://hub:geheim @b",
    ],
)  # fmt: skip
def test_what_is_none_is_refused_without_its_password(text):
    with pytest.raises(ValueError) as refusal:
        parse_broker_url(text)

    assert "geheim" not in str(refusal.value)


@given(st.text())
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(ValueError):
        parse_broker_url(text)


@given(st.text(st.characters(exclude_characters="@/"), min_size=8), st.text(max_size=9))
def test_nothing_before_the_at_is_shown(secret, rest):
    assert f"{secret}@" not in masked(f"mqtt://u:{secret}@host{rest}")
    assert "u:" not in repr(BrokerUrl("h", 1, False, None, "u:secret"))
