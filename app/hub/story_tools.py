"""What a story of the simulator needs of the platform: a marked data directory, a hub at its pace, and the API.

Shaped after `device_sim.story.tools`, which this package must not import; main.py hands it over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

from app.client.api_call import call
from app.domain.errors import OperatorInputError
from app.domain.keys import CollectionLevel
from app.hub.bench_tools import HubChild, HubTools
from app.hub.data_directory import DataDirectory
from app.stores.registry.provisioning import Template
from app.stores.registry.records import NewSite, Provisioned
from app.stores.registry.registry import Registry

# What is written down in the access log of the demonstration.
_PURPOSE = "simulation"


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


class StoryTools(HubTools):
    """The benches' tools, and what stories need beside them."""

    def prepare_demonstration(self, data_dir: Path, homes: Sequence[Home], *, period_ms: int) -> list[Provisioned]:
        """A new data directory, marked as simulated, with a site and a module for each home."""
        directory = DataDirectory(data_dir)
        directory.make()
        if directory.registry.exists():
            raise OperatorInputError(
                f"{data_dir} is in use already; a story needs a new directory: name one with --data"
            )
        directory.mark_simulated()
        with Registry.open(directory.registry) as registry:
            sites = registry.add_sites([NewSite(home.city, street=home.address) for home in homes])
            template = Template(sites=tuple(sites), level=CollectionLevel.SECOND, period_ms=period_ms)
            return registry.provision_many([home.serial for home in homes], template)

    def start_demonstration(self, data_dir: Path, *, scale: float, origin_us: int) -> HubChild:
        """A hub that says it is simulated and follows the simulator's clock."""
        flags = ["--simulated", "--clock-scale", f"{scale:g}", "--clock-origin", str(origin_us)]
        return self.start_hub(data_dir, flags=flags)

    def ask(
        self, hub: HubChild, path: str, parameters: Mapping[str, object] | Sequence[tuple[str, object]] = ()
    ) -> Any:
        """GET a path as administrator."""
        query = urlencode(parameters)
        return call(hub.api, "GET", f"{path}?{query}" if query else path, token=hub.token, purpose=_PURPOSE)
