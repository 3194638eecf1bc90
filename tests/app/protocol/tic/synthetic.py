"""Synthetic frames, from which the files in tests/fixtures/tic are made (a test keeps them in step)."""

from __future__ import annotations

from app.domain.linky import TicMode
from app.protocol.tic.encode import encode_frame, encode_group

H, S = TicMode.HISTORIQUE, TicMode.STANDARD


def frame(mode: TicMode, *groups: tuple[str, ...]) -> bytes:
    """A frame of (label, data) and (label, horodate, data) groups."""
    return encode_frame(
        encode_group(mode, group[0], group[-1], group[1] if len(group) == 3 else None) for group in groups
    )


def standard_mono(second: int = 0, drawn: int = 12_345_678, *, letter: str = "H", stge: str = "003A4401") -> bytes:
    peak = drawn - 5_000_000
    return frame(
        S,
        ("ADSC", "041961000017"),
        ("VTIC", "02"),
        ("DATE", f"{letter}2511231000{second:02}", ""),
        ("NGTF", "H PLEINE/CREUSE "),
        ("LTARF", "  HEURE PLEINE  "),
        ("EAST", f"{drawn:09}"),
        ("EASF01", "005000000"),
        ("EASF02", f"{peak:09}"),
        *((f"EASF{number:02}", "000000000") for number in range(3, 11)),
        ("EASD01", f"{drawn:09}"),
        ("IRMS1", "008"),
        ("URMS1", "231"),
        ("PREF", "09"),
        ("PCOUP", "09"),
        ("SINSTS", "01840"),
        ("SMAXSN", "H251123081500", "04210"),
        ("UMOY1", "H251123100000", "232"),
        ("STGE", stge),
        ("MSG1", "PAS DE          MESSAGE         "),
        ("PRM", "00000000000017"),
        ("RELAIS", "000"),
        ("NTARF", "02"),
        ("NJOURF", "00"),
        ("PJOURF+1", "00008002 0100C001 06008002" + " NONUTILE" * 8),
    )


def standard_tri_producer(second: int = 0) -> bytes:
    return frame(
        S,
        ("ADSC", "041976000023"),
        ("VTIC", "02"),
        ("DATE", f"E2507141400{second:02}", ""),
        ("EAST", "000100000"),
        *((f"EASF{number:02}", "000010000") for number in range(1, 11)),
        ("EAIT", f"{3_626_872 + second:09}"),
        ("IRMS1", "007"),
        ("IRMS2", "000"),
        ("IRMS3", "001"),
        ("URMS1", "236"),
        ("URMS2", "238"),
        ("URMS3", "235"),
        ("PREF", "12"),
        ("SINSTS", "00000"),
        ("SINSTS1", "00000"),
        ("SINSTI", "01675"),
        ("STGE", "003A0301"),
        ("NTARF", "01"),
    )


def historique_hc(step: int = 0) -> bytes:
    return frame(
        H,
        ("ADCO", "041961000017"),
        ("OPTARIF", "HC.."),
        ("ISOUSC", "45"),
        ("HCHC", "005000000"),
        ("HCHP", f"{7_345_678 + step:09}"),
        ("PTEC", "HP.."),
        ("IINST", "008"),
        ("IMAX", "090"),
        ("PAPP", "01840"),
        ("HHPHC", "A"),
        ("MOTDETAT", "000000"),
    )


def historique_ejp() -> bytes:
    return frame(
        H,
        ("ADCO", "021561000031"),
        ("OPTARIF", "EJP."),
        ("ISOUSC", "45"),
        ("EJPHN", "010000000"),
        ("EJPHPM", "000200000"),
        ("PEJP", "30"),
        ("PTEC", "PM.."),
        ("IINST", "046"),
        ("ADPS", "046"),
        ("IMAX", "046"),
        ("PAPP", "10560"),
    )


def historique_tri() -> bytes:
    return frame(
        H,
        ("ADCO", "041976000023"),
        ("OPTARIF", "BASE"),
        ("ISOUSC", "20"),
        ("BASE", "027986573"),
        ("PTEC", "TH.."),
        ("IINST1", "021"),
        ("IINST2", "002"),
        ("IINST3", "004"),
        ("IMAX1", "060"),
        ("PMAX", "08450"),
        ("PAPP", "06200"),
        ("PPOT", "00"),
    )


def historique_tri_short(amperes: int = 22) -> bytes:
    return frame(
        H,
        ("ADIR1", f"{amperes:03}"),
        ("ADCO", "041976000023"),
        ("IINST1", f"{amperes:03}"),
        ("IINST2", "002"),
        ("IINST3", "004"),
    )


def through_bad_adapter(stream: bytes) -> bytes:
    """As some adapters deliver it: LF as 0x0F, STX as 0x43, the content right."""
    return stream.replace(b"\n", b"\x0f").replace(b"\x02", b"\x43")


def with_parity(stream: bytes) -> bytes:
    """Even parity in bit 7."""
    return bytes(byte | (byte.bit_count() % 2 << 7) for byte in stream)


def files() -> dict[str, bytes]:
    mono = b"".join(standard_mono(second, 12_345_678 + second) for second in range(3))
    historique = b"".join(historique_hc(step) for step in range(3))
    tri = historique_tri()
    return {
        "std_hc_mono.bin": mono,
        "std_tri_prod_0f.bin": through_bad_adapter(standard_tri_producer(0) + standard_tri_producer(1)),
        "std_8n1.bin": with_parity(mono),
        "hist_hc_mono.bin": historique,
        "hist_ejp_mono.bin": historique_ejp(),
        "hist_tri_short.bin": tri
        + historique_tri_short(22)
        + historique_tri_short(23)
        + tri
        + frame(H, ("ADCO", "041976000023")),
        "hist_crlf.txt": historique.replace(b"\x02\n", b"").replace(b"\x03", b"\n").replace(b"\r\n\n", b"\r\n"),
    }
