"""What simulations need of the platform beside what benches do: a past for a new data directory.

Shaped after `device_sim.commands.tools`, which this package must not import; main.py hands it over.
"""

from __future__ import annotations

import csv
import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from app.domain.errors import OperatorInputError
from app.domain.keys import CollectionLevel
from app.domain.past import PastHome, PastSpan
from app.domain.resolution import DEFAULT_ZONE, CivilDays
from app.hub.data_directory import DataDirectory
from app.hub.opening import registry_facts
from app.hub.registry_facts import RegistryFacts
from app.hub.story_tools import StoryTools
from app.stores.registry.provisioning import Template
from app.stores.registry.records import ModuleFacts, NewSite, Provisioned
from app.stores.registry.registry import Registry
from app.stores.series.past import PastFiles, PastWriter, commit_past

_FIRMWARE, _HARDWARE = "1.4.2", "wd-2"


@dataclasses.dataclass(frozen=True, slots=True)
class Past:
    """A past being written; processes get a copy of it."""

    root: Path
    staging: Path
    span: PastSpan
    keys: tuple[int, ...]
    registers: tuple[int, ...]
    facts: RegistryFacts
    credentials: tuple[Provisioned, ...]

    def writer(self, rows: Sequence[int]) -> PastWriter:
        """For some of the homes, by index; each home belongs to one writer."""
        keys = np.array([self.keys[row] for row in rows], np.int64)
        counts = np.array([self.registers[row] for row in rows], np.int64)
        return PastWriter(self.staging, keys, counts, self.span, self.facts)

    def by_key(self) -> list[int]:
        """The homes in the order of their keys: writers of neighbours make files that a reader can pass over."""
        return sorted(range(len(self.keys)), key=self.keys.__getitem__)

    def commit(self, parts: Sequence[PastFiles]) -> int:
        """All that was written, as a store; its rows."""
        return commit_past(DataDirectory(self.root).series, self.staging, parts, self.span)

    def write_credentials(self, path: Path) -> None:
        """`serial,username,secret`, for modules that are to go on from here."""
        path.touch(0o600)
        with path.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("serial", "username", "secret"))
            writer.writerows(self.credentials)


class SimulationTools(StoryTools):
    """Builds data directories that have a past."""

    def civil_midnight(self, time_us: int) -> int:
        """The midnight at or before a moment where our homes are."""
        return CivilDays(DEFAULT_ZONE).start_of(time_us)

    @contextmanager
    def new_past(self, data_dir: Path, homes: Sequence[PastHome], span: PastSpan) -> Iterator[Past]:
        """A new data directory with these homes, provisioned at the span's begin.

        Built beside its place, where it comes when the context is left in peace; else nothing is left of it. Raises
        OperatorInputError when there is something in its place.
        """
        target = data_dir.resolve()
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise OperatorInputError(
                f"{target} is there and not empty; a past is only written into a new data directory"
            )
        root = target.with_name(f"{target.name}.unfinished")
        if root.exists():
            raise OperatorInputError(f"{root} is in the way: of a run that goes on, or was killed; remove it then")
        staging = root / "past"
        try:
            directory = DataDirectory(root)
            directory.make()
            staging.mkdir()
            with Registry.open(directory.registry, now_us=lambda: span.start_us) as registry:
                credentials = _provision(registry, homes)
                keys = {serial: found.periods[-1].key for (serial, _), found in registry.all_periods().items()}
                facts = registry_facts(registry, None, DEFAULT_ZONE)()
            yield Past(
                root,
                staging,
                span,
                tuple(keys[home.serial] for home in homes),
                tuple(home.registers for home in homes),
                facts,
                tuple(credentials),
            )
            shutil.rmtree(staging)
            if target.exists():
                target.rmdir()
            root.rename(target)
        except BaseException:
            shutil.rmtree(root, ignore_errors=True)
            raise


def _provision(registry: Registry, homes: Sequence[PastHome]) -> list[Provisioned]:
    sites = registry.add_sites(
        [
            NewSite(home.city, street=home.street, postcode=home.postcode, delivery_point=home.delivery_point)
            for home in homes
        ]
    )
    made = registry.provision_many(
        [home.serial for home in homes], Template(sites=tuple(sites), level=CollectionLevel.SECOND)
    )
    registry.set_facts_of_many(
        {home.serial: ModuleFacts(1000, _FIRMWARE, _HARDWARE, home.meter_serial) for home in homes}
    )
    return made
