"""`./run restore`: a backup back into a fresh data directory."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

from app.domain.settings import StoreSettings
from app.hub.backup_progress import told_on_stderr
from app.hub.data_directory import DataDirectory
from app.hub.opening import registry_facts
from app.hub.registry_facts import RegistryFacts
from app.services.access_log import anchor_restored
from app.stores.access_head import AccessHead
from app.stores.backup.directory import BackupDirectory
from app.stores.backup.restoring import Restored, Target, restore_backup
from app.stores.registry.access_entries import AccessEntries
from app.stores.registry.registry import Registry, wall_clock_us


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `./run restore`."""
    add = parser.add_argument
    add("directory", type=Path, metavar="DIR", help="folder of the backups")
    add(
        "--data",
        type=Path,
        required=True,
        metavar="NEWDIR",
        help="data directory to make; empty, or not there",
    )
    add("--snapshot", metavar="ID", help="which one; without it the newest")
    add(
        "--registry-url",
        metavar="URL",
        help="restore the registry into this empty PostgreSQL database; without it into a file of NEWDIR",
    )
    add("--json", action="store_true", help="the result as one line of JSON")


def run(args: argparse.Namespace) -> int:
    """Print what came back; 0."""
    os.umask(0o077)
    root = args.data.resolve()
    target = Target(root, args.registry_url or root / "registry.sqlite", facts_of)
    restored = restore_backup(
        BackupDirectory(args.directory.resolve()),
        args.snapshot,
        target,
        now_us=wall_clock_us,
        report=told_on_stderr(),
    )
    _anchor_access_log(target, restored)
    if args.json:
        print(json.dumps(_summary(restored)))
    else:
        _print(restored, root)
    return 0


def facts_of(registry: Registry) -> Callable[[], RegistryFacts]:
    """What roll-ups must know of a restored registry's keys."""
    return registry_facts(registry, None, StoreSettings().time_zone)


def _anchor_access_log(target: Target, restored: Restored) -> None:
    """The end of the restored access log is the true one from now on: nobody has cut off what came after the backup."""
    with Registry.open(target.registry) as registry:
        text = f"restored from snapshot {restored.manifest.snapshot}"
        head = AccessHead(DataDirectory(target.root).access_head)
        anchor_restored(AccessEntries(registry), head, text, restored.loaded.unnamed_entries)


def _summary(restored: Restored) -> dict[str, object]:
    return {
        "snapshot": restored.manifest.snapshot,
        "journal_id": restored.journal_id,
        "size_bytes": restored.manifest.size_bytes,
        "replayed_segments": restored.replayed_segments,
        "erased_keys": restored.erased_keys,
        "erased_readings": restored.erased_rows,
        "blanked_rows": restored.loaded.blanked,
        "dropped_rows": restored.loaded.dropped,
        "registry_url_dropped": restored.registry_url_dropped,
        "seconds": round(restored.seconds, 3),
        "verify_seconds": round(restored.verify_seconds, 3),
    }


def _print(restored: Restored, root: Path) -> None:
    print(
        f"snapshot {restored.manifest.snapshot} restored into {root}: {restored.manifest.size_bytes / 1e6:.1f} MB, "
        f"{restored.replayed_segments} journal segments replayed; {restored.seconds:.1f} s"
    )
    if restored.erased_keys or restored.loaded.blanked or restored.loaded.dropped:
        print(
            f"erased again: {restored.erased_keys} series with {restored.erased_rows} rows, "
            f"{restored.loaded.blanked} rows of the registry blanked, {restored.loaded.dropped} left out"
        )
    if restored.registry_url_dropped:
        print("the settings of then named a registry on a server; that server was not touched, see registry.url")
    print("look through operators, API tokens and credentials: what was withdrawn since the backup is valid again")
