"""What a fault is: it begins on modules or access points, and ends again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from device_sim.modules.module import Module
from device_sim.radio import AccessPoint

# Undoes what a fault did.
Undo = Callable[[], None]
Value = float | str | bool


class FaultMistake(ValueError):
    """A fault that does not exist, or a word that it does not know; the text is for who wrote the story."""


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """Whom a fault hits: modules, and the access points that all of them or some of them use."""

    modules: Sequence[Module]
    access_points: Sequence[AccessPoint] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """A row of the catalogue. `begin` starts it and returns what ends it; `defaults` are its words."""

    name: str
    wire: str
    begin: Callable[[Target, Mapping[str, Value]], Undo]
    defaults: Mapping[str, Value] = dataclasses.field(default_factory=dict)

    def start(self, target: Target, words: Mapping[str, Value] | None = None) -> Undo:
        """Begin it. Raises FaultMistake for a word that it does not know or that is of another type."""
        given = dict(words or {})
        for name, value in given.items():
            if name not in self.defaults:
                takes = ", ".join(self.defaults) or "no words"
                raise FaultMistake(f"{self.name} knows no {name!r}; it takes {takes}")
            wanted = type(self.defaults[name])
            fits = isinstance(value, int | float) if wanted is float else isinstance(value, wanted)
            if isinstance(value, bool) != (wanted is bool) or not fits:
                raise FaultMistake(f"{self.name}: {name} is a {_WORDS[wanted]}, not {value!r}")
        return self.begin(target, {**self.defaults, **given})


_WORDS: Mapping[type, str] = {float: "number", str: "text", bool: "true or false"}


def undo_all(undos: Sequence[Undo]) -> Undo:
    """One end of many, the last begun first."""

    def undo() -> None:
        for one in reversed(undos):
            one()

    return undo


def number(words: Mapping[str, Value], name: str) -> float:
    """A word that is a number."""
    return float(words[name])
