"""The documentation's table of settings is made from the catalogue."""

from pathlib import Path

from app.hub.settings_page import page_with_table


def test_the_page_is_in_step():
    page = (Path(__file__).parents[3] / "docs" / "operating.md").read_text(encoding="utf-8")

    assert page_with_table(page) == page, "run: python -m app.hub.settings_page"
