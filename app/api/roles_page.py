"""The table of roles and scopes in docs/api.md, made from the code: `python -m app.api.roles_page`."""

from __future__ import annotations

from pathlib import Path

from app.domain.people import ROLE_SCOPES, Role, Scope

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
_BEGIN = "<!-- roles: made by `python -m app.api.roles_page`, do not edit by hand -->\n"
_END = "<!-- /roles -->"


def table() -> str:
    """A row for each scope, a column for each role."""
    rows = ["| scope | " + " | ".join(Role) + " |", "|---" * (len(Role) + 1) + "|"]
    for scope in Scope:
        marks = " | ".join("yes" if scope in ROLE_SCOPES[role] else "" for role in Role)
        rows.append(f"| `{scope}` | {marks} |")
    return "\n".join(rows) + "\n"


def updated(page: str) -> str:
    """The page with the table as it must be."""
    before, _, rest = page.partition(_BEGIN)
    _old, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{table()}{_END}{after}"


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
