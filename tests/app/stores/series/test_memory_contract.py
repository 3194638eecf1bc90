"""The reference store keeps the contract, too: else it would be no reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.app.stores.series.contract import Clock, ContractFacts, SeriesStoreContract
from tests.helpers.memory_series import MemorySeriesStore


class TestMemorySeriesStore(SeriesStoreContract):
    @pytest.fixture
    def store(self, clock: Clock) -> MemorySeriesStore:
        return MemorySeriesStore(ContractFacts(), clock)

    def another(self, clock: Clock, folder: Path) -> MemorySeriesStore:
        return MemorySeriesStore(ContractFacts(), clock)
