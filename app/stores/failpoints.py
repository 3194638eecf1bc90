"""Named places where a test or a bench makes the stores die, stall or fail; off unless asked for."""

from __future__ import annotations

import enum
import errno
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from app.stores.errors import FailPointError

ENVIRONMENT_VARIABLE = "WATTDECK_FAIL_POINT"


class FailPoint(enum.StrEnum):
    """Where it may happen; each name says what has just been done, or what is about to be."""

    # About to write to the segment, about to sync it.
    JOURNAL_WRITE = "journal_write"
    JOURNAL_SYNC = "journal_sync"
    JOURNAL_WRITTEN = "journal_written"
    JOURNAL_SYNCED = "journal_synced"
    # Parquet files are written, the log entry is not.
    DELTA_WRITTEN = "delta_written"
    # About to write the log entry; then: it is durable.
    DELTA_COMMIT = "delta_commit"
    DELTA_COMMITTED = "delta_committed"
    # About to delete a segment whose rows are in the tables.
    SEGMENT_DELETE = "segment_delete"
    # About to commit a compaction, a roll-up.
    COMPACTION = "compaction"
    ROLLUP = "rollup"
    # Midway: some of the removed files are unlinked.
    VACUUM = "vacuum"
    # A step of a job is done, and not saved.
    JOB_STEP = "job_step"
    # Commands are marked as sent, and not published yet; modules took some, and that is not written yet.
    COMMANDS_MARKED = "commands_marked"
    COMMANDS_TAKEN = "commands_taken"


class FailAction(enum.StrEnum):
    KILL = "kill"
    STALL = "stall"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class FailRule:
    """What happens at a point, from its `first` to its `last` passing (counted from 1; None: for ever)."""

    point: FailPoint
    action: FailAction
    stall_s: float = 0.0
    errno: int = 0
    first: int = 1
    last: int | None = 1


# point:kill, point:stall=SECONDS, point:error=ENOSPC; then @N (the Nth time only), @N-M, @N+ (from the Nth on).
_RULE = re.compile(
    r"(?P<point>[a-z_]+):(?P<action>kill|stall|error)(?:=(?P<value>[A-Za-z0-9.]{1,20}))?"
    r"(?:@(?P<first>[0-9]{1,9})(?:(?P<on>\+)|-(?P<last>[0-9]{1,9}))?)?",
)


def parse_fail_rule(text: str) -> FailRule:
    """One rule, such as `journal_synced:kill@3`; raises FailPointError."""
    match = _RULE.fullmatch(text)
    if match is None:
        raise FailPointError(
            f"fail point {text!r}: expected POINT:kill, POINT:stall=SECONDS or POINT:error=ERRNO, then @N"
        )
    if match["point"] not in set(FailPoint):
        raise FailPointError(f"fail point {text!r}: unknown point; known: {', '.join(FailPoint)}")
    action = FailAction(match["action"])
    first = int(match["first"] or 1)
    last = int(match["last"]) if match["last"] else None if match["on"] else first
    if first < 1 or (last is not None and last < first):
        raise FailPointError(f"fail point {text!r}: times are counted from 1, the first before the last")
    value = match["value"]
    if (action is FailAction.KILL) != (value is None):
        raise FailPointError(f"fail point {text!r}: stall and error take a value, kill takes none")
    stall_s, code = 0.0, 0
    if action is FailAction.STALL:
        try:
            stall_s = float(value)
        except ValueError:
            raise FailPointError(f"fail point {text!r}: {value!r} is no number of seconds") from None
        if not 0 <= stall_s <= 3600:
            raise FailPointError(f"fail point {text!r}: a stall lasts 0 to 3600 s")
    elif action is FailAction.ERROR:
        code = getattr(errno, value, 0) if value.isupper() else 0
        if not isinstance(code, int) or code == 0:
            raise FailPointError(f"fail point {text!r}: {value!r} is no error number's name")
    return FailRule(FailPoint(match["point"]), action, stall_s, code, first, last)


def parse_fail_points(text: str) -> tuple[FailRule, ...]:
    """Rules parted by commas; an empty text has none. Raises FailPointError."""
    return tuple(parse_fail_rule(part.strip()) for part in text.split(",") if part.strip())


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class FailPoints:
    """Counts the passings of each point and does what its rules say; any thread may pass."""

    def __init__(
        self,
        rules: Iterable[FailRule] = (),
        *,
        kill: Callable[[], None] = _kill,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rules = tuple(rules)
        self._kill = kill
        self._sleep = sleep
        self._passed: dict[FailPoint, int] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> FailPoints:
        """What WATTDECK_FAIL_POINT asks for; raises FailPointError."""
        return cls(parse_fail_points(environment.get(ENVIRONMENT_VARIABLE, "")))

    def passing(self, point: FailPoint) -> None:
        """Dies, sleeps or raises OSError when a rule says so; costs nothing otherwise."""
        if not self._rules:
            return
        with self._lock:
            count = self._passed[point] = self._passed.get(point, 0) + 1
        for rule in self._rules:
            if rule.point is point and rule.first <= count and (rule.last is None or count <= rule.last):
                self._act(rule)

    def _act(self, rule: FailRule) -> None:
        match rule.action:
            case FailAction.KILL:
                self._kill()
            case FailAction.STALL:
                self._sleep(rule.stall_s)
            case FailAction.ERROR:
                raise OSError(rule.errno, os.strerror(rule.errno))
