"""A story file: its fields, read strictly. `docs/stories.md` describes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from app.domain.errors import OperatorInputError
from device_sim.faults.catalogue import fault_of
from device_sim.faults.fault import FaultMistake, Target, Value

Seconds = Annotated[float, Meta(ge=0, le=864_000)]
Name = Annotated[str, Meta(min_length=1, max_length=60)]
Hour = Annotated[float, Meta(ge=0, lt=24)]
MOST_HOMES = 5000
_LARGEST_FILE = 1_000_000


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A misspelt field is a mistake, not a wish that is forgotten."""


class Street(_Strict, frozen=True, forbid_unknown_fields=True):
    """Homes of one street. `access_points`: so many are shared by them in turn; 0: each home has its own."""

    city: Name
    street: Name
    homes: Annotated[int, Meta(ge=1, le=MOST_HOMES)]
    access_points: Annotated[int, Meta(ge=0, le=MOST_HOMES)] = 0
    channel: Annotated[int, Meta(ge=1, le=255)] = 6
    distance_m: tuple[float, float] = (3.0, 8.0)
    walls: tuple[int, int] = (0, 2)


class Where(_Strict, frozen=True, forbid_unknown_fields=True):
    """Some of the homes: all that is said is true of them; nothing said: all. `homes`: the first so many."""

    city: str | None = None
    street: str | None = None
    access_point: str | None = None
    homes: Annotated[int, Meta(ge=1)] | None = None
    # All but the first so many.
    after: Annotated[int, Meta(ge=0)] | None = None


class TimedFault(_Strict, frozen=True, forbid_unknown_fields=True):
    """A fault that begins at `at_s`, and ends after `for_s`; without, it stays."""

    at_s: Seconds
    fault: str
    for_s: Seconds | None = None
    where: Where = Where()
    words: Mapping[str, Value] = msgspec.field(default_factory=dict, name="with")


class Bounds(_Strict, frozen=True, forbid_unknown_fields=True):
    """What a number must be."""

    equals: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    def hold(self, value: float) -> bool:
        """Whether a number is within."""
        return (
            (self.equals is None or value == self.equals)
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
        )

    def __str__(self) -> str:
        """In words."""
        words = (("", self.equals), ("at least ", self.at_least), ("at most ", self.at_most))
        return " and ".join(f"{word}{value:g}" for word, value in words if value is not None)


class EventsWanted(Bounds, frozen=True, forbid_unknown_fields=True):
    """How many events of a kind the homes must have had since `since_s`; `of: modules` counts modules."""

    kind: str = ""
    of: Literal["events", "modules"] = "events"
    since_s: Seconds = 0.0
    # Details that an event must have, as they are or as a part of a text.
    details: Mapping[str, str | int] = {}


class StatisticWanted(Bounds, frozen=True, forbid_unknown_fields=True):
    """A number of the hub's statistics."""

    name: str = ""


class Expectation(_Strict, frozen=True, forbid_unknown_fields=True):
    """What must be true at some time from `at_s` to `within_s` later. Exactly one thing is expected."""

    at_s: Seconds
    within_s: Seconds = 15.0
    say: str = ""
    where: Where = Where()
    # Homes in each state; "all" of them.
    states: Mapping[Literal["live", "late", "silent", "offline", "never"], int | Literal["all"]] | None = None
    # Of every one of the homes.
    rssi_dbm: Bounds | None = None
    frame_gap_ms: Bounds | None = None
    events: EventsWanted | None = None
    # Readings that the hub acknowledged and does not have.
    lost_readings: Bounds | None = None
    # Readings since the story began that came late or were resent, of all the homes together.
    late_readings: Bounds | None = None
    # Share of the readings that were due since the story began, of each of the homes.
    completeness: Bounds | None = None
    quarantined: Bounds | None = None
    statistic: StatisticWanted | None = None


KINDS = (
    "states",
    "rssi_dbm",
    "frame_gap_ms",
    "events",
    "lost_readings",
    "late_readings",
    "completeness",
    "quarantined",
    "statistic",
)


class Story(_Strict, frozen=True, forbid_unknown_fields=True):
    """A story. `begins_at_h`: the hour of day that the homes live in at its beginning; without, that of the machine."""

    title: Annotated[str, Meta(min_length=1, max_length=100)]
    seed: int
    length_s: Annotated[float, Meta(ge=1, le=864_000)]
    fleet: Annotated[list[Street], Meta(min_length=1)]
    expect: Annotated[list[Expectation], Meta(min_length=1)]
    faults: list[TimedFault] = []
    notes: str = ""
    period_s: Annotated[float, Meta(ge=0.1, le=3600)] = 5.0
    keep_alive_s: Annotated[float, Meta(ge=1, le=3600)] = 60.0
    begins_at_h: Hour | None = None


class StoryMistake(OperatorInputError):
    """A story that can not be played; says where the mistake is."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")


def read_story(path: Path) -> Story:
    """Read a file. Raises StoryMistake."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise StoryMistake(path, f"can not be read: {error.strerror or error}") from error
    if len(content) > _LARGEST_FILE:
        raise StoryMistake(path, "is too large for a story")
    try:
        story = msgspec.yaml.decode(content, type=Story)
    except msgspec.ValidationError as error:
        raise StoryMistake(path, str(error)) from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise StoryMistake(path, f"is no YAML: {error}") from error
    _check(path, story)
    return story


def _check(path: Path, story: Story) -> None:
    for number, street in enumerate(story.fleet, 1):
        for name, (least, most) in (("distance_m", street.distance_m), ("walls", street.walls)):
            if not 0 <= least <= most <= 1000:
                raise StoryMistake(path, f"fleet {number}: {name} is two numbers, the smaller first")
    if sum(street.homes for street in story.fleet) > MOST_HOMES:
        raise StoryMistake(path, f"a story has {MOST_HOMES} homes at most")
    for number, fault in enumerate(story.faults, 1):
        try:
            # On nobody: only its name and words are looked at.
            fault_of(fault.fault).start(Target([]), fault.words)()
        except FaultMistake as error:
            raise StoryMistake(path, f"fault {number}: {error}") from error
        if fault.at_s > story.length_s:
            raise StoryMistake(path, f"fault {number} begins after the story's end")
    for number, one in enumerate(story.expect, 1):
        if sum(getattr(one, kind) is not None for kind in KINDS) != 1:
            raise StoryMistake(path, f"expectation {number} must expect exactly one of: {', '.join(KINDS)}")
        if one.at_s > story.length_s:
            raise StoryMistake(path, f"expectation {number} is after the story's end")
