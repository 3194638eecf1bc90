"""The answer of a Shelly (Gen2 and later) to Shelly.GetStatus, saved as a file: messages its device would publish."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from app.protocol.captures.mqtt_log import LoggedMessage

_COMPONENT = re.compile(r"[a-z][a-z0-9_]{1,31}(?::\d{1,3})?\Z")
_KNOWN = re.compile(r"(?:em|em1|emdata|em1data|switch|pm1|sys|wifi)(?::\d{1,3})?\Z")
_MAC = re.compile(r"[0-9A-Fa-f]{12}\Z")
_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_LEAST_KNOWN = 2


def is_status(content: bytes) -> bool:
    """Whether this is the whole JSON of such an answer, wrapped as RPC does or bare."""
    return _status(content) is not None


def status_messages(content: bytes) -> list[LoggedMessage]:
    """What a device with this status publishes when it connects; nothing when the content is no status.

    One notification of it all, so that power and energy are one reading. The prefix is the device's id where an RPC
    answer names it, else made of its MAC.
    """
    found = _status(content)
    if found is None:
        return []
    prefix, status = found
    params = {name: value for name, value in status.items() if _COMPONENT.match(name) and isinstance(value, dict)}
    notification = {"src": prefix, "dst": f"{prefix}/events", "method": "NotifyFullStatus", "params": params}
    return [
        LoggedMessage(f"{prefix}/online", b"true", None, 1),
        LoggedMessage(f"{prefix}/events/rpc", msgspec.json.encode(notification), None, 1),
    ]


def _status(content: bytes) -> tuple[str, dict[str, Any]] | None:
    text = content.strip()
    if not text.startswith(b"{"):
        return None
    try:
        decoded = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    source = decoded.get("src")
    inner = decoded.get("result", decoded.get("params", decoded))
    if not isinstance(inner, dict) or sum(_KNOWN.match(name) is not None for name in inner) < _LEAST_KNOWN:
        return None
    if isinstance(source, str) and _PREFIX.match(source):
        return source, inner
    system = inner.get("sys")
    mac = system.get("mac") if isinstance(system, dict) else None
    return (f"shelly-{mac.lower()}" if isinstance(mac, str) and _MAC.match(mac) else "shelly"), inner
