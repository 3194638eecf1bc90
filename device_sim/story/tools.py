"""What a story needs of the platform; injected, so that the simulator imports neither hub nor stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from device_sim.bench.tools import Credential


class Home(Protocol):
    """Where a module is put up."""

    @property
    def serial(self) -> str:
        """The module's."""
        ...

    @property
    def city(self) -> str:
        """Name of the city."""
        ...

    @property
    def address(self) -> str:
        """Number and street."""
        ...


class StoryHub(Protocol):
    """The hub that a story is played to, a process of its own."""

    def address(self, listener: str) -> tuple[str, int]:
        """Where a listener listens. Raises KeyError."""
        ...

    def running(self) -> bool:
        """Whether the process still runs."""
        ...

    def sigterm(self, timeout_s: float = 60.0) -> int:
        """End it in order; the exit code."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...

    def last_words(self) -> str:
        """The end of what it printed."""
        ...


class StoryTools(Protocol):
    """Prepares a demonstration and asks its hub."""

    def prepare_demonstration(self, data_dir: Path, homes: Sequence[Home], *, period_ms: int) -> Sequence[Credential]:
        """Make a data directory that is marked as simulated, with these modules and their sites.

        Raises a WattdeckError where other data are, or an earlier demonstration.
        """
        ...

    def start_demonstration(self, data_dir: Path, *, scale: float, origin_us: int) -> StoryHub:
        """Start a hub on it that follows this clock. Raises RuntimeError with its last words, TimeoutError."""
        ...

    def ask(
        self, hub: StoryHub, path: str, parameters: Mapping[str, object] | Sequence[tuple[str, object]] = ()
    ) -> Any:
        """GET a path of its API as administrator; the JSON. Raises a WattdeckError for every other answer."""
        ...
