"""From the text of one variable or setting to a value; anything else is a ValueError that says what was expected.

Each function is one accepted form; free text, possibly a peer's, is `str`, and escaped wherever it is shown. Who names the
variable and decides what a refusal means is the caller."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable

from updown.model.record import NamedTuple

NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
POLICY_CHARACTERS = NAME_CHARACTERS - {"."} | {"?"}
NAME_LENGTH = 15  # IFNAMSIZ - 1, bytes

AUTO = -1
"""An MTU that is worked out from the SA (concerns/mtu.py)."""


class Mark(NamedTuple):
    """A packet mark: both host-order 32-bit integers; a tunnel's key is the value alone."""

    value: int
    mask: int


class Network(NamedTuple):
    """A traffic selector's addresses: `text` as the daemon wrote it, `prefixes` that cover it exactly."""

    text: str
    prefixes: tuple[str, ...]


ESCAPES = {code: f"\\x{code & 0xFF:02x}" for code in (*range(32), 127, *range(0xDC80, 0xDD00))}
ESCAPES[ord("\\")] = "\\\\"
"""Of what ASCII has and a terminal should not get, and of bytes that were not UTF-8, which surrogateescape carries."""


def escaped(text: str, limit: int = 0) -> str:
    """`text` fit for a terminal and a log: printable ASCII, everything else as \\xNN or \\uNNNN; `limit` in characters."""
    shown = text.translate(ESCAPES).encode("ascii", "backslashreplace").decode()
    return shown if not limit or len(shown) <= limit else shown[: limit - 3] + "..."


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for a misspelt word, else nothing."""
    import difflib

    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""


def words(value: str) -> tuple[str, ...]:
    """Blank-separated words, each once: libreswan 5.3 to main gives the first one twice (lib/libswan/alloc.c)."""
    return tuple(dict.fromkeys(value.split()))


KERNELS_OWN = ("ip_vti0", "ip6_vti0", "tunl0", "ip6tnl0", "gre0", "ip6gre0", "gretap0", "erspan0", "sit0", "lo")
"""Names that modules of the kernel give to devices of their own."""


def device_name(value: str) -> str:
    """A network device's name, narrower than the kernel's rule so that it is safe in paths and logs (promise P8)."""
    if not value[:1].isalnum() or not set(value) <= NAME_CHARACTERS:
        raise ValueError("a device name is letters, digits, _ . - and begins with a letter or digit")
    if len(value) > NAME_LENGTH:
        raise ValueError(f"a device name has at most {NAME_LENGTH} characters, this one {len(value)}")
    if value in ("all", "default"):  # /proc/sys/net/ipv4/conf has them as words of its own
        raise ValueError("all and default are no devices: their sysctls are those of all others")
    return value


def daemon_device(value: str) -> str | None:
    """A device the daemon names: the words NULL (libreswan) and unknown (strongSwan) are none, `eth0:1` is eth0."""
    if value in ("NULL", "unknown"):
        return None
    return device_name(value.split(":", 1)[0])


def number(value: str, most: int = 0xFFFFFFFF) -> int:
    """A decimal number of 0 to 4294967295."""
    if not (value.isascii() and value.isdigit()) or len(value) > 20 or int(value) > most:
        raise ValueError(f"a number of 0 to {most} is expected")
    return int(value)


def count(value: str) -> int:
    """A decimal number of 0 to 2^64-1: bytes, seconds since the epoch."""
    return number(value, 0xFFFFFFFFFFFFFFFF)


def mtu(value: str) -> int:
    """Bytes, 68 to 65515 (net/ipv4/ip_tunnel.c)."""
    return within(value, 68, 65515, "an MTU of 68 to 65515 bytes")


def within(value: str, least: int, most: int, what: str) -> int:
    """A decimal number in a range; `what` names both."""
    try:
        found = number(value, most)
    except ValueError:
        found = least - 1
    if found < least:
        raise ValueError(f"{what} is expected")
    return found


def port(value: str) -> str:
    """A port, or strongSwan's range `1000:2000`; text, since it is only ever compared."""
    for part in value.split(":", 1):
        number(part, 65535)
    return value


def protocol(value: str) -> int:
    """An IP protocol number; 0 is any."""
    return number(value, 255)


def spi(value: str) -> int:
    """An SPI as libreswan prints it, `0x4c1457f8`."""
    if not value.startswith("0x") or not is_hex(value[2:]):
        raise ValueError("an SPI such as 0x4c1457f8 is expected")
    return int(value, 16)


def is_hex(digits: str) -> bool:
    """Whether `digits` are one to eight hexadecimal ones; int() alone takes blanks and underscores too."""
    return 0 < len(digits) <= 8 and set(digits) <= set("0123456789abcdefABCDEF")


def mark(value: str) -> Mark:
    """`20/0xffffffff`: decimal value, hexadecimal mask of any width (libreswan prints 0xff as 0x0000ff, mask 0 as 00000000)."""
    head, slash, tail = value.partition("/")
    return Mark(number(head), mask(tail) if slash else 0xFFFFFFFF)


def mask(value: str) -> int:
    """The hexadecimal mask of a mark."""
    if not is_hex(value[2:] if value[:2] in ("0x", "0X") else value):
        raise ValueError("a mark such as 5/0xffffffff is expected")
    return int(value, 16)


def choice(*allowed: str) -> Callable[[str], str]:
    """One of the given words."""

    def read(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"one of {', '.join(allowed)} is expected")
        return value

    return read


def yes_no(value: str) -> bool:
    """yes or no."""
    if value not in ("yes", "no"):
        raise ValueError("yes or no is expected")
    return value == "yes"


