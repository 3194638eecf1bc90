"""The latest copies of keys and erasures in a backup directory, brought in step with the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.stores.backup.directory import BackupDirectory
from app.stores.backup.errors import BackupRefused
from app.stores.backup.manifest import FORMAT, ErasureEntry, ErasureList, KeyRing
from app.stores.backup.sealing import key_name
from app.stores.registry.erasures import Erased, erasures_of, secrets_of
from app.stores.registry.registry import Registry


def refresh_latest(directory: BackupDirectory, registry: Registry, lost: Sequence[bytes] = ()) -> None:
    """Replace both copies: from here on what was erased can not be read in any backup here.

    `lost`: keys that were used and not kept. Raises BackupRefused when the directory holds the backups of another hub,
    whose keys this would destroy.
    """
    with registry.reading_at_one_moment() as connection:
        keys, erased = secrets_of(connection), erasures_of(connection)
    directory.write_latest(*merged(directory, keys, erased, lost))


def check_same_hub(directory: BackupDirectory, registry: Registry) -> None:
    """Raises BackupRefused as `refresh_latest`, before anything is written."""
    with registry.reading_at_one_moment() as connection:
        keys, erased = secrets_of(connection), erasures_of(connection)
    merged(directory, keys, erased)


def tell_erasures(directory: BackupDirectory, registry: Registry) -> None:
    """As `refresh_latest`, for a directory in which somebody else may be making a backup: then BackupRefused."""
    directory.check()
    with directory.locked(make=False):
        refresh_latest(directory, registry)


def merged(
    directory: BackupDirectory, keys: Mapping[str, bytes], erased: Sequence[Erased], unkept: Sequence[bytes] = ()
) -> tuple[KeyRing, ErasureList]:
    """What the directory is to hold from now on."""
    old_keys = directory.read_keyring().keys
    old = directory.read_erasures()
    times = {each.subject: each.at_us for each in old.erased}
    for each in erased:
        times[each.subject] = max(each.at_us, times.get(each.subject, 0))
    # Of an erased subject that has come back, there is a new key.
    changed = [subject for subject, secret in old_keys.items() if keys.get(subject) != secret]
    strangers = [subject for subject in changed if subject not in times]
    if strangers:
        raise BackupRefused(
            f"{directory.root} holds backups of another hub, or of this one before its registry was lost: "
            f"{len(strangers)} keys of persons there are not in this registry; name another folder"
        )
    lost = {*old.lost_keys, *map(key_name, unkept)}
    lost |= {key_name(old_keys[subject]) for subject in changed}
    entries = [ErasureEntry(subject, at_us) for subject, at_us in sorted(times.items())]
    return KeyRing(FORMAT, dict(sorted(keys.items()))), ErasureList(FORMAT, entries, sorted(lost))
