"""Memory of the hub while a bench waits for something else."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import NamedTuple, Self

from device_sim.bench.tools import HubProcess

_EVERY_S = 0.5


class Sample(NamedTuple):
    """One look at the hub."""

    at_s: float
    """Seconds since the sampler began."""
    rss_bytes: int


class MemorySampler:
    """A thread that looks at a hub's memory twice a second; a context manager."""

    def __init__(self, hub: HubProcess) -> None:
        self._hub = hub
        self._began = time.monotonic()
        self._end = threading.Event()
        self._samples: list[Sample] = []
        self._thread = threading.Thread(target=self._look, name="memory sampler", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def now_s(self) -> float:
        """Seconds since the sampler began."""
        return time.monotonic() - self._began

    def samples(self) -> list[Sample]:
        """What was seen so far."""
        return list(self._samples)

    def peak_bytes(self) -> int:
        """The most memory seen."""
        return max((sample.rss_bytes for sample in self._samples), default=0)

    def _look(self) -> None:
        while not self._end.is_set():
            if not self._hub.running():
                return
            self._samples.append(Sample(self.now_s(), self._hub.rss_bytes()))
            self._end.wait(_EVERY_S)
