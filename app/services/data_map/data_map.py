"""The data map of a running hub: its rows, what each place holds of somebody, and what has no row."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from app.domain.data_map import About, DataPlace, DataSubject, Erased, Held, place_of_path
from app.domain.data_places import PLACES
from app.domain.errors import BugError
from app.domain.settings import Settings, catalogue
from app.services.data_map.keepers import Keeper
from app.stores.registry.holdings import subject_of_holder, subject_of_module, tables_of
from app.stores.registry.registry import Registry

_SETTING = re.compile(r"\{([a-z_]+\.[a-z_]+)\}")


class DataMap:
    """Every method blocks. A place without a keeper holds nothing of anybody, or can not be looked into from here."""

    def __init__(
        self,
        registry: Registry,
        root: Path,
        keepers: Mapping[str, Keeper],
        settings: Callable[[], Settings],
        *,
        places: Sequence[DataPlace] = PLACES,
    ) -> None:
        """Raises BugError for a keeper of no place."""
        self._registry = registry
        self._root = root
        self._keepers = keepers
        self._settings = settings
        self._places = tuple(places)
        strays = set(keepers) - {place.name for place in places}
        if strays:
            raise BugError(f"keepers of no place of the data map: {sorted(strays)}")

    @property
    def places(self) -> Sequence[DataPlace]:
        """Every place."""
        return self._places

    def retention(self, place: DataPlace) -> str:
        """A place's retention in words, with the settings as they are."""
        rows, settings = catalogue(), self._settings()
        return _SETTING.sub(lambda found: str(rows[found[1]].of(settings)), place.retention)

    def module(self, serial: str) -> DataSubject:
        """A module. Raises UnknownNameError."""
        with self._registry.reading() as connection:
            return subject_of_module(connection, serial)

    def holder(self, token: str) -> DataSubject:
        """A holder. Raises UnknownNameError."""
        with self._registry.reading() as connection:
            return subject_of_holder(connection, token)

    def find(self, subject: DataSubject) -> list[tuple[DataPlace, Held]]:
        """What each place holds of a subject, as far as one can tell."""
        return [(place, self._find(place, subject)) for place in self._places if _concerns(place)]

    def erase(self, place_name: str, subject: DataSubject) -> Erased:
        """Erase a subject at one place. Raises UnknownNameError's kin where a store fails; see its keeper."""
        (place,) = [place for place in self._places if place.name == place_name]
        if place.not_erased:
            return Erased(0, place.not_erased)
        if place.erased_with:
            return Erased(0, f"erased with {place.erased_with}")
        keeper = self._keepers.get(place_name)
        return Erased(0, "nothing looks into this place yet") if keeper is None else keeper.erase(subject)

    def undeclared(self) -> list[str]:
        """Files, tables of the registry and sinks of log lines that no row speaks of: a fault of whoever made them."""
        known = {place.table for place in self._places}
        with self._registry.reading() as connection:
            tables = tables_of(connection)
        found = [f"registry table {name}" for name in tables if name not in known]
        sinks = {place.log for place in self._places}
        found += [f"log sink {name}" for name in log_sinks() if name not in sinks]
        found += [f"file {path}" for path in _files(self._root) if place_of_path(path, self._places) is None]
        return found

    def _find(self, place: DataPlace, subject: DataSubject) -> Held:
        keeper = self._keepers.get(place.name)
        if keeper is not None:
            return keeper.find(subject)
        return Held(None, None, f"told at {place.erased_with}" if place.erased_with else "can not be told from here")


def log_sinks() -> list[str]:
    """Where log lines go in this process, by name: stderr, stdout, a file's path, or the class of what takes them."""
    loggers = [logging.getLogger(), *(one for one in logging.Logger.manager.loggerDict.values())]
    handlers = {handler for logger in loggers for handler in getattr(logger, "handlers", ())}
    return sorted({name for handler in handlers if (name := _sink(handler))})


def _sink(handler: logging.Handler) -> str:
    if isinstance(handler, logging.NullHandler):
        return ""
    if isinstance(handler, logging.FileHandler):
        return "" if handler.baseFilename == os.devnull else f"file {handler.baseFilename}"
    stream = getattr(handler, "stream", None)
    if stream is not None and stream in (sys.stderr, sys.__stderr__):
        return "stderr"
    if stream is not None and stream in (sys.stdout, sys.__stdout__):
        return "stdout"
    return f"{type(handler).__module__}.{type(handler).__qualname__}"


def _files(root: Path) -> Iterable[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())


def _concerns(place: DataPlace) -> bool:
    return About.MODULE in place.about or About.PERSON in place.about
