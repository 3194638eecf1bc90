"""Writes the registry of the newest version as SQL, to be kept when that version is released.

    python tests/databases/make.py

Refuses to overwrite: a file that was committed is what is out in the field.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[1]))

from app.domain.credentials import CredentialKind  # noqa: E402 - found by the line above
from app.domain.keys import CollectionLevel  # noqa: E402
from app.stores.registry.foreign_devices import ForeignDevices, SeenDevice  # noqa: E402
from app.stores.registry.migrating import newest_version  # noqa: E402
from app.stores.registry.provisioning import Template  # noqa: E402
from app.stores.registry.records import ModuleKind, NewSite, PairedAs  # noqa: E402
from app.stores.registry.registry import Registry  # noqa: E402

START_US = 1_800_000_000_000_000


def fill(registry: Registry) -> None:
    """One of everything that `test_migrating.TestOldDatabases` asks for."""
    lyon, _nantes = registry.add_sites([NewSite("Lyon", street="1 rue d'Exemple", postcode="69001"), NewSite("Nantes")])
    registry.provision_many(["WD-1", "WD-2"])
    registry.provision("CLAMP-1", Template(channels=3, dialect="shelly", period_ms=None))
    registry.ensure_modules(["LINKY-1"], Template(kind=ModuleKind.METER, dialect="tic", meter_serial="M-2"))
    registry.add_credential("gateway", CredentialKind.SOURCE, publish=["tele/+/SENSOR"], subscribe=["cmnd/#"])
    registry.block("WD-2")
    registry.pair("WD-1", 1, START_US, PairedAs(lyon, CollectionLevel.DAILY, "M-1", registry.add_holder()))
    registry.unpair("WD-1", 1, START_US + 1)
    seen = SeenDevice("tasmota", "plug", '{"model":"P1"}', None, None, "P1", None, "W", 3, START_US, START_US + 1)
    ForeignDevices(registry, now_us=lambda: START_US).note([seen])


def main() -> None:
    target = FOLDER / f"registry-v{newest_version():04}.sql"
    if target.exists():
        sys.exit(f"{target} exists; a released version is never written again")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "registry.sqlite"
        with Registry.open(path, now_us=lambda: START_US) as registry:
            fill(registry)
        connection = sqlite3.connect(path)
        lines = list(connection.iterdump())
        connection.close()
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
