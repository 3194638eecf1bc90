"""Telegrams of meters that do not exist, one of each kind that P1 ports and German push meters send."""

from __future__ import annotations

from app.protocol.dsmr.encode import encode_telegram


def number(text: str) -> str:
    """A meter's number as it travels."""
    return text.encode("ascii").hex().upper()


NETHERLANDS = "WDK5WATTDECK-1"
NETHERLANDS_NUMBER = "E0099000000000017"


def netherlands(second: int = 0, *, drawn_kw: float = 0.111, injected_kw: float = 0.0, with_crc: bool = True) -> bytes:
    """DSMR 5, three phases, gas on channel 2 beside an exchanged meter on channel 1."""
    return encode_telegram(
        NETHERLANDS,
        (
            "1-3:0.2.8(50)",
            f"0-0:1.0.0(2511230940{second:02}W)",
            f"0-0:96.1.1({number(NETHERLANDS_NUMBER)})",
            f"1-0:1.8.1(0021{second:02}.115*kWh)",
            "1-0:1.8.2(000245.467*kWh)",
            "1-0:2.8.1(000010.001*kWh)",
            "1-0:2.8.2(000000.002*kWh)",
            "0-0:96.14.0(0002)",
            f"1-0:1.7.0({drawn_kw:06.3f}*kW)",
            f"1-0:2.7.0({injected_kw:06.3f}*kW)",
            "1-0:99.97.0(1)(0-0:96.7.19)(250326095015W)(0000002014*s)",
            "0-0:96.13.0()",
            "1-0:32.7.0(229.9*V)",
            "1-0:52.7.0(229.2*V)",
            "1-0:72.7.0(222.9*V)",
            "1-0:31.7.0(000*A)",
            "1-0:51.7.0(002*A)",
            "1-0:71.7.0(001*A)",
            "0-1:24.1.0(003)",
            "0-1:96.1.0()",
            "0-1:24.2.1(700101010000W)(00000000)",
            "0-2:24.1.0(003)",
            f"0-2:96.1.0({number('G0099000000000018')})",
            "0-2:24.2.1(251123093500W)(00246.138*m3)",
        ),
        with_crc=with_crc,
    )


def old_netherlands() -> bytes:
    """DSMR 2.2: no CRC, gas on a line of its own."""
    return encode_telegram(
        "WDK5WATTDECK-OLD",
        (
            f"0-0:96.1.1({number('E0088000000000019')})",
            "1-0:1.8.1(00012.345*kWh)",
            "1-0:1.8.2(00067.890*kWh)",
            "1-0:2.8.1(00000.000*kWh)",
            "1-0:2.8.2(00000.000*kWh)",
            "0-0:96.14.0(0001)",
            "1-0:1.7.0(0001.01*kW)",
            "1-0:2.7.0(0000.00*kW)",
            "0-0:96.3.10(1)",
            "0-1:24.1.0(3)",
            "0-1:24.3.0(251123090000)(00)(60)(1)(0-1:24.2.1)(m3)",
            "(00543.210)",
        ),
        with_crc=False,
    )


def belgium() -> bytes:
    """Fluvius: tariff 1 is the day; gas (not corrected) and water, the breaker open."""
    return encode_telegram(
        "WDK5\\299999999_A",
        (
            "0-0:96.1.4(50217)",
            f"0-0:96.1.1({number('1WDK9900000020')})",
            "0-0:1.0.0(250523094000S)",
            "1-0:1.8.1(000100.034*kWh)",
            "1-0:1.8.2(000200.758*kWh)",
            "1-0:2.8.1(000000.000*kWh)",
            "1-0:2.8.2(000000.011*kWh)",
            "0-0:98.1.0(1)(1-0:1.6.0)(1-0:1.6.0)(250501000000S)(250423192538S)(03.695*kW)",
            "0-0:96.14.0(0001)",
            "1-0:1.7.0(00.000*kW)",
            "1-0:2.7.0(02.500*kW)",
            "0-0:96.3.10(0)",
            "0-1:24.1.0(003)",
            "0-1:24.2.3(250523093500S)(00112.384*m3)",
            "0-2:24.1.0(007)",
            "0-2:24.2.1(250523093500S)(00872.234*m3)",
        ),
    )


def austria() -> bytes:
    """Whole Wh and W, a total beside the tariffs, no number."""
    return encode_telegram(
        "WDK5\\299999998_A",
        (
            "1-3:0.2.8(50)",
            "0-0:1.0.0(251123094000W)",
            "1-0:1.8.0(006545766*Wh)",
            "1-0:1.8.1(005017120*Wh)",
            "1-0:1.8.2(001528646*Wh)",
            "1-0:1.7.0(000000286*W)",
            "1-0:2.8.0(000000058*Wh)",
            "1-0:2.7.0(000000000*W)",
        ),
    )


def germany() -> bytes:
    """A push telegram: codes with a storage number, power by phase alone."""
    return encode_telegram(
        "WDK5WD1024 V9.99",
        (
            "1-0:0.0.0*255(0999031312565)",
            "1-0:1.8.0*255(00052185.7825309*kWh)",
            "1-0:2.8.0*255(00019949.3221493*kWh)",
            "1-0:21.7.0*255(000747.85*W)",
            "1-0:41.7.0*255(-00737.28*W)",
            "1-0:61.7.0*255(000639.73*W)",
            "1-0:96.5.5*255(80)",
            "0-0:96.1.255*255(1WDK9900000021)",
        ),
        with_crc=False,
    )


def heat() -> bytes:
    """A heat meter alone."""
    return encode_telegram(
        "WDK-WARMTELINK",
        (
            "1-3:0.2.8(50)",
            "0-0:1.0.0(251123094000W)",
            "0-0:96.1.1(ADC3990000000022)",
            "0-1:24.1.0(004)",
            "0-1:24.2.1(251123094000W)(240.860*GJ)",
        ),
    )


def all_kinds() -> dict[str, bytes]:
    """Every telegram of this page, by what it is of."""
    return {
        "netherlands": netherlands(),
        "old_netherlands": old_netherlands(),
        "belgium": belgium(),
        "austria": austria(),
        "germany": germany(),
        "heat": heat(),
    }


def with_parity(stream: bytes) -> bytes:
    """A 7E1 line as a port that was opened as 8N1 sees it."""
    return bytes(byte | (byte.bit_count() % 2) << 7 for byte in stream)
