"""How the program that starts a hub is let in: a token through an inherited pipe, never on a command line."""

from __future__ import annotations

import os

from app.domain.errors import OperatorInputError

# 32 random bytes in URL-safe base 64.
_LEAST, _MOST = 43, 200
_STDIN = 0


def read_parents_token(descriptor: int) -> str:
    """The line that the parent wrote; closes the pipe. Raises OperatorInputError when there is none."""
    try:
        with os.fdopen(descriptor, "rb") as pipe:
            token = pipe.readline(_MOST + 1).strip().decode("ascii", "replace")
    except OSError as error:
        raise OperatorInputError(f"--token-fd {descriptor} is no pipe: {error.strerror}") from error
    if descriptor == _STDIN:
        # The number must not become some other file of ours, which children would take for their input.
        nothing = os.open(os.devnull, os.O_RDONLY)
        if nothing != _STDIN:
            os.dup2(nothing, _STDIN)
            os.close(nothing)
    if not _LEAST <= len(token) <= _MOST:
        raise OperatorInputError(f"--token-fd: a token has {_LEAST} to {_MOST} characters")
    return token