def flag(value: str) -> bool:
    """1, yes or YES is true; 0 or no is false."""
    if value not in ("0", "1", "yes", "no", "YES", "NO"):
        raise ValueError("0, 1, yes or no is expected")
    return value in ("1", "yes", "YES")


def address(value: str) -> str:
    """An IPv4 or IPv6 address without prefix or zone, in canonical form."""
    if "%" in value:
        raise ValueError("an address without a zone is expected")
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("an IPv4 or IPv6 address is expected") from None


def host_address(value: str) -> str:
    """An address that a host can have: of no group, no loopback, nobody's or everybody's."""
    found = address(value)
    why = no_host(found)
    if why:
        raise ValueError(f"{found} is {why}, which no host can have")
    return found


def no_host(host: str, length: int = 0) -> str:
    """What an address is that no host can have, with a prefix of `length` bits (0: not known); empty for any other. A prefix
    with room for two has neither a network's nor a broadcast address (RFC 3021, RFC 6164); IPv6 has no broadcasts."""
    found = ipaddress.ip_address(host)
    if getattr(found, "ipv4_mapped", None):
        return "an IPv4 address in IPv6's form"
    kinds = {"no address": found.is_unspecified, "a loopback address": found.is_loopback, "multicast": found.is_multicast}
    kinds["everybody's broadcast address"] = host == "255.255.255.255"
    network = ipaddress.ip_network(f"{host}/{length or found.max_prefixlen}", strict=False)
    if network.num_addresses > 2:
        kinds[f"the network's own of {network}"] = found == network.network_address
        kinds[f"the broadcast address of {network}"] = network.version == 4 and found == network.broadcast_address
    return next((kind for kind, is_so in kinds.items() if is_so), "")


FORM = "10.99.0.1/30, or 10.99.0.1 peer 10.99.0.2"


def interface_address(value: str) -> str:
    """An address with its prefix length, `10.99.0.1/30`; without one it is a host's (/32, /128). `10.0.0.1 peer 10.0.0.2` has
    the peer's, `10.0.0.1 peer 10.0.0.2/32`. Length 0 is refused: with the address the kernel makes a route to its subnet."""
    ours, peer, theirs = value.partition(" peer ")
    if peer:
        return with_peer(ours, theirs)
    head, slash, length = value.partition("/")
    try:
        host = address(head)
    except ValueError as error:
        raise ValueError(f"{error}, such as {FORM}") from None
    most = 128 if ":" in host else 32
    try:
        bits = number(length, most) if slash else most
    except ValueError:
        raise ValueError(f"an address with a prefix length is expected, such as {FORM}") from None
    if not bits:
        raise ValueError(f"length 0 makes the device the default route; write {host}/{most}, or its subnet's length")
    why = no_host(host, bits)
    if why:
        first = next(iter(ipaddress.ip_network(f"{host}/{bits}", strict=False).hosts()), host)
        form = f"this end's own inside the tunnel, such as {FORM if no_host(str(first)) else f'{first}/{bits}'}"
        raise ValueError(f"{host} is {why}, which no host can have: write {form}")
    return f"{host}/{bits}"


def with_peer(ours: str, theirs: str) -> str:
    """An address and its peer; the length is the peer's, and may stand at both, as clouds write it."""
    if (":" in ours) != (":" in theirs):
        raise ValueError("an address and its peer are of one family")
    head, slash, length = ours.partition("/")
    if slash and length != theirs.partition("/")[2]:
        raise ValueError(f"the length is the peer's: write {escaped(head, 40)} peer {escaped(theirs, 40)}")
    peer = interface_address(theirs)
    mine = interface_address(f"{head}/{peer.partition('/')[2]}").partition("/")[0]
    if mine == peer.partition("/")[0]:
        raise ValueError(f"{mine} is both ends: the peer has another one, as in {FORM}")
    return f"{mine} peer {peer}"


def network_alone(value: str) -> str:
    """A network with its length, and no host's address in it."""
    found = ipaddress.ip_network(value)
    if found.num_addresses == 1:
        raise ValueError("a network such as 192.0.2.0/24 is expected")
    return str(found)


def network(value: str) -> Network:
    """A selector: `192.0.2.0/24`, or `192.0.2.1-192.0.2.9`, which libreswan main prints for a range that is no prefix."""
    try:
        if "%" in value:
            raise ValueError
        low, dash, high = value.partition("-")
        if dash:
            first, last = ipaddress.ip_address(low), ipaddress.ip_address(high)
            blocks = ipaddress.summarize_address_range(first, last)
            return Network(value, tuple(str(block) for block in blocks))
        return Network(value, (str(ipaddress.ip_network(value, strict=False)),))
    except (ValueError, TypeError):
        raise ValueError("a network such as 192.0.2.0/24 or a range of addresses is expected") from None


def mask_length(value: str) -> int:
    """A dotted or colon mask as a prefix length: 255.255.255.0 is 24, ffff:ffff:: is 32."""
    bits = int(ipaddress.ip_address(address(value)))
    width = 128 if ":" in value else 32
    ones = bin(bits).count("1")
    if bits != ((1 << ones) - 1) << (width - ones):
        raise ValueError("a network mask is expected")
    return ones


def addresses(value: str) -> tuple[str, ...]:
    """Blank-separated addresses, each once."""
    return tuple(dict.fromkeys(address(word) for word in value.split()))


def plus_words(value: str) -> tuple[str, ...]:
    """`+`-separated words: PLUTO_CONN_POLICY."""
    found = tuple(word for word in value.split("+") if word)
    if not all(set(word) <= POLICY_CHARACTERS for word in found):
        raise ValueError("words of letters, digits, _ and - are expected, joined by +")
    return found
