"""Contracts of a simulated Linky: which register runs when, and what the meter calls it. Days are drawn by a seed."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from app.domain.linky import TempoColour

_MINUTES = {"01:00": 60, "06:00": 360, "07:00": 420, "22:00": 1320}
# The first and the last month of the season of red days and mobile peaks.
_COLD_MONTHS = frozenset({11, 12, 1, 2, 3})
# About 22 of the 108 weekdays of that season, and about 43 of the 300 other days.
_PEAK_SHARE, _WHITE_SHARE = 0.2, 0.15
PEAK_NOTICE_MINUTES = 30


class Contact(enum.IntEnum):
    """What a step does to the dry contact (bits 15 and 14 of a block of a day profile)."""

    UNCHANGED = 0
    TEMPO = 1
    OPEN = 2
    CLOSED = 3


class Step(NamedTuple):
    """From `minute` of the local day on, this register runs."""

    minute: int
    register: int
    contact: Contact = Contact.UNCHANGED


@dataclasses.dataclass(frozen=True, slots=True)
class Contract:
    """A contract; `option` is what the historique mode says, `indexes` and `periods` its labels, all by register - 1.

    One that the historique mode does not know is `BASE` there, with the total as its only index.
    """

    name: str
    calendar: str
    tariffs: tuple[str, ...]
    steps: Callable[[dt.date, int], tuple[Step, ...]]
    option: str = "BASE"
    indexes: tuple[str, ...] = ("BASE",)
    periods: tuple[str, ...] = ("TH..",)

    def register_at(self, local: dt.datetime, seed: int) -> int:
        """The supplier's register that runs at a local time."""
        return self.step_at(local, seed).register

    def step_at(self, local: dt.datetime, seed: int) -> Step:
        """The step that holds at a local time."""
        minute = local.hour * 60 + local.minute
        return [step for step in self.steps(local.date(), seed) if step.minute <= minute][-1]


def _share(day: dt.date, seed: int, what: str) -> float:
    digest = hashlib.blake2b(f"{seed} {what} {day}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def is_peak_day(day: dt.date, seed: int) -> bool:
    """Whether a mobile peak (EJP) begins at 07:00 of this day."""
    return day.month in _COLD_MONTHS and day.weekday() < 5 and _share(day, seed, "peak") < _PEAK_SHARE


def colour_of(day: dt.date, seed: int) -> TempoColour:
    """The Tempo colour from 06:00 of a day to 06:00 of the next: red on weekdays in winter, never white on Sunday."""
    if is_peak_day(day, seed):
        return TempoColour.RED
    if day.weekday() < 6 and _share(day, seed, "white") < _WHITE_SHARE:
        return TempoColour.WHITE
    return TempoColour.BLUE


def _base(_day: dt.date, _seed: int) -> tuple[Step, ...]:
    return (Step(0, 1),)


def _off_peak(_day: dt.date, _seed: int) -> tuple[Step, ...]:
    return (
        Step(0, 2, Contact.OPEN),
        Step(_MINUTES["01:00"], 1, Contact.CLOSED),
        Step(_MINUTES["06:00"], 2, Contact.OPEN),
        Step(12 * 60 + 30, 1, Contact.CLOSED),
        Step(15 * 60 + 30, 2, Contact.OPEN),
    )


def _tempo(day: dt.date, seed: int) -> tuple[Step, ...]:
    before, now = colour_of(day - dt.timedelta(days=1), seed), colour_of(day, seed)
    return (
        Step(0, 2 * before - 1, Contact.TEMPO),
        Step(_MINUTES["06:00"], 2 * now, Contact.TEMPO),
        Step(_MINUTES["22:00"], 2 * now - 1, Contact.TEMPO),
    )


def _mobile_peak(day: dt.date, seed: int) -> tuple[Step, ...]:
    ends = is_peak_day(day - dt.timedelta(days=1), seed)
    begins = is_peak_day(day, seed)
    steps = [Step(0, 2 if ends else 1)]
    if ends:
        steps.append(Step(_MINUTES["01:00"], 1))
    if begins:
        steps.append(Step(_MINUTES["07:00"], 2))
    return tuple(steps)


def _weekend(day: dt.date, seed: int) -> tuple[Step, ...]:
    return (Step(0, 3, Contact.CLOSED),) if day.weekday() in {2, 5, 6} else _off_peak(day, seed)


def _super_off_peak(_day: dt.date, _seed: int) -> tuple[Step, ...]:
    return (
        Step(0, 1, Contact.OPEN),
        Step(2 * 60, 3, Contact.CLOSED),
        Step(_MINUTES["06:00"], 2, Contact.OPEN),
        Step(_MINUTES["22:00"], 1),
    )


_COLOURS = ("BLEU", "BLANC", "ROUGE")
CONTRACTS: Mapping[str, Contract] = MappingProxyType(
    {
        contract.name: contract
        for contract in (
            Contract("base", "      BASE      ", ("      BASE      ",), _base),
            Contract(
                "hchp",
                "H PLEINE/CREUSE ",
                (" HEURE  CREUSE  ", "  HEURE PLEINE  "),
                _off_peak,
                option="HC..",
                indexes=("HCHC", "HCHP"),
                periods=("HC..", "HP.."),
            ),
            Contract(
                "ejp",
                "      EJP       ",
                (" HEURE  NORMALE ", " POINTE  MOBILE "),
                _mobile_peak,
                option="EJP.",
                indexes=("EJPHN", "EJPHPM"),
                periods=("HN..", "PM.."),
            ),
            Contract(
                "tempo",
                "     TEMPO      ",
                tuple(f"{f'{time}  {colour}':^16}" for colour in _COLOURS for time in ("HC", "HP")),
                _tempo,
                # The fourth character is a program of the load contact.
                option="BBR(",
                indexes=("BBRHCJB", "BBRHPJB", "BBRHCJW", "BBRHPJW", "BBRHCJR", "BBRHPJR"),
                periods=("HCJB", "HPJB", "HCJW", "HPJW", "HCJR", "HPJR"),
            ),
            Contract(
                "weekend",
                "HC SEM WE MERCR ",
                ("HC SEMAINE      ", "HP SEMAINE      ", "WE MERCREDI     "),
                _weekend,
            ),
            Contract(
                "superhc",
                "HC SUPER CREUSES",
                ("HEURES CREUSES  ", "HEURES PLEINES  ", "SUPER CREUSES   "),
                _super_off_peak,
            ),
        )
    }
)


def day_profile(steps: tuple[Step, ...]) -> str:
    """A day profile as PJOURF+1 says it: 11 blocks."""
    blocks = [
        f"{step.minute // 60:02}{step.minute % 60:02}{step.contact << 14 | step.register:04X}" for step in steps[:11]
    ]
    return " ".join(blocks + ["NONUTILE"] * (11 - len(blocks)))
