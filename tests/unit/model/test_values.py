"""From text to values: every accepted form, every refusal, and no other exception whatever the text."""

from typing import Any, Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from updown.daemons.libreswan.variables import TABLE
from updown.model import values
from updown.model.errors import Refused
from updown.model.values import Mark, Network, escaped
from updown.settings.keys import KEYS

Reader = Callable[[str], Any]
ANY_TEXT = st.text(st.characters(), max_size=60)
"""Any code points, surrogates included."""

NEAR_MISSES = st.text("0123456789abcdefxX./:-+, %_NULes\n\0\udcff\u0661", max_size=24)
"""Texts that look like numbers, addresses, marks and ranges, and mostly are not."""

ACCEPTED: list[tuple[Reader, str, Any]] = [
    (values.words, "1.2.3.4 1.2.3.4 5.6.7.8", ("1.2.3.4", "5.6.7.8")),
    (values.device_name, "vti5", "vti5"),
    (values.device_name, "0", "0"),
    (values.device_name, "fifteen-chars.x", "fifteen-chars.x"),
    (values.daemon_device, "NULL", None),
    (values.daemon_device, "unknown", None),
    (values.daemon_device, "eth0:1", "eth0"),
    (values.daemon_device, "ipsec1", "ipsec1"),
    (values.number, "0", 0),
    (values.number, "4294967295", 4294967295),
    (values.number, "007", 7),
    (values.count, "18446744073709551615", 18446744073709551615),
    (values.port, "443", "443"),
    (values.port, "1000:2000", "1000:2000"),
    (values.protocol, "255", 255),
    (values.spi, "0x0", 0),
    (values.spi, "0x4c1457f8", 0x4C1457F8),
    (values.mark, "20/0xffffffff", Mark(20, 0xFFFFFFFF)),
    (values.mark, "5/0x0000ff", Mark(5, 0xFF)),
    (values.mark, "5/0x00ffff", Mark(5, 0xFFFF)),
    (values.mark, "0/00000000", Mark(0, 0)),
    (values.mark, "7", Mark(7, 0xFFFFFFFF)),
    (values.mark, "4294967295/0xffffffff", Mark(0xFFFFFFFF, 0xFFFFFFFF)),
    (values.yes_no, "yes", True),
    (values.yes_no, "no", False),
    (values.flag, "1", True),
    (values.flag, "YES", True),
    (values.flag, "no", False),
    (values.address, "192.0.2.1", "192.0.2.1"),
    (values.address, "2001:DB8:0::1", "2001:db8::1"),
    (values.interface_address, "10.99.0.1/30", "10.99.0.1/30"),
    (values.interface_address, "10.99.0.1", "10.99.0.1/32"),
    (values.interface_address, "fd00::1", "fd00::1/128"),
    (values.interface_address, "fd00:0::1/64", "fd00::1/64"),
    (values.network, "192.0.2.0/24", Network("192.0.2.0/24", ("192.0.2.0/24",))),
    (values.network, "192.0.2.7/24", Network("192.0.2.7/24", ("192.0.2.0/24",))),
    (values.network, "::/0", Network("::/0", ("::/0",))),
    (values.network, "192.0.2.1", Network("192.0.2.1", ("192.0.2.1/32",))),
    (
        values.network,
        "192.0.2.1-192.0.2.6",
        Network("192.0.2.1-192.0.2.6", ("192.0.2.1/32", "192.0.2.2/31", "192.0.2.4/31", "192.0.2.6/32")),
    ),
    (values.network, "fd00::1-fd00::2", Network("fd00::1-fd00::2", ("fd00::1/128", "fd00::2/128"))),
    (values.mask_length, "255.255.255.0", 24),
    (values.mask_length, "0.0.0.0", 0),
    (values.mask_length, "ffff:ffff::", 32),
    (values.addresses, " 1.2.3.4  1.2.3.4 fd00::1 ", ("1.2.3.4", "fd00::1")),
    (values.addresses, "", ()),
    (values.plus_words, "IKEv2+PSK++UP", ("IKEv2", "PSK", "UP")),
]

