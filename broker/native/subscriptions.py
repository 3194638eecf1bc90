"""Who subscribes to what, and which subscriptions a topic meets.

Filters without wildcards lie in one dictionary (16,000 modules have one such filter each); the others in a tree of
levels. Publishers keep what `match` returned and ask again when `generations` has moved at the topic's bucket.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.native.session import Session

# A power of two. With 16,000 modules that subscribe one by one, a change makes 16 kept answers stale instead of all.
BUCKETS = 1024
# Levels that make the bucket. The topics of one module share their first four levels (`wd/v1/m/<serial>`).
_HEAD_LEVELS = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Granted:
    """One subscription as it was granted. `group` is None unless it is shared; `number` 0 is "no identifier"."""

    pattern: str
    qos: int
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0
    number: int = 0
    group: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """A session that gets a message once, its overlapping subscriptions merged: highest QoS, all identifiers."""

    session: Session
    qos: int
    no_local: bool
    retain_as_published: bool
    numbers: tuple[int, ...]


class Group:
    """The members of one shared subscription, taken in turn."""

    __slots__ = ("members", "turn")

    def __init__(self) -> None:
        self.members: dict[Session, Granted] = {}
        self.turn = 0

    def pick(self) -> tuple[Session, Granted] | None:
        """The next member: one whose connection takes data, else one that is connected, else one that is away."""
        members = list(self.members.items())
        if not members:
            return None
        count = len(members)
        connected = away = None
        for step in range(count):
            index = (self.turn + step) % count
            member = members[index]
            connection = member[0].connection
            if connection is None:
                # Only a member with a queue can wait for it; QoS 0 would be lost there.
                if away is None and member[0].persistent:
                    away = member
            elif not connection.choked and not member[0].window_full:
                self.turn = index + 1
                return member
            elif connected is None:
                connected = member
        self.turn = (self.turn + 1) % count
        return connected or away


@dataclasses.dataclass(frozen=True, slots=True)
class Match:
    """Everybody who gets messages of one topic."""

    targets: tuple[Target, ...] = ()
    groups: tuple[Group, ...] = ()


NOBODY = Match()


class _Node:
    """One level of the tree. `here`: subscriptions whose filter ends here; `groups`: shared ones by name."""

    __slots__ = ("children", "groups", "here")

    def __init__(self) -> None:
        self.children: dict[str, _Node] | None = None
        self.here: dict[Session, Granted] | None = None
        self.groups: dict[str, Group] | None = None

    @property
    def empty(self) -> bool:
        return not (self.children or self.here or self.groups)


def bucket_of(topic: str) -> int:
    """The bucket of a topic or of a filter's literal beginning."""
    return hash("/".join(topic.split("/", _HEAD_LEVELS)[:_HEAD_LEVELS])) & (BUCKETS - 1)


class Subscriptions:
    """All subscriptions of all sessions."""

    def __init__(self) -> None:
        self._exact: dict[str, _Node] = {}
        self._root = _Node()
        self.generations = [0] * BUCKETS
        self.count = 0

    def add(self, session: Session, granted: Granted) -> None:
        """Add, or replace the same session's subscription to the same filter."""
        node = self._find(granted.pattern)
        if granted.group is not None:
            if node.groups is None:
                node.groups = {}
            members = node.groups.setdefault(granted.group, Group()).members
        else:
            if node.here is None:
                node.here = {}
            members = node.here
        if session not in members:
            self.count += 1
        members[session] = granted
        self._changed(granted.pattern)

    def remove(self, session: Session, granted: Granted) -> None:
        """Remove; unknown ones are no error."""
        node = self._exact.get(granted.pattern) if _is_exact(granted.pattern) else self._walk(granted.pattern)
        if node is None:
            return
        if granted.group is not None:
            group = (node.groups or {}).get(granted.group)
            if group is None or group.members.pop(session, None) is None:
                return
            if not group.members and node.groups is not None:
                del node.groups[granted.group]
        elif node.here is None or node.here.pop(session, None) is None:
            return
        self.count -= 1
        self._prune(granted.pattern)
        self._changed(granted.pattern)

    def group(self, pattern: str, name: str) -> Group | None:
        """The members of a shared subscription."""
        node = self._exact.get(pattern) if _is_exact(pattern) else self._walk(pattern)
        return None if node is None else (node.groups or {}).get(name)

    def match(self, topic: str) -> Match:
        """Everybody who gets messages of this topic name."""
        nodes: list[_Node] = []
        exact = self._exact.get(topic)
        if exact is not None:
            nodes.append(exact)
        if self._root.children:
            levels = topic.split("/")
            self._collect(self._root, levels, 0, nodes, wild=not topic.startswith("$"))
        if not nodes:
            return NOBODY
        merged: dict[Session, Target] = {}
        groups: list[Group] = []
        for node in nodes:
            for session, granted in (node.here or {}).items():
                merged[session] = _merge(merged.get(session), session, granted)
            groups += (node.groups or {}).values()
        if not merged and not groups:
            return NOBODY
        return Match(tuple(merged.values()), tuple(groups))

    def _collect(self, node: _Node, levels: list[str], index: int, found: list[_Node], *, wild: bool = True) -> None:
        children = node.children
        if children is None:
            if index == len(levels):
                found.append(node)
            return
        if wild:
            rest = children.get("#")
            if rest is not None:
                found.append(rest)
        if index == len(levels):
            found.append(node)
            return
        child = children.get(levels[index])
        if child is not None:
            self._collect(child, levels, index + 1, found)
        if wild:
            child = children.get("+")
            if child is not None:
                self._collect(child, levels, index + 1, found)

    def _find(self, pattern: str) -> _Node:
        if _is_exact(pattern):
            node = self._exact.get(pattern)
            if node is None:
                node = self._exact[pattern] = _Node()
            return node
        node = self._root
        for level in pattern.split("/"):
            if node.children is None:
                node.children = {}
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        return node

    def _walk(self, pattern: str) -> _Node | None:
        node = self._root
        for level in pattern.split("/"):
            child = (node.children or {}).get(level)
            if child is None:
                return None
            node = child
        return node

    def _prune(self, pattern: str) -> None:
        if _is_exact(pattern):
            if self._exact[pattern].empty:
                del self._exact[pattern]
            return
        path = [self._root]
        levels = pattern.split("/")
        for level in levels:
            path.append((path[-1].children or {})[level])
        for level, parent, child in zip(reversed(levels), reversed(path[:-1]), reversed(path[1:]), strict=True):
            if not child.empty or parent.children is None:
                return
            del parent.children[level]
            if not parent.children:
                parent.children = None

    def _changed(self, pattern: str) -> None:
        head = pattern.split("/", _HEAD_LEVELS)[:_HEAD_LEVELS]
        # `a/b/c/d/#` also matches its parent `a/b/c/d`, which lies in the same bucket.
        if "+" in head or "#" in head:
            self.generations[:] = [number + 1 for number in self.generations]
        else:
            self.generations[bucket_of(pattern)] += 1


def _is_exact(pattern: str) -> bool:
    return "+" not in pattern and "#" not in pattern


def _merge(old: Target | None, session: Session, granted: Granted) -> Target:
    numbers = (granted.number,) if granted.number else ()
    if old is None:
        return Target(session, granted.qos, granted.no_local, granted.retain_as_published, numbers)
    return Target(
        session,
        max(old.qos, granted.qos),
        # One subscription that wants the session's own messages is enough to send them.
        old.no_local and granted.no_local,
        old.retain_as_published or granted.retain_as_published,
        old.numbers + numbers,
    )
