"""Readers of what the settings say: words, switches and numbers, static routes and policy rules. They raise ValueError."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from updown.model import values
from updown.model.objects import MAIN_TABLE
from updown.model.record import NamedTuple

LONGEST_WAIT = 60  # seconds

RULE_PRIORITY = 1600
"""Where our rules stand unless said: after a VRF's (1000), before the main table's (32766)."""

LOCAL_TABLE = 255  # of this machine's own addresses: every packet looks there first

DEFAULT = ("0.0.0.0/0", "::/0")  # what the word stands for


class StaticRoute(NamedTuple):
    """A route that `route` asks for; without a gateway straight into the device, without a source with the tunnel's."""

    destination: str
    gateway: str = ""
    source: str = ""


class StaticRule(NamedTuple):
    """A policy rule that `rule` asks for."""

    source: str = ""
    iif: str = ""
    fwmark: int = 0
    fwmask: int = 0
    priority: int = RULE_PRIORITY
    destination: str = ""
    inverted: bool = False


def routes(value: str) -> tuple[StaticRoute, ...]:
    """Destinations between commas: `10.9.0.0/16, 2001:db8:9::/48 via fe80::2 src 2001:db8:1::1, default` (both families)."""
    found: list[StaticRoute] = []
    for text in value.split(","):
        head, *words = text.split() or [""]
        said = dict(zip(words[::2], words[1::2]))
        if not head or len(words) != 2 * len(said) or not {*said} <= {"via", "src"}:
            such = "10.9.0.0/16, 10.9.0.0/16 via 10.6.106.2, or 10.9.0.0/16 src 10.1.0.1"
            raise ValueError(f"networks such as {such}, with commas between, are expected")
        ends = {word: values.host_address(address) for word, address in said.items()}
        for destination in DEFAULT if head == "default" else (head,):
            network = routable(destination)
            strange = [word for word, address in ends.items() if (":" in address) != (":" in network)]
            if not strange:
                found.append(StaticRoute(network, ends.get("via", ""), ends.get("src", "")))
            elif head != "default":
                noun = {"via": "gateway", "src": "source"}[strange[0]]
                raise ValueError(f"{network} and its {noun} {ends[strange[0]]} are of two families")
    return tuple(dict.fromkeys(found))


def sources(value: str) -> tuple[str, ...] | None:
    """auto (None), no (none), or the address that routes prefer as source; of both families with a comma between."""
    if value in ("auto", "no"):
        return None if value == "auto" else ()
    found = tuple(values.address(text.strip()) for text in value.split(","))
    each = [ipaddress.ip_address(text) for text in found]
    if any(one.is_unspecified or one.is_loopback or one.is_multicast or one.is_link_local for one in each):
        raise ValueError("an address of this machine within the selector is expected; auto looks for one, no is for none")
    if len({one.version for one in each}) != len(each):
        raise ValueError("one address is expected, or one of each family with a comma between")
    return found


def routable(destination: str) -> str:
    """A network that a tunnel can lead to."""
    network = ipaddress.ip_network(destination)
    if network.is_loopback or network.is_multicast:
        kind = "loopback" if network.is_loopback else "multicast"
        raise ValueError(f"{network} is {kind}: no route leads there, name the networks behind the tunnel")
    return str(network)


def addresses(value: str) -> tuple[str, ...]:
    """Addresses with prefix lengths, separated by blanks or commas; `peer` (or iproute2's other word, remote) stands between an
    address and its peer. Where one is a mask, or the far end, the message has the form that means it."""
    words = [word for word in value.replace(",", " ").split() if word != "netmask"]
    texts: list[str] = []
    while words:
        word = words.pop(0)
        if words[:1] in (["peer"], ["remote"]):
            word = " ".join((word, "peer", *words[1:2]))
            words = words[2:]
        elif texts and word.startswith(("255.", "ffff:")) and "/" not in word:
            host = values.escaped(texts[-1].partition("/")[0], 40)
            raise ValueError(f"{word} is a mask: write {host}/{values.mask_length(word)}")
        texts.append(word)
    found = {text: values.interface_address(text) for text in texts}
    for ours in found.values():
        for text, theirs in found.items():
            if is_far_end(ours, text, theirs):
                host, far = ours.partition("/")[0], theirs.partition("/")[0]
                raise ValueError(f"{far} beside {ours} is the far end's: write {ours} alone, or {host} peer {far}")
    return tuple(dict.fromkeys(found.values()))


def is_far_end(ours: str, text: str, theirs: str) -> bool:
    """Whether an address in one list with ours is the other end's: in our subnet, and written without a length, or the only
    other one that this has room for."""
    if "peer" in f"{ours} {theirs}":
        return False
    here, there = ipaddress.ip_interface(ours), ipaddress.ip_interface(theirs)
    if here.ip == there.ip or here.version != there.version or there.ip not in here.network:
        return False
    return "/" not in text or here.network.num_addresses <= 4


def rules(value: str) -> tuple[StaticRule, ...]:
    """Rules in iproute2's words between commas: `fwmark 0x10/0xff`, `from 10.1.0.0/16 iif eth1 priority 900`."""
    return tuple(dict.fromkeys(rule(text.split()) for text in value.split(",")))


