"""The table of settings for docs/operating.md, made from the catalogue; a test holds the page to it."""

from __future__ import annotations

from app.domain.settings import Row, catalogue

BEGIN = "<!-- settings: made by `python -m app.hub.settings_page`, do not edit by hand -->"
END = "<!-- end of settings -->"


def settings_table() -> str:
    """Every setting as a Markdown table, by section."""
    lines = []
    section = ""
    for row in catalogue().values():
        if row.key.partition(".")[0] != section:
            section = row.key.partition(".")[0]
            lines += [
                "",
                f"### `[{section}]`",
                "",
                "| key | default | allowed | holds | what it does |",
                "|---|---|---|---|---|",
            ]
        holds = "at once" if row.live else "after a restart"
        lines.append(f"| `{row.key}` | {_default(row)} | {row.allowed()} | {holds} | {row.doc} |")
    return "\n".join(lines).strip() + "\n"


def page_with_table(page: str) -> str:
    """The page with what stands between the two markers made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{settings_table()}\n{END}{after}"


def _default(row: Row) -> str:
    if isinstance(row.default, tuple):
        return f"`[{', '.join(f'{item!r}' for item in row.default)}]`".replace("'", '"')
    if isinstance(row.default, bool):
        return f"`{str(row.default).lower()}`"
    return f"`{row.default!r}`".replace("'", '"')


if __name__ == "__main__":
    from pathlib import Path

    path = Path("docs/operating.md")
    path.write_text(page_with_table(path.read_text(encoding="utf-8")), encoding="utf-8")