REFUSED: list[tuple[Reader, str]] = [
    (values.device_name, ""),
    (values.device_name, "../../etc/passwd"),
    (values.device_name, "sixteen-chars-xx"),
    (values.device_name, "x;reboot"),
    (values.device_name, "-vti"),
    (values.device_name, ".vti"),
    (values.device_name, "vti 5"),
    (values.device_name, "vti5\n"),
    (values.device_name, "vti\x1b5"),
    (values.device_name, "vti\u00e9"),
    (values.device_name, "vti\udcff"),
    (values.daemon_device, "eth/0"),
    (values.daemon_device, ":1"),
    (values.number, ""),
    (values.number, "-1"),
    (values.number, "+1"),
    (values.number, " 1"),
    (values.number, "1_0"),
    (values.number, "4294967296"),
    (values.number, "9" * 5000),
    (values.number, "\u0661"),
    (values.count, "18446744073709551616"),
    (values.port, "65536"),
    (values.port, "1:"),
    (values.port, "1:2:3"),
    (values.protocol, "256"),
    (values.spi, "4c1457f8"),
    (values.spi, "0x"),
    (values.spi, "0x1zz"),
    (values.spi, "0x1_2"),
    (values.spi, "0x12 "),
    (values.spi, "0x123456789"),
    (values.mark, "5/zz"),
    (values.mark, "5/"),
    (values.mark, "5/0x"),
    (values.mark, "/0xff"),
    (values.mark, "-1/0xff"),
    (values.mark, "0x5/0xff"),
    (values.mark, "5/0x1ffffffff"),
    (values.mark, "5/0xff/0xff"),
    (values.mark, "4294967296/0xff"),
    (values.yes_no, "YES"),
    (values.yes_no, ""),
    (values.flag, "true"),
    (values.address, ""),
    (values.address, "999.1.1.1"),
    (values.address, "10.0.0.1/24"),
    (values.address, "fe80::1%eth0"),
    (values.address, "1.2.3.4\n"),
    (values.interface_address, "10.0.0.1/33"),
    (values.interface_address, "10.0.0.1/"),
    (values.interface_address, "10.0.0.1/255.255.255.0"),
    (values.interface_address, "/24"),
    (values.network, "192.0.2.0/33"),
    (values.network, "192.0.2.9-192.0.2.1"),
    (values.network, "192.0.2.1-fd00::1"),
    (values.network, "192.0.2.1-"),
    (values.network, "fe80::/64%eth0"),
    (values.network, "fe80::1%eth0-fe80::2%eth0"),
    (values.network, "any"),
    (values.mask_length, "255.0.255.0"),
    (values.mask_length, "24"),
    (values.addresses, "1.2.3.4 nonsense"),
    (values.plus_words, "IKEv2 UP"),
    (values.plus_words, "IKEv2+UP\n"),
    (values.plus_words, "IKEv2+\u00dcP"),
]


def named(row: tuple[Any, ...]) -> str:
    return f"{row[0].__name__} {row[1][:30]!a}"


@pytest.mark.parametrize(("read", "given_text", "wanted"), ACCEPTED, ids=[named(row) for row in ACCEPTED])
def test_an_accepted_form_becomes_its_value(read: Reader, given_text: str, wanted: Any) -> None:
    assert read(given_text) == wanted


@pytest.mark.parametrize(("read", "given_text"), REFUSED, ids=[named(row) for row in REFUSED])
def test_anything_else_is_refused_with_what_was_expected(read: Reader, given_text: str) -> None:
    with pytest.raises(ValueError) as refusal:
        read(given_text)
    said = str(refusal.value)
    assert said
    assert said.isascii(), "a message must not carry the value raw"
    assert "invalid literal" not in said, "a message says what was expected, not what Python thought"


CONVERTERS = {row.read: row.variable for row in TABLE}
CONVERTERS.update({read: f"setting {key}" for key, read in KEYS.items()})
CONVERTERS.update({values.interface_address: "interface_address", values.addresses: "addresses"})


@pytest.mark.parametrize("read", list(CONVERTERS), ids=list(CONVERTERS.values()))
@given(given_text=st.one_of(ANY_TEXT, NEAR_MISSES))
@example("\udcff")
@example("\0")
@example("9" * 5000)
@example("0x" + "f" * 5000)
@example("5/0x" + "f" * 5000)
@example("1-2-3")
@settings(deadline=None, max_examples=60)
def test_a_converter_raises_nothing_but_value_errors_whatever_the_text(read: Reader, given_text: str) -> None:
    try:
        read(given_text)
    except (ValueError, Refused):  # a verb is refused by its own name
        return


@given(ANY_TEXT)
@example("\x1b[31m\x9b\u202e\udcff\U0001f600\x00\r\n\t\x7f")
def test_escaped_text_is_always_printable_ascii(text: str) -> None:
    assert all(32 <= ord(character) < 127 for character in escaped(text))


@given(ANY_TEXT, st.integers(4, 40))
def test_escaped_text_is_never_longer_than_its_limit(text: str, limit: int) -> None:
    assert len(escaped(text, limit)) <= limit


@given(ANY_TEXT, ANY_TEXT)
def test_different_texts_stay_different_when_escaped_in_full(one: str, other: str) -> None:
    def bytes_of(text: str) -> list[str]:
        # a byte that was not UTF-8 and the character of that number are shown alike: people read bytes
        return [chr(ord(char) - 0xDC00) if 0xDC80 <= ord(char) <= 0xDCFF else char for char in text]

    assert (escaped(one) == escaped(other)) == (bytes_of(one) == bytes_of(other))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("back\\slash", "back\\\\slash"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b", "\\x9b"),
        ("\udc9b", "\\x9b"),
        ("\u202e", "\\u202e"),
        ("\U0001f600", "\\U0001f600"),
    ],
    ids=ascii,
)
def test_what_is_not_printable_is_shown_by_its_number(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_a_text_that_is_too_long_ends_in_three_dots() -> None:
    assert escaped("x" * 2000, 40) == "x" * 37 + "..."


@given(st.ip_addresses(v=4), st.ip_addresses(v=4))
def test_the_prefixes_of_a_range_cover_it_exactly(one: Any, other: Any) -> None:
    import ipaddress

    low, high = min(one, other), max(one, other)
    prefixes = [ipaddress.ip_network(prefix) for prefix in values.network(f"{low}-{high}").prefixes]
    assert prefixes[0][0] == low
    assert prefixes[-1][-1] == high
    assert sum(prefix.num_addresses for prefix in prefixes) == int(high) - int(low) + 1
