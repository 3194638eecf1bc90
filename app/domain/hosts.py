"""Which addresses are this machine's own, and by which names a server is meant: arithmetic on texts, no look-ups."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

_LOCAL_NAME = "localhost"


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach an address; of names, only `localhost` is known to be so."""
    if _bare(host) == _LOCAL_NAME:
        return True
    found = _address(host)
    return found is not None and found.is_loopback


class HostNames:
    """The names a server answers to.

    An address is always right: a browser that was lured here by a foreign name (DNS rebinding) sends that name.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        """A name may begin with `*.`, as in certificates: any one label."""
        bare = {_bare(name) for name in names} | {_LOCAL_NAME}
        self._names = frozenset(name for name in bare if not name.startswith("*."))
        self._below = frozenset(name[2:] for name in bare if name.startswith("*."))

    def allow(self, host: str) -> bool:
        """Whether the text of a Host header, with a port or without, is one of them."""
        name = _bare(_without_port(host.strip()))
        if _address(name) is not None or name in self._names:
            return True
        label, _, parent = name.partition(".")
        return bool(label) and parent in self._below


def _bare(name: str) -> str:
    return name.strip().casefold().removesuffix(".")


def _without_port(host: str) -> str:
    if host.startswith("["):
        address, bracket, _port = host[1:].partition("]")
        return address if bracket else ""
    name, colon, port = host.rpartition(":")
    return name if colon and (port.isdecimal() or not port) else host


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
