"""Actions as they travel over HTTP."""

from __future__ import annotations

from typing import Any

import msgspec

from app.protocol.api.common import TimeUs


class Action(msgspec.Struct, frozen=True):
    """Who changed what: `what` is noun.verb, `subject` kind:name; `before` and `after` hold what changed."""

    id: int
    at_us: TimeUs
    actor: str
    what: str
    subject: str
    before: Any
    after: Any
