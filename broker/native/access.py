"""What a client's access allows, filter by filter."""

from __future__ import annotations

from broker.engine import Access
from broker.packets.topics import covers, matches

# What `allow_anonymous` gives: everything below `$`, which `#` does not cover.
ANONYMOUS = Access(subject="anonymous", kind="anonymous", publish=("#",), subscribe=("#",))


def may_publish(access: Access, topic: str) -> bool:
    """Whether a message may go to this topic name."""
    return any(matches(pattern, topic) for pattern in access.publish)


def may_subscribe(access: Access, pattern: str) -> bool:
    """Whether everything that this filter (without `$share`) can match is allowed."""
    return any(covers(allowed, pattern) for allowed in access.subscribe)
