"""Every statistic of a running hub stands in docs/operating.md, and those that benches read are there."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

from app.domain.settings import ListenSettings, Settings, TlsSettings, catalogue
from app.hub.data_directory import DataDirectory
from app.hub.hub import running_hub

ROOT = Path(__file__).parents[3]
# A statistic in the code of a bench: `stats["broker.connections"]`, `.get("ingest.shed", ...)`.
READ_BY_BENCHES = re.compile(
    r'(?:\[|get\()"((?:ingest|commit|archive|journal|broker|loop|modules|messages)\.[a-z0-9_]+)"'
)


def documented():
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    section = page.partition("## Statistics")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


async def test_names_are_documented_and_those_of_benches_exist(tmp_path):
    directory = DataDirectory(tmp_path)
    directory.make()
    listen = ListenSettings(mqtt_hosts=("127.0.0.1",), mqtt_port=0, api_port=0, operators_hosts=("127.0.0.1",))
    async with running_hub(directory, Settings(listen=listen, tls=TlsSettings(enabled=False))) as hub:
        names = set(hub.statistics())
        assert not hub.failure.done()
    patterns = documented()

    assert [name for name in sorted(names) if not any(fnmatch.fnmatch(name, one) for one in patterns)] == []
    assert [one for one in patterns if "*" not in one and one not in names] == []
    read = {name for path in (ROOT / "device_sim").rglob("*.py") for name in READ_BY_BENCHES.findall(path.read_text())}
    assert read, "the pattern finds what benches read"
    # Benches name settings as well.
    assert sorted(read - names - set(catalogue())) == []
