"""The line of commands: which modules listen on their `cmd` topic now, and what they answered."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Sequence
from typing import NamedTuple

from app.protocol.codec import Refused, decode_cmd
from app.protocol.messages import Ack
from app.protocol.topics import Kind, parse
from broker.engine import ClientInfo

# Answers that wait for the registry; a fleet that answers one command at once is half of it. Above, they are shed and
# counted: their commands expire, or are sent again.
MOST_ANSWERS = 100_000
# In place of a client id for a foreign device: no client has it.
_FOREIGN = "\0foreign"
# Who may be a module on the line. A service that reads along is none.
_KINDS = frozenset({"module", "source", "anonymous"})


class Answer(NamedTuple):
    """An `ack` and who sent it."""

    serial: str
    ack: Ack
    arrival_us: int


class CommandLine:
    """Told by the broker's sink, on the loop. Remembers what happens until somebody takes it, so that nothing is missed
    while the hub starts.
    """

    def __init__(self) -> None:
        self.shed = 0
        # Set when there is something to take.
        self.changed = asyncio.Event()
        self._answers: collections.deque[Answer] = collections.deque()
        # Client ids by module, modules by client id.
        self._clients: dict[str, set[str]] = {}
        self._serials: dict[str, set[str]] = {}
        self._begun: dict[str, None] = {}
        # Ids of commands that a module got, or gets from the broker, since it began to listen.
        self._brought: dict[str, set[str]] = {}

    def __contains__(self, serial: str) -> bool:
        """Whether a module listens."""
        return serial in self._clients

    def listening(self) -> frozenset[str]:
        """Every module that listens; a copy."""
        return frozenset(self._clients)

    @property
    def answers_waiting(self) -> int:
        """Answers that were not taken yet."""
        return len(self._answers)

    def subscribed(self, client: ClientInfo, pattern: str, held: Sequence[bytes]) -> None:
        """A client subscribed, or came back with a subscription."""
        topic = parse(pattern)
        if topic is None or topic.kind is not Kind.CMD or client.access.kind not in _KINDS:
            return
        mine = self._serials.setdefault(client.client_id, set())
        if topic.serial in mine:
            # It subscribes to what its session has anyway: the line has not begun anew.
            return
        mine.add(topic.serial)
        self._clients.setdefault(topic.serial, set()).add(client.client_id)
        self._begun[topic.serial] = None
        self._brought.pop(topic.serial, None)
        for payload in held:
            if (command_id := _id_of(payload)) is not None:
                self.bring(topic.serial, command_id)
        self.changed.set()

    def present(self, serial: str) -> None:
        """A foreign device is there: what is for it can be sent. Told with each of its messages, so quick."""
        clients = self._clients.get(serial)
        if clients is not None and _FOREIGN in clients:
            return
        self._clients.setdefault(serial, set()).add(_FOREIGN)
        self._begun[serial] = None
        self._brought.pop(serial, None)
        self.changed.set()

    def absent(self, serial: str) -> None:
        """A foreign device is gone."""
        self._leave(serial, _FOREIGN)

    def gone(self, client: ClientInfo) -> None:
        """A client's connection ended."""
        for serial in self._serials.pop(client.client_id, ()):
            self._leave(serial, client.client_id)

    def answered(self, serial: str, ack: Ack, arrival_us: int) -> None:
        """A module answered."""
        if len(self._answers) >= MOST_ANSWERS:
            self.shed += 1
            return
        self._answers.append(Answer(serial, ack, arrival_us))
        self.changed.set()

    def bring(self, serial: str, command_id: str) -> bool:
        """Note that a module gets a command; false when it has it since it began to listen, or the broker brings it."""
        brought = self._brought.setdefault(serial, set())
        if command_id in brought:
            return False
        brought.add(command_id)
        return True

    def forget(self, serial: str, command_id: str) -> None:
        """A command is finished."""
        brought = self._brought.get(serial)
        if brought is not None:
            brought.discard(command_id)
            if not brought:
                del self._brought[serial]

    def take_begun(self) -> list[str]:
        """The modules that began to listen since the last call."""
        begun, self._begun = self._begun, {}
        return list(begun)

    def take_answers(self, most: int) -> list[Answer]:
        """The oldest answers that wait."""
        return [self._answers.popleft() for _ in range(min(most, len(self._answers)))]

    def put_back(self, answers: list[Answer]) -> None:
        """Answers that could not be dealt with yet."""
        self._answers.extendleft(reversed(answers))

    def _leave(self, serial: str, client_id: str) -> None:
        clients = self._clients.get(serial, set())
        clients.discard(client_id)
        if not clients and self._clients.pop(serial, None) is not None:
            self._brought.pop(serial, None)


def _id_of(payload: bytes) -> str | None:
    try:
        return decode_cmd(payload).id
    except Refused:
        # Somebody else's message on the topic.
        return None
