"""The table of roles in the documentation is that of the code."""

from __future__ import annotations

from app.api.roles_page import PAGE, updated


def test_the_page_is_up_to_date():
    page = PAGE.read_text(encoding="utf-8")

    assert updated(page) == page
