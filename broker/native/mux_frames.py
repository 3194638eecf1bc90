"""Frames between the broker and its TLS workers: many clients' byte streams over one local connection.

A frame is kind (1 byte), client number (4 bytes), length (4 bytes, big end first) and so many bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

# Worker to broker: a client came (its address), sent bytes, or is gone. Broker to worker: bytes for it, or end it.
OPEN: Final = 1
DATA: Final = 2
CLOSE: Final = 3
# Broker to worker: cut, without waiting for unsent bytes.
ABORT: Final = 4
# Broker to worker: read no further from a client. Worker to broker: it does not take what it is sent.
PAUSE: Final = 5
RESUME: Final = 6
# Worker to broker, once, first: the token that proves who it is.
HELLO: Final = 7
# Worker to broker, of no client: a TLS handshake failed; the address, a line feed, the reason.
FAILED: Final = 8

_HEAD = struct.Struct(">BII")
HEAD_SIZE: Final = _HEAD.size
# What one read of a socket can bring is far below; anything above is not ours.
LARGEST: Final = 16 * 1024 * 1024


class MuxError(Exception):
    """The other side does not speak this."""


def head(kind: int, number: int, length: int = 0) -> bytes:
    """The head of a frame; so many bytes follow it."""
    return _HEAD.pack(kind, number, length)


class FrameReader:
    """Frames out of chunks."""

    __slots__ = ("_need", "_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._need = HEAD_SIZE

    def feed(self, chunk: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Kind, client and bytes of each frame that is complete now. Raises MuxError."""
        if self._parts:
            self._parts.append(chunk)
            self._size += len(chunk)
            if self._size < self._need:
                return
            chunk = b"".join(self._parts)
            self._parts.clear()
        pos, size = 0, len(chunk)
        need = HEAD_SIZE
        while size - pos >= HEAD_SIZE:
            kind, number, length = _HEAD.unpack_from(chunk, pos)
            if length > LARGEST:
                raise MuxError("a frame is too long")
            end = pos + HEAD_SIZE + length
            if end > size:
                need = end - pos
                break
            yield kind, number, chunk[pos + HEAD_SIZE : end]
            pos = end
        if pos < size:
            self._parts = [chunk[pos:]]
            self._size = size - pos
            self._need = need
