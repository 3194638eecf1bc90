"""How many files (connections are files) this process may open."""

from __future__ import annotations

import logging

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)

# Files the hub needs beside its connections: stores, logs, workers.
_OTHERS = 500


def allow_connections(count: int) -> None:
    """Raise this process's limit of open files as far as it may; a warning when so many connections do not fit."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHERS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, target), hard))
        except (ValueError, OSError) as error:
            _log.warning("the limit of open files stays at %d: %s", soft, error)
            return
        if target < wanted:
            _log.warning("this process may open %d files: fewer connections fit than the %d set", target, count)
