"""Remote commands: which there are, what each takes, how the state of one may change, and who can not get one."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from types import MappingProxyType

from app.domain.errors import OperatorInputError
from app.domain.people import Scope

# More than a module works off in a day; what adds to that is a mistake of a program.
MOST_OPEN_PER_MODULE = 100
# A module's answer may be on its way when its command ends: it is waited for a little longer.
ANSWER_GRACE_US = 30_000_000
SHORTEST_EXPIRY_S = 1
LONGEST_EXPIRY_S = 30 * 86_400
DEFAULT_EXPIRY_S = 86_400
# Our own modules; foreign dialects say for each device which commands they have for it.
OWN_DIALECT = "wattdeck"

Value = bool | int | float | str | None


class CommandState(enum.StrEnum):
    """Where a command is."""

    # In the registry; the module does not listen, or is about to get it.
    QUEUED = "queued"
    # Given to the broker while the module listened, or about to be; when the module took it, it has a time of that.
    SENT = "sent"
    # The module has it: it runs, or is done; the result says which.
    ACKNOWLEDGED = "acknowledged"
    # The module refused it, does not know it, or could not do it.
    FAILED = "failed"
    # Its time was over without an answer.
    EXPIRED = "expired"
    # Taken back before it was sent.
    CANCELLED = "cancelled"


# Acknowledged is left only for failed: a module that said `accepted` may fail at it later.
TRANSITIONS: Mapping[CommandState, frozenset[CommandState]] = MappingProxyType(
    {
        CommandState.QUEUED: frozenset({CommandState.SENT, CommandState.EXPIRED, CommandState.CANCELLED}),
        CommandState.SENT: frozenset({CommandState.ACKNOWLEDGED, CommandState.FAILED, CommandState.EXPIRED}),
        CommandState.ACKNOWLEDGED: frozenset({CommandState.FAILED}),
        CommandState.FAILED: frozenset(),
        CommandState.EXPIRED: frozenset(),
        CommandState.CANCELLED: frozenset(),
    }
)
# What the module may still get or answer.
OPEN_STATES = (CommandState.QUEUED, CommandState.SENT)


def may_become(before: CommandState, after: CommandState) -> bool:
    """Whether a command may go from one state to another."""
    return after in TRANSITIONS[before]


def states_before(after: CommandState) -> tuple[CommandState, ...]:
    """The states that a command may be in to become this."""
    return tuple(before for before, allowed in TRANSITIONS.items() if after in allowed)


# A module's word in `ack` -> state. Words that are not here are shown as they are and count as acknowledged: the list
# of docs/protocol.md is open.
_ANSWERS = {
    "failed": CommandState.FAILED,
    "refused": CommandState.FAILED,
    "unknown": CommandState.FAILED,
    "expired": CommandState.EXPIRED,
}
# The answer that another one follows.
ACCEPTED = "accepted"


def state_of_answer(result: str | None) -> CommandState:
    """What an answer with this result makes of a command."""
    return _ANSWERS.get(result or "", CommandState.ACKNOWLEDGED)


@dataclasses.dataclass(frozen=True, slots=True)
class Argument:
    """One parameter of a command; `kind` is int, bool or str. Bounds are inclusive."""

    name: str
    kind: type
    doc: str
    required: bool = False
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()

    def allowed(self) -> str:
        """The allowed values in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind is bool:
            return "true or false"
        return f"a whole number from {self.minimum} to {self.maximum}"

    def takes(self, value: Value) -> bool:
        """Whether a value is allowed. A bool is no number here."""
        if type(value) is not self.kind:
            return False
        if isinstance(value, str):
            return value in self.choices
        if isinstance(value, int) and self.kind is int:
            return (self.minimum is None or value >= self.minimum) and (self.maximum is None or value <= self.maximum)
        return True


