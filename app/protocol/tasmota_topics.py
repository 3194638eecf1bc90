"""Whose a Tasmota topic is, and where its commands go: by the device's own FullTopic, or by the segments.

FullTopic is `%prefix%/%topic%/` unless its owner changed it; the prefix may stand anywhere, and have another name. What
a device announces (`ft`, `tp`, `t` of its discovery message) is exact. Before that the words `tele` and `stat` are
looked for, and the segment next to them (the last one, after them) is the device.
"""

from __future__ import annotations

import re
from typing import NamedTuple, TypeGuard

from app.protocol.foreign import MOST_DEVICES
from app.protocol.tasmota_json import Section

DISCOVERY = "tasmota/discovery/"
DEFAULT_FULL_TOPIC = "%prefix%/%topic%/"
DEFAULT_PREFIXES = ("cmnd", "stat", "tele")
# Tasmota's own limit of a FullTopic and of a topic is near 100 characters.
MAX_NAME_LENGTH = 128
_MAX_TOPIC_LENGTH = 512
# Kinds with a use here, and those that are Tasmota's alone and carry nothing of a meter.
_KIND = re.compile(
    r"(?:LWT|STATE|SENSOR|LIVE|TIC|INFO[1-3]|RESULT|STATUS[0-9]{0,2}|UPGRADE|TELEPERIOD|RESTART|OTAURL"
    r"|UPTIME|HASS_STATE|RTE|ENERGYCONFIG|POWER[0-9]{0,2})\Z",
    re.ASCII,
)
_WORDS = frozenset({"tele", "stat"})
# A FullTopic with up to so many segments before the prefix is subscribed to.
_DEPTH = 5


def _filters() -> tuple[str, ...]:
    """No filter overlaps another one for topics that devices use: a broker may deliver once for each that matches."""
    found = [f"{DISCOVERY}+/+"]
    for word in ("tele", "stat"):
        for depth in range(_DEPTH + 1):
            above = "+/" * depth
            if depth:
                found.append(f"{above}{word}/+")
            found.append(f"{above}{word}/+/+")
        found.append(f"{word}/+/+/+")
    return tuple(found)


FILTERS = _filters()


class Address(NamedTuple):
    """What a topic says: the device, where its commands go, the kind of message, and whether the device told so."""

    device: str
    command_root: str
    kind: str
    exact: bool


class Topics:
    """The FullTopics that devices announced."""

    def __init__(self) -> None:
        self._roots: dict[str, tuple[str, str]] = {}
        self._roots_of: dict[str, tuple[str, ...]] = {}

    def match(self, topic: str) -> Address | None:
        """The address of a topic, None when it is not one of Tasmota's."""
        if len(topic) > _MAX_TOPIC_LENGTH:
            return None
        root, _, kind = topic.rpartition("/")
        if not _KIND.match(kind):
            return None
        known = self._roots.get(root)
        if known is not None:
            return Address(known[0], known[1], kind, exact=True)
        return _by_segments(root, kind)

    def knows(self, device: str) -> bool:
        """Whether a device announced its FullTopic."""
        return device in self._roots_of

    def learn(self, name: str, config: Section) -> str | None:
        """Take a discovery message of a device; where its commands go, None when its FullTopic can not be used."""
        if name not in self._roots_of and len(self._roots_of) >= MOST_DEVICES:
            return None
        pattern = config.get("ft")
        if not isinstance(pattern, str) or not pattern:
            pattern = DEFAULT_FULL_TOPIC
        prefixes = config.get("tp")
        if not isinstance(prefixes, list) or len(prefixes) < 3 or not all(is_name(one) for one in prefixes[:3]):
            prefixes = list(DEFAULT_PREFIXES)
        command, *heard = (
            _expand(pattern, prefix, name, config, is_command=at == 0) for at, prefix in enumerate(prefixes[:3])
        )
        self.forget(name)
        if not all(0 < len(root) <= _MAX_TOPIC_LENGTH and root.isprintable() and "+" not in root for root in heard):
            return None
        if not command or "+" in command or not command.isprintable():
            return None
        for root in heard:
            self._roots[root] = (name, command)
        self._roots_of[name] = tuple(heard)
        return command

    def forget(self, device: str) -> None:
        """Drop what a device announced."""
        for root in self._roots_of.pop(device, ()):
            if self._roots.get(root, ("",))[0] == device:
                del self._roots[root]


def is_name(value: object) -> TypeGuard[str]:
    """Whether this may stand in a topic that is published to."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_NAME_LENGTH
        and value.isprintable()
        and "+" not in value
        and "#" not in value
    )


def default_command_root(device: str) -> str | None:
    """Where a device of which nothing was heard takes commands, unless its owner changed that."""
    return f"cmnd/{device}" if is_name(device) else None


def _expand(pattern: str, prefix: str, name: str, config: Section, *, is_command: bool) -> str:
    """A FullTopic as the firmware makes it of its tokens, without the last slash."""
    if is_command and "%prefix%" not in pattern:
        pattern += "/%prefix%"
    for token, value in (
        ("%prefix%", prefix),
        ("%topic%", name),
        ("%hostname%", config.get("hn")),
        ("%id%", config.get("mac")),
    ):
        pattern = pattern[:_MAX_TOPIC_LENGTH].replace(token, value if isinstance(value, str) else "")
    return pattern.replace("#", "").replace("//", "/").removesuffix("/")


def _by_segments(root: str, kind: str) -> Address | None:
    segments = root.split("/")
    found = [at for at, segment in enumerate(segments) if segment in _WORDS]
    if not found:
        return None
    # The first segment, as Tasmota is delivered; else the last, as the emoncms habit is; else in the middle.
    last = len(segments) - 1
    at = 0 if found[0] == 0 else found[-1]
    device = segments[at - 1] if at == last and at > 0 else segments[last] if at < last else ""
    if not is_name(device):
        return None
    command_root = "/".join((*segments[:at], "cmnd", *segments[at + 1 :]))
    if "+" in command_root or "#" in command_root or not command_root.isprintable():
        return None
    return Address(device, command_root, kind, exact=False)
