"""Retained messages: the newest of each topic, found by filter."""

from __future__ import annotations

from collections.abc import Iterator

from broker.native.message import Message


class _Node:
    __slots__ = ("children", "message")

    def __init__(self) -> None:
        self.children: dict[str, _Node] | None = None
        self.message: Message | None = None


class RetainedMessages:
    """A tree of topic levels. `count` and `size` (bytes) are kept for the limits."""

    def __init__(self) -> None:
        self._root = _Node()
        self.count = 0
        self.size = 0

    def get(self, topic: str) -> Message | None:
        """The retained message of a topic."""
        node: _Node | None = self._root
        for level in topic.split("/"):
            node = (node.children or {}).get(level) if node is not None else None
            if node is None:
                return None
        return node.message if node is not None else None

    def put(self, message: Message) -> None:
        """Keep as the newest of its topic."""
        node = self._root
        for level in message.topic.split("/"):
            if node.children is None:
                node.children = {}
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        if node.message is None:
            self.count += 1
        else:
            self.size -= node.message.size
        node.message = message
        self.size += message.size

    def remove(self, topic: str) -> bool:
        """Forget a topic's message; whether there was one."""
        levels = topic.split("/")
        path = [self._root]
        for level in levels:
            child = (path[-1].children or {}).get(level)
            if child is None:
                return False
            path.append(child)
        message = path[-1].message
        if message is None:
            return False
        self.count -= 1
        self.size -= message.size
        path[-1].message = None
        for level, parent, child in zip(reversed(levels), reversed(path[:-1]), reversed(path[1:]), strict=True):
            if child.message is not None or child.children or parent.children is None:
                break
            del parent.children[level]
            if not parent.children:
                parent.children = None
        return True

    def match(self, pattern: str) -> Iterator[Message]:
        """Messages whose topic the filter matches, one by one: the tree may change between two of them."""
        return _walk(self._root, pattern.split("/"), 0)

    def all(self) -> Iterator[Message]:
        """Every message."""
        return _everything(self._root, dollar=True)


def _walk(node: _Node, levels: list[str], index: int) -> Iterator[Message]:
    if index == len(levels):
        if node.message is not None:
            yield node.message
        return
    level = levels[index]
    if level == "#":
        yield from _everything(node, dollar=index > 0)
        return
    if level != "+":
        child = (node.children or {}).get(level)
        if child is not None:
            yield from _walk(child, levels, index + 1)
        return
    for name, child in list((node.children or {}).items()):
        if index or not name.startswith("$"):
            yield from _walk(child, levels, index + 1)


def _everything(node: _Node, *, dollar: bool) -> Iterator[Message]:
    if node.message is not None:
        yield node.message
    for name, child in list((node.children or {}).items()):
        if dollar or not name.startswith("$"):
            yield from _everything(child, dollar=True)
