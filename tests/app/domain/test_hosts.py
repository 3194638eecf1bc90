"""Loopback addresses, and the names a server answers to."""

from __future__ import annotations

import pytest

from app.domain.hosts import HostNames, is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST."])
def test_loopback(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "hub", "", "127.1", "fe80::1"])
def test_not_loopback(host):
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8443", "127.0.0.1", "127.0.0.1:8443", "[::1]:8443", "[::1]", "10.1.2.3:80"),
        *("hub.example.org", "HUB.example.org.:443", "a.wild.example.org", "localhost:"),
    ],
)
def test_our_names_and_every_address_are_right(host):
    assert HostNames(["hub.example.org", "*.wild.example.org"]).allow(host)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example.org", "hub.example.org.evil.net", "xhub.example.org", "wild.example.org", "", ":80"),
        *("a.b.wild.example.org", "127.0.0.1.evil.net:8443", "0x7f000001", "[::1", "localhost.evil.net", "[evil]:1"),
    ],
)
def test_other_names_are_wrong(host):
    assert not HostNames(["hub.example.org", "*.wild.example.org"]).allow(host)
