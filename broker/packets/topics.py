"""What topic names and topic filters may look like, and which filter matches what (OASIS MQTT 5.0, section 4.7)."""

from __future__ import annotations

_SHARE = "$share/"


def is_topic(topic: str) -> bool:
    """Whether `topic` is a topic name: not empty, without wildcards."""
    return bool(topic) and "+" not in topic and "#" not in topic


def is_filter(pattern: str) -> bool:
    """Whether `pattern` is a topic filter (without a `$share` prefix): wildcards fill whole levels, `#` stands last."""
    if not pattern:
        return False
    if "#" not in pattern and "+" not in pattern:
        return True
    levels = pattern.split("/")
    if "#" in levels[:-1]:
        return False
    return all(len(level) == 1 or ("#" not in level and "+" not in level) for level in levels)


def split_share(pattern: str) -> tuple[str | None, str] | None:
    """Share name (None: not shared) and filter of what a client subscribes to, or None when it is invalid."""
    if not pattern.startswith(_SHARE):
        return (None, pattern) if is_filter(pattern) else None
    name, slash, rest = pattern[len(_SHARE) :].partition("/")
    if not name or not slash or "+" in name or "#" in name or not is_filter(rest):
        return None
    return name, rest


def matches(pattern: str, topic: str) -> bool:
    """Whether a filter matches a topic name; wildcards at the front never match a `$` topic."""
    if pattern == topic:
        return True
    if topic.startswith("$") and pattern[:1] in ("+", "#"):
        return False
    wanted, levels = pattern.split("/"), topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or (level not in ("+", levels[index])):
            return False
    return len(wanted) == len(levels)


def covers(pattern: str, wanted: str) -> bool:
    """Whether every topic that the filter `wanted` matches is matched by `pattern` too."""
    if wanted.startswith("$") and pattern[:1] in ("+", "#"):
        return False
    outer, inner = pattern.split("/"), wanted.split("/")
    for index, level in enumerate(outer):
        if level == "#":
            return True
        if index >= len(inner):
            return False
        other = inner[index]
        if other == "#" or (level not in ("+", other)):
            return False
    return len(outer) == len(inner)
