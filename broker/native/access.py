"""What a client's access allows, filter by filter."""

from __future__ import annotations

from broker.engine import Access
from broker.packets.topics import covers, matches

# What `allow_anonymous` gives: everything below `$`, which `#` does not cover.
ANONYMOUS = Access(subject="anonymous", kind="anonymous", publish=("#",), subscribe=("#",))


def may_publish(access: Access, topic: str, private: str) -> bool:
    """Whether a message may go to this topic name. Topics that begin with `private` (empty: none) are the hub's own."""
    if private and topic.startswith(private):
        return False
    return any(matches(pattern, topic) for pattern in access.publish)


def may_subscribe(access: Access, pattern: str, private: str) -> bool:
    """Whether everything that this filter (without `$share`) can match is allowed.

    A filter of private topics needs a pattern of private topics: `#` does not cover them.
    """
    asks_private = bool(private) and pattern.startswith(private)
    return any(
        covers(allowed, pattern) for allowed in access.subscribe if not asks_private or allowed.startswith(private)
    )


def may_receive_private(access: Access, topic: str, private: str) -> bool:
    """Whether a message of a private topic may go to a client, whatever filter it came by."""
    return any(allowed.startswith(private) and matches(allowed, topic) for allowed in access.subscribe)
