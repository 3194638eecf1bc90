"""Lines of ESPHome's log, as it publishes them on `<node>/debug`."""

from __future__ import annotations

import re

from app.protocol.messages import Log

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_ESPHOME_LINE = re.compile(r"\[([A-Z]{1,2})\]\[([^\]:]{1,64})(?::\d+)?\]:?\s?(.*)", re.DOTALL)
_ESPHOME_LEVELS = {"E": "error", "W": "warning", "I": "info", "C": "info", "D": "debug", "V": "debug", "VV": "debug"}


def log_of(payload: bytes) -> Log:
    """A line: `[I][app:102]: text` in colours."""
    text = _ANSI.sub("", payload[:4000].decode("utf-8", "replace")).strip()
    match = _ESPHOME_LINE.match(text)
    if match is None:
        return Log(text=text[:1000])
    return Log(level=_ESPHOME_LEVELS.get(match.group(1)), tag=match.group(2), text=match.group(3)[:1000])
