"""The topics of our modules: `wd/v1/m/<serial>/<kind>`."""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

PREFIX = "wd/v1/m/"
MAX_SERIAL_LENGTH = 32
# No MQTT wildcard, no level separator, no space: a serial is one topic level and may stand in a file name.
SERIAL_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}\Z", re.ASCII)


class Kind(enum.StrEnum):
    """The last level of a module's topic."""

    TELE = "tele"
    STATE = "state"
    LOG = "log"
    DIAG = "diag"
    FOTA = "fota"
    CMD = "cmd"
    ACK = "ack"


# What a module sends; `cmd` is the only way towards it.
FROM_MODULE = (Kind.TELE, Kind.STATE, Kind.LOG, Kind.DIAG, Kind.FOTA, Kind.ACK)
TO_MODULE = (Kind.CMD,)
_KINDS = {kind.value: kind for kind in Kind}


class ModuleTopic(NamedTuple):
    """A topic of one module."""

    serial: str
    kind: Kind

    def __str__(self) -> str:
        return f"{PREFIX}{self.serial}/{self.kind.value}"


def is_serial(text: str) -> bool:
    """Whether this may be a module's serial: 1 to 32 of letters, digits, `_`, `.` and `-`, the first no sign."""
    return SERIAL_PATTERN.match(text) is not None


def build(serial: str, kind: Kind) -> str:
    """The topic of one kind of message of a module. Raises ValueError for what can not be a serial."""
    if not is_serial(serial):
        raise ValueError(f"not a module serial: {serial[:40]!r}")
    return f"{PREFIX}{serial}/{kind.value}"


def parse(topic: str) -> ModuleTopic | None:
    """The module and kind of a topic, or None when it is none of ours."""
    if not topic.startswith(PREFIX):
        return None
    serial, separator, kind_name = topic[len(PREFIX) :].partition("/")
    kind = _KINDS.get(kind_name)
    if not separator or kind is None or not is_serial(serial):
        return None
    return ModuleTopic(serial, kind)


def publish_patterns(serial: str) -> tuple[str, ...]:
    """The topic filters a module may publish to."""
    return tuple(build(serial, kind) for kind in FROM_MODULE)


def subscribe_patterns(serial: str) -> tuple[str, ...]:
    """The topic filters a module may subscribe to."""
    return tuple(build(serial, kind) for kind in TO_MODULE)
