"""Texts as a search compares them: whatever the case, the accents and the spaces."""

from __future__ import annotations

import unicodedata

# Letters that no decomposition takes apart, and signs that keyboards and word processors write differently.
_LETTERS = str.maketrans(
    {
        "œ": "oe",
        "æ": "ae",
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "\N{LATIN SMALL LETTER DOTLESS I}": "i",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{LEFT SINGLE QUOTATION MARK}": "'",
        "\N{EN DASH}": "-",
    }
)


def folded(text: str) -> str:
    """The text without case, accents and doubled spaces: `12  Allée de l'Œuvre` is `12 allee de l'oeuvre`."""
    if text.isascii():
        if text.isalnum():
            # Most of a fleet's texts: serials and numbers.
            return text.lower()
    else:
        # A mathematical A becomes a capital first; what case makes of a letter may come apart again.
        text = unicodedata.normalize("NFKD", text).casefold().translate(_LETTERS)
        text = "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))
    text = text.casefold()
    return " ".join(text.split())
