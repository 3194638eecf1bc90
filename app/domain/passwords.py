"""What names and passwords of operators may look like."""

from __future__ import annotations

import re
import secrets
import unicodedata

from app.domain.errors import OperatorInputError

SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 200
# ASCII only: no two names look alike, and every database compares them the same way.
_NAME = re.compile(r"[A-Za-z0-9._@-]{2,64}")

# Passwords of 12 and more characters that lead every list of stolen ones, as they are after `_bare`. What is shorter is
# refused by its length already.
_WORST = frozenset(
    {
        "password",
        "passwordpassword",
        "passw0rd",
        "changeme",
        "changemechangeme",
        "letmeinletmein",
        "administrator",
        "adminadminadmin",
        "adminadmin",
        "administrateur",
        "motdepasse",
        "motdepassemotdepasse",
        "qwertyuiop",
        "qwertyuiopasdfghjkl",
        "azertyuiop",
        "azertyuiopqsdfghjklm",
        "iloveyou",
        "iloveyouiloveyou",
        "trustnoone",
        "correcthorsebatterystaple",
        "wattdeck",
        "wattdeckwattdeck",
        "secretsecret",
        "welcome",
        "welcomewelcome",
        "bienvenue",
    }
)
_EDGES = re.compile(r"^[\W\d_]+|[\W\d_]+$")

# Letters and digits that are not mistaken for each other when they are read aloud or copied from a screen.
_CLEAR = "abcdefghjkmnpqrstuvwxyz23456789"
_GROUPS, _GROUP = 4, 5


def is_operator_name(text: str) -> bool:
    """Whether this can be what an operator logs in with: 2 to 64 of a-z A-Z 0-9 . _ - @."""
    return _NAME.fullmatch(text) is not None


def check_operator_name(text: str) -> None:
    """Raises OperatorInputError for what can be no name."""
    if not is_operator_name(text):
        raise OperatorInputError("a name has 2 to 64 characters of a-z A-Z 0-9 . _ - @")


def check_full_name(text: str) -> None:
    """Raises OperatorInputError for what can be no line of text."""
    if any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in text):
        raise OperatorInputError("a full name has no control characters")


def normal_password(text: str) -> bytes:
    """What is hashed: the same password typed on two systems is the same, however they compose an accent."""
    return unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")


def check_new_password(password: str, name: str) -> None:
    """Raises OperatorInputError that says what is wrong with it; the password is not repeated."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise OperatorInputError(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
    folded = password.casefold()
    if folded.strip() == name.casefold() or _bare(folded) == _bare(name.casefold()):
        raise OperatorInputError("the password must not be the name")
    if len(set(folded)) < 4 or folded in _SEQUENCES or _bare(folded) in _WORST:
        raise OperatorInputError("this password is among the first that anybody tries; choose another")


def new_one_time_password() -> str:
    """A password that somebody is given and must change: 99 random bits in 20 clear characters."""
    return "-".join("".join(secrets.choice(_CLEAR) for _ in range(_GROUP)) for _ in range(_GROUPS))


def _bare(folded: str) -> str:
    """Without digits and signs at both ends: what people add to a word until it is long enough."""
    return _EDGES.sub("", folded)


_SEQUENCES = frozenset(
    (run * 20)[:length]
    for run in ("1234567890", "0123456789", "abcdefghijklmnopqrstuvwxyz", "9876543210", "0987654321", "qwertyuiop")
    for length in range(SHORTEST_PASSWORD, LONGEST_PASSWORD + 1)
)
