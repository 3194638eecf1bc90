"""The groups of routes on the page of the API, in the order in which somebody new needs them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from litestar.openapi.spec import Tag

# Name, description, and the paths: all of one first word, or, before that, one path with * for each parameter.
_GROUPS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Session", "Log in and out; one's own account.", ("session", "sessions", "me")),
    ("Modules", "The fleet: lists, search, one module, what is done to it.", ("modules", "tags", "cities", "search")),
    (
        "Devices of others",
        "What speaks on the broker in a dialect of others; adopted, it is a module like any.",
        ("discovered",),
    ),
    (
        "Readings",
        "What modules measured, at any resolution, and how complete it is.",
        (
            "modules/*/readings",
            "modules/*/readings.csv",
            "modules/*/readings.arrow",
            "modules/*/completeness",
            "modules/power",
            "fleet/power-history",
        ),
    ),
    (
        "Live",
        "What is now: grants of the live feed over MQTT, and its picture as one answer.",
        ("live-grants", "fleet"),
    ),
    ("Events", "What happened to modules.", ("events", "modules/*/events")),
    ("Sites", "The places that are supplied.", ("sites",)),
    (
        "Pairings",
        "Which site, meter and holder a module's channel counts for, and from when.",
        (
            "modules/*/pairings",
            "modules/*/pair",
            "modules/*/unpair",
            "modules/*/change-meter",
            "modules/*/change-holder",
        ),
    ),
    ("Commands", "What modules are told to do.", ("commands", "command-kinds", "modules/*/commands")),
    ("Jobs", "Long work in the background: exports, imports.", ("jobs",)),
    ("Saved views", "Filters, orders and columns that an operator has saved.", ("views",)),
    ("Quarantine", "Messages that were refused.", ("quarantine",)),
    ("Operators", "Who may log in.", ("operators",)),
    ("API tokens", "What third parties and scripts may do.", ("api-tokens",)),
    ("MQTT credentials", "Which programs and gateways may connect to the broker.", ("credentials",)),
    ("Actions", "Who changed what.", ("actions", "actions.csv")),
    ("Access log", "Who looked at whose personal data, and why.", ("access-log",)),
    ("Data map", "Where everything on a module or a person is.", ("data-map",)),
    ("Backups", "Snapshots of the data directory.", ("backups",)),
    ("Settings", "The hub's settings, while it runs.", ("settings",)),
    (
        "Hub",
        "What runs here, and how it is doing.",
        ("version", "health", "ready", "statistics", "doctor", "hub", "metrics"),
    ),
)
_BY_PATH = {path: name for name, _description, paths in _GROUPS for path in paths}


def group_of(path: str) -> str:
    """The group of a path of the document, such as /v1/modules/{serial}; its first word when no group has it."""
    plain = re.sub(r"\{[^}]*\}", "*", path.removeprefix("/v1").lstrip("/"))
    first = plain.partition("/")[0]
    return _BY_PATH.get(plain) or _BY_PATH.get(first) or first


def tags(used: Sequence[str]) -> list[Tag]:
    """The groups that have routes, in their order; those without a description come last."""
    known = [Tag(name, description) for name, description, _paths in _GROUPS if name in used]
    return known + [Tag(name) for name in sorted(set(used) - {tag.name for tag in known})]
