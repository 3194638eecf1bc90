"""What was answered is there after the process was killed in the middle of its next write."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from app.domain.credentials import hash_secret
from app.stores.registry.registry import Registry

WRITER = """
    import sys
    from pathlib import Path
    from app.stores.registry.records import NewSite, PairedAs
    from app.stores.registry.registry import Registry
    from app.domain.keys import CollectionLevel

    registry = Registry.open(Path(sys.argv[1]))
    (site,) = registry.add_sites([NewSite("Lyon")])
    print("open", flush=True)
    number = 0
    while True:
        serials = [f"WD-{number}-{n}" for n in range(20)]
        for given in registry.provision_many(serials):
            print(given.serial, given.secret)
        change = registry.pair(serials[0], 1, 1_000_000, PairedAs(site, CollectionLevel.SECOND))
        print("paired", serials[0], change.opened.key, flush=True)
        number += 1
"""


@pytest.mark.parametrize("answers", [1, 40, 150])
def test_killed_while_writing(tmp_path: Path, answers: int):
    path = tmp_path / "registry.sqlite"
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), path],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[4],
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "open\n"
    answered = [writer.stdout.readline().split() for _ in range(answers)]
    writer.send_signal(signal.SIGKILL)
    # What was printed before the kill reached it was answered, too; a last line may be torn.
    rest = writer.stdout.read()
    answered += [line.split() for line in rest[: rest.rfind("\n") + 1].splitlines()]
    writer.wait()
    writer.stdout.close()

    with Registry.open(path) as registry:
        digests = {row.username: row.secret_sha256 for row in registry.credential_rows()}
        periods = registry.all_periods()
        for words in answered:
            if words[0] == "paired":
                current = periods[words[1], 1].current
                assert current is not None
                assert current.key == int(words[2])
            else:
                assert digests[words[0]] == hash_secret(words[1])
        # Provisionings are whole: a credential, a channel and a period for each module, twenty at a time.
        assert len(digests) == len(periods) == len(registry.modules())
        assert len(digests) % 20 == 0
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
