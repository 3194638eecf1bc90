"""The states of a job, and how they may change."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType


class JobState(enum.StrEnum):
    """Where a job is."""

    # Waits for its turn; also one that a stop of the hub interrupted, which goes on from where it was.
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether it stays so for ever."""
        return not TRANSITIONS[self]


TRANSITIONS: Mapping[JobState, frozenset[JobState]] = MappingProxyType(
    {
        JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
        JobState.RUNNING: frozenset({JobState.QUEUED, JobState.DONE, JobState.FAILED, JobState.CANCELLED}),
        JobState.DONE: frozenset(),
        JobState.FAILED: frozenset(),
        JobState.CANCELLED: frozenset(),
    }
)


def may_become(state: JobState, following: JobState) -> bool:
    """Whether a job in one state may go to another."""
    return following in TRANSITIONS[state]


def states_before(following: JobState) -> tuple[JobState, ...]:
    """The states from which a job may come to another."""
    return tuple(state for state in JobState if may_become(state, following))
