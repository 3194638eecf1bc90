"""Every counter of commands is explained in the documentation."""

from __future__ import annotations

from pathlib import Path

from app.services.commands.tally import NAMES


def test_each_is_named_on_the_page():
    page = (Path(__file__).parents[4] / "docs" / "operating.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `commands.")]
    for name in (*NAMES, "answers_waiting", "answers_shed", "modules_waiting"):
        assert any(f"`{name}`" in row or f"`commands.{name}`" in row for row in rows), name
