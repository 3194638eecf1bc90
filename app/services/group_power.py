"""Power of the fleet and of cities over time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.domain.errors import OperatorInputError
from app.stores.registry.faults import UnknownNameError
from app.stores.series.interface import SeriesReader
from app.stores.series.tiers import FLEET_GROUP

# At 10 s: 267,840 rows.
LONGEST_US = 31 * 86_400_000_000
# Below this many homes a sum says something of one of them (architecture: anonymous group statistics).
LEAST_HOMES = 40


class GroupPower:
    """Sums over homes; who may not see a home's consumption sees no sum of fewer than `least_homes`. Blocks."""

    def __init__(
        self, store: SeriesReader, city_numbers: Callable[[], dict[str, int]], *, least_homes: int = LEAST_HOMES
    ) -> None:
        self.least_homes = least_homes
        self._store = store
        self._city_numbers = city_numbers

    def history(self, city: str | None, start_us: int, end_us: int, *, may_see_homes: bool) -> pa.Table:
        """tiers.FLEET rows of [start_us, end_us), rising. Raises UnknownNameError, OperatorInputError."""
        if not start_us < end_us <= start_us + LONGEST_US:
            raise OperatorInputError("from_us must lie before to_us, at most 31 days")
        number = FLEET_GROUP
        if city is not None:
            found = self._city_numbers().get(city)
            if found is None:
                raise UnknownNameError("city", city)
            number = found
        rows = self._store.read_group(number, start_us, end_us)
        if may_see_homes or not rows.num_rows:
            return rows
        few = np.less(rows["counted"].to_numpy(), self.least_homes)
        at = rows.schema.get_field_index("power_w")
        return rows.set_column(at, rows.schema.field(at), pc.if_else(pa.array(few), None, rows["power_w"]))
