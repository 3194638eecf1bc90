"""The labels of the customer output: what a group's data must look like. Enedis-NOI-CPT_54E v3, 6.1 and 6.2."""

from __future__ import annotations

import dataclasses
import enum

from app.domain.linky import TicMode


class Form(enum.Enum):
    """What the data of a label are made of."""

    DIGITS = "digits"
    HEX = "hex"
    # Free or padded text: it may be shorter, since editors and loggers squeeze blanks without changing the sense.
    TEXT = "text"


@dataclasses.dataclass(frozen=True, slots=True)
class Label:
    """One label; `length` is exact for digits and hexadecimal digits, the longest for text."""

    name: str
    form: Form
    length: int
    horodated: bool = False


def _digits(length: int, *names: str, horodated: bool = False) -> tuple[Label, ...]:
    return tuple(Label(name, Form.DIGITS, length, horodated) for name in names)


def _text(length: int, *names: str, horodated: bool = False) -> tuple[Label, ...]:
    return tuple(Label(name, Form.TEXT, length, horodated) for name in names)


_HISTORIQUE = (
    *_text(12, "ADCO"),
    *_text(4, "OPTARIF", "PTEC", "DEMAIN"),
    *_digits(2, "ISOUSC", "PEJP"),
    *_digits(9, "BASE", "HCHC", "HCHP", "EJPHN", "EJPHPM"),
    *_digits(9, "BBRHCJB", "BBRHPJB", "BBRHCJW", "BBRHPJW", "BBRHCJR", "BBRHPJR"),
    *_digits(3, "IINST", "IINST1", "IINST2", "IINST3", "ADPS", "ADIR1", "ADIR2", "ADIR3"),
    *_digits(3, "IMAX", "IMAX1", "IMAX2", "IMAX3"),
    *_digits(5, "PMAX", "PAPP"),
    *_text(1, "HHPHC"),
    *_text(6, "MOTDETAT"),
    Label("PPOT", Form.HEX, 2),
)
_STANDARD = (
    *_text(12, "ADSC"),
    *_digits(2, "VTIC", "PREF", "PCOUP", "NTARF", "NJOURF", "NJOURF+1"),
    *_text(0, "DATE", horodated=True),
    *_text(16, "NGTF", "LTARF", "MSG2"),
    *_digits(9, "EAST", "EAIT"),
    *_digits(9, *(f"EASF{number:02}" for number in range(1, 11))),
    *_digits(9, *(f"EASD{number:02}" for number in range(1, 5))),
    *_digits(9, "ERQ1", "ERQ2", "ERQ3", "ERQ4"),
    *_digits(3, "IRMS1", "IRMS2", "IRMS3", "URMS1", "URMS2", "URMS3", "RELAIS"),
    *_digits(5, "SINSTS", "SINSTS1", "SINSTS2", "SINSTS3", "SINSTI"),
    *_digits(5, "SMAXSN", "SMAXSN1", "SMAXSN2", "SMAXSN3", "SMAXIN", horodated=True),
    *_digits(5, "SMAXSN-1", "SMAXSN1-1", "SMAXSN2-1", "SMAXSN3-1", "SMAXIN-1", horodated=True),
    *_digits(5, "CCASN", "CCASN-1", "CCAIN", "CCAIN-1", horodated=True),
    *_digits(3, "UMOY1", "UMOY2", "UMOY3", horodated=True),
    Label("STGE", Form.HEX, 8),
    *_digits(2, "DPM1", "FPM1", "DPM2", "FPM2", "DPM3", "FPM3", horodated=True),
    *_text(32, "MSG1"),
    *_digits(14, "PRM"),
    *_text(98, "PJOURF+1", "PPOINTE"),
)

LABELS_OF_MODE = {
    TicMode.HISTORIQUE: {label.name: label for label in _HISTORIQUE},
    TicMode.STANDARD: {label.name: label for label in _STANDARD},
}
LABELS = LABELS_OF_MODE[TicMode.HISTORIQUE] | LABELS_OF_MODE[TicMode.STANDARD]

# The labels that hold the meter's own number; one of them begins a frame (short three-phase frames excepted).
METER_ID_LABELS = frozenset({"ADCO", "ADSC"})
# Labels whose data name a person or a place: never logged, never shown unless asked for.
PERSONAL_LABELS = frozenset({"ADCO", "ADSC", "PRM"})