def rule(words: list[str]) -> StaticRule:
    """One rule from its words."""
    found = StaticRule(inverted=words[:1] == ["not"])
    words = words[1:] if found.inverted else words
    if not words or len(words) % 2:
        such = "fwmark 0x10/0xff or from 10.1.0.0/16 iif eth1"
        raise ValueError(f"rules such as {such}, with commas between, are expected")
    for word, value in zip(words[::2], words[1::2]):
        if word in ("from", "to"):
            network = ipaddress.ip_network(value)
            if not network.prefixlen:  # the kernel takes it, and reads it back without it
                raise ValueError(f"{word} {network} fits every packet: name the networks, or say iif or fwmark instead")
            said = str(network)
            found = found._replace(source=said) if word == "from" else found._replace(destination=said)
        elif word == "iif":
            found = found._replace(iif=values.device_name(value))
        elif word == "fwmark":
            mark, slash, mask = value.partition("/")
            try:
                found = found._replace(fwmark=number(mark), fwmask=number(mask) if slash else 0xFFFFFFFF)
            except ValueError:
                raise ValueError("fwmark: a mark such as 5, 0x10 or 0x10/0xff is expected") from None
            if not found.fwmask:
                raise ValueError("a mark with mask 0 fits every packet")
        elif word == "priority":
            found = found._replace(priority=values.within(value, 0, 0xFFFFFFFF, "priority: a number of 0 to 4294967295"))
        else:
            raise ValueError(f"{values.escaped(word, 20)} is none of not (first), from, to, iif, fwmark, priority")
    if not (found.source or found.destination or found.iif or found.fwmask):
        raise ValueError("a rule needs from, to, iif or fwmark: without it, it would catch every packet")
    if found.source and found.destination and (":" in found.source) != (":" in found.destination):
        raise ValueError(f"{found.source} and {found.destination} are of two families")
    return found


def number(value: str) -> int:
    """Decimal, or hexadecimal after 0x."""
    return int(value, 16) if value[:2] in ("0x", "0X") and values.is_hex(value[2:]) else values.number(value)


def namespace(value: str) -> str:
    """The name of a network namespace as `ip netns` has it: one word, no path."""
    if not value or len(value) > 255 or value.startswith(".") or not set(value) <= values.NAME_CHARACTERS:
        raise ValueError("a name such as `ip netns add` takes, of letters, digits, _ . -, is expected")
    return value


def tunnel_name(value: str) -> str:
    """The name of a device that can be a tunnel's."""
    if value in values.KERNELS_OWN:
        raise ValueError(f"{value} is the kernel's own, which no tunnel can have: choose another name")
    return values.device_name(value)


def switch(value: str) -> int | None:
    """yes or 1, no or 0, or keep: leave the kernel's value alone."""
    if value not in ("yes", "no", "1", "0", "keep"):
        raise ValueError("yes (1), no (0) or keep is expected")
    return None if value == "keep" else int(values.flag(value))


def on_off(value: str) -> bool | None:
    """yes or on, no or off, or keep: leave the kernel's value alone."""
    if value not in ("yes", "on", "no", "off", "keep"):
        raise ValueError("yes (on), no (off) or keep is expected")
    return None if value == "keep" else value in ("yes", "on")


def or_auto(meaning: object, read: Callable[[str], object]) -> Callable[[str], object]:
    """What `read` takes; or the word auto, which gives `meaning`."""

    def reading(value: str) -> object:
        if value == "auto":
            return meaning
        try:
            return read(value)
        except ValueError as error:
            raise ValueError(f"{error}, or auto") from None

    return reading


def table(value: str) -> int:
    """A routing table's number (1 to 4294967295), or main."""
    found = (
        MAIN_TABLE if value == "main" else values.within(value, 1, 0xFFFFFFFF, "a table number of 1 to 4294967295, or main,")
    )
    if found == LOCAL_TABLE:
        raise ValueError("255 is the table of this machine's own addresses: take another number, such as 100")
    return found


def mss(value: str) -> str:
    """Whether TCP segments are clamped: no, clamp, or to so many bytes; the least is Linux's (TCP_MIN_MSS)."""
    return value if value in ("no", "clamp") else str(values.within(value, 88, 65495, "no, clamp, or 88 to 65495 bytes"))


def seconds(value: str) -> float:
    """A time to wait, such as 5 or 0.5."""
    digits = value.replace(".", "", 1)
    if not (digits.isascii() and digits.isdigit()) or float(value) > LONGEST_WAIT:
        raise ValueError("seconds, 0 to 60, are expected")
    return float(value)


ANY = "any"


def local(value: str) -> str:
    """Our own end of a VTI; no `any`: with both ends any it would be the kernel's fallback device."""
    if ipaddress.ip_address(values.address(value)).is_unspecified:
        raise ValueError("an address of this machine is expected; a VTI with local any is the kernel's own")
    return values.host_address(value)


def remote(value: str) -> str:
    """The peer's end of a VTI, or any."""
    if value == ANY:
        return ANY
    return ANY if ipaddress.ip_address(values.address(value)).is_unspecified else values.host_address(value)


def key(value: str) -> int:
    """A mark as 5, 0x5 or 5/0xffffffff; the mask is dropped. 0 is none, so it is no key."""
    head, slash, mask = value.partition("/")
    if slash:
        values.mask(mask)
    return positive(head, "a mark of 1 to 4294967295, such as 5, 0x5 or 5/0xffffffff, is expected")


def if_id(value: str) -> int:
    """An XFRM interface's id, as 42 or 0x2a."""
    return positive(value, "an if_id of 1 to 4294967295, such as 42 or 0x2a, is expected")


def positive(value: str, expected: str) -> int:
    """A number of 1 to 4294967295, decimal or hexadecimal."""
    try:
        found = number(value)
    except ValueError:
        found = 0
    if not found:
        raise ValueError(expected)
    return found


def probe(value: str) -> str:
    """The far address that is pinged through the device; `no` is none."""
    if value == "no":
        return ""
    found = values.address(value)
    if values.no_host(found):
        raise ValueError("the address of the far end inside the tunnel is expected; `no` is for none")
    return found