@dataclasses.dataclass(frozen=True, slots=True)
class CommandKind:
    """One row of the catalogue.

    `scope` is the right of who may send it. One that is `repeated` is sent again when the module comes back without
    having answered; one that is not only while it is not known that the module took it.
    """

    name: str
    doc: str
    arguments: tuple[Argument, ...] = ()
    scope: Scope = Scope.COMMANDS_SEND
    repeated: bool = True
    dialects: tuple[str, ...] = (OWN_DIALECT,)

    def check(self, given: Mapping[str, Value]) -> dict[str, Value]:
        """The arguments in the order of the catalogue. Raises OperatorInputError that says what is allowed."""
        rows = {row.name: row for row in self.arguments}
        unknown = [name for name in given if name not in rows]
        if unknown:
            takes = ", ".join(rows) or "no arguments"
            raise OperatorInputError(f"{self.name} has no argument {unknown[0][:40]!r}; it takes {takes}")
        for row in self.arguments:
            if given.get(row.name) is None:
                if row.required:
                    raise OperatorInputError(f"{self.name} needs {row.name}: {row.doc}, {row.allowed()}")
            elif not row.takes(given[row.name]):
                raise OperatorInputError(f"{self.name}: {row.name} is {row.allowed()}")
        return {name: given[name] for name in rows if given.get(name) is not None}


CATALOGUE: tuple[CommandKind, ...] = (
    CommandKind(
        "reboot",
        "start anew; answered `accepted` before and `done` after",
        (Argument("delay_s", int, "wait so long first", minimum=0, maximum=3600),),
        # A module that forgets its last command with its memory would reboot at every connect.
        repeated=False,
    ),
    CommandKind("diagnose", "test the meter link, the radio and the broker, and publish a `diag`"),
    CommandKind(
        "set_period",
        "send a reading each so many milliseconds, also after a reboot",
        (Argument("period_ms", int, "time between readings", required=True, minimum=100, maximum=86_400_000),),
        # It changes what is stored of a home, for good.
        scope=Scope.FLEET_WRITE,
    ),
    CommandKind(
        "send_log",
        "publish the newest lines of its log",
        (
            Argument("lines", int, "so many at most", minimum=1, maximum=1000),
            Argument("level", str, "this level and those above", choices=("debug", "info", "warning", "error")),
        ),
    ),
    CommandKind(
        "identify",
        "blink, so that it is found in the room",
        (Argument("duration_s", int, "for so long", minimum=1, maximum=600),),
    ),
    CommandKind("sync_clock", "ask the time server now"),
)
KINDS: Mapping[str, CommandKind] = MappingProxyType({kind.name: kind for kind in CATALOGUE})


def kind_of(name: str) -> CommandKind:
    """The row of a command. Raises OperatorInputError that names those there are."""
    if name not in KINDS:
        raise OperatorInputError(f"there is no command {name[:40]!r}; commands: {', '.join(KINDS)}")
    return KINDS[name]


class Refusal(enum.StrEnum):
    """Why a module does not get a command."""

    UNKNOWN = "unknown"
    BLOCKED = "blocked"
    PAUSED = "paused"
    RETIRED = "retired"
    METER = "meter"
    DIALECT = "dialect"
    TOO_MANY_OPEN = "too_many_open"


REFUSAL_TEXTS: Mapping[Refusal, str] = MappingProxyType(
    {
        Refusal.UNKNOWN: "no module of this serial is registered",
        Refusal.BLOCKED: "its credential is blocked, so it can not connect; unblock it first",
        Refusal.PAUSED: "its collection is paused",
        Refusal.RETIRED: "it is retired",
        Refusal.METER: "it is a meter on a serial port, which takes no commands",
        Refusal.DIALECT: "it speaks a dialect that has no such command",
        Refusal.TOO_MANY_OPEN: f"it has {MOST_OPEN_PER_MODULE} commands open; cancel some or let them expire",
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """A module as far as it matters for commands; `id` is its row in the registry."""

    id: int
    serial: str
    is_meter: bool
    dialect: str
    collection: str
    is_blocked: bool
    open_commands: int


def refusal_of(
    target: Target,
    kind: CommandKind,
    *,
    of_many: bool = False,
    speaks: Callable[[Target], bool] = lambda _target: False,
) -> Refusal | None:
    """Why a module does not get a command, if so. A paused one is left out of bulk commands only: its technician may
    have a reason to ask for it by name. `speaks`: whether a module of another dialect knows the command.
    """
    if target.is_meter:
        return Refusal.METER
    if target.dialect not in kind.dialects and not speaks(target):
        return Refusal.DIALECT
    if target.collection == Refusal.RETIRED.value:
        return Refusal.RETIRED
    if target.is_blocked:
        return Refusal.BLOCKED
    if of_many and target.collection == Refusal.PAUSED.value:
        return Refusal.PAUSED
    if target.open_commands >= MOST_OPEN_PER_MODULE:
        return Refusal.TOO_MANY_OPEN
    return None
