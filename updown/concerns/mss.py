"""TCP segments that fit the tunnel: one nftables table of our own for each device, `inet vti-updown-DEV`.

A SYN that leaves by the device is clamped to what its route carries; one that comes out of it, to the device's own MTU, since
the answer has to go back that way. The kernel only ever lowers a segment size (net/netfilter/nft_exthdr.c)."""

from __future__ import annotations

from operator import attrgetter

from updown.concerns.device_request import Tunnel
from updown.model.concern import Concern, told_as
from updown.model.objects import Link, bare, netns_of
from updown.model.operations import Operation, Reason
from updown.model.record import NamedTuple
from updown.model.resources import Clamp, Left
from updown.model.values import device_name

KIND = "firewall"
PREFIX = "vti-updown-"
CHAIN = "forward"
PRIORITY = -150  # NF_IP_PRI_MANGLE
HEADERS = (("ipv4", 40), ("ipv6", 60))  # bytes of IP and TCP, without options
LEAST = 68  # bytes


class SynRule(NamedTuple):
    """A SYN by `device`, entering (iifname; of a VRF's slave sdifname) or leaving (oifname), of one family or of both (empty),
    gets a largest segment of `size` bytes; 0: what its route carries. `comment` tells the rule when it is listed."""

    key: str
    device: str
    family: str
    size: int
    comment: str


def wants(tunnel: Tunnel) -> tuple[Clamp, ...]:
    """A table for each device of the tunnel."""
    said = tunnel.settings.mss
    links = [wanted.link for wanted in tunnel.devices if said != "no"]
    return tuple(Clamp(link.name, 0, bool(link.vrf), int(said) if said.isdigit() else 0) for link in links)


def rules(clamp: Clamp) -> tuple[SynRule, ...]:
    """The rules of the table. Without an MTU of ours what comes in is clamped by the route too: nftables looks at the way
    back as well (net/netfilter/nft_rt.c get_tcpmss)."""
    name = bare(clamp.device)
    # what came in by a slave has the VRF as its device when it is forwarded (drivers/net/vrf.c vrf_ip_rcv)
    key, by = ("sdifname", "by its VRF") if clamp.slave else ("iifname", "entering")
    if clamp.size:
        ways = (("oifname", "leaving"), (key, by))
        return tuple(SynRule(way, name, "", clamp.size, f"{word}: mss {clamp.size}") for way, word in ways)
    leaving = SynRule("oifname", name, "", 0, "leaving: route")
    if clamp.mtu <= LEAST:
        return (leaving, SynRule(key, name, "", 0, f"{by}: route"))
    comment = f"{by}: mtu {clamp.mtu}"
    return (leaving, *(SynRule(key, name, family, clamp.mtu - headers, comment) for family, headers in HEADERS))


def table(device: str) -> str:
    """The name of a device's table, in the namespace of the device."""
    return PREFIX + bare(device)


def device_of_table(name: str) -> str | None:
    """The device of a table of ours; None for another's, also where no device of ours could have the name: nft reads names as
    text."""
    try:
        return device_name(name[len(PREFIX) :]) if name.startswith(PREFIX) else None
    except ValueError:
        return None


def clamp_of(device: str, comments: list[str]) -> Clamp:
    """The clamp that a table with these rules is; one with an MTU of -1 where they are not what we write."""
    by, _, rest = (comments[1] if len(comments) > 1 else "").partition(": ")
    word, _, text = rest.partition(" ")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    clamp = Clamp(device, number * (word == "mtu"), by == "by its VRF", number * (word == "mss"))
    return clamp if [rule.comment for rule in rules(clamp)] == comments else Clamp(device, -1)


def with_device_mtu(asked: Clamp, _left: Left, link: Link | None) -> Clamp:
    """The rules have the MTU in them that we give the device; 0 where that is the kernel's choice, or not ours, or where the
    size is said."""
    return asked._replace(mtu=link.mtu if link and not asked.size else 0)


def diff(want: Clamp, by: str, left: Left) -> list[Operation]:
    """Make the table, or put another in its place, where it is not as wanted."""
    have = left.things.get(KIND, {}).get(want.device)
    if have == want:
        return []
    return [Operation("firewall replace" if have else "firewall add", want, have, Reason("segments fit", by))]


def remove(asked: Clamp, reason: Reason, left: Left) -> list[Operation]:
    """Delete the table, if it is there."""
    have = left.things.get(KIND, {}).get(asked.device)
    return [Operation("firewall delete", have, reason=reason)] if have else []


def command(operation: Operation) -> str:
    """The nft command of an operation."""
    clamp: Clamp = operation.subject
    netns = netns_of(clamp.device)
    nft = f"ip netns exec {netns} nft" if netns else "nft"
    if operation.verb == "delete":
        return f"{nft} {deletion(clamp.device)}"
    return f"{nft} '{table_text(clamp) if operation.verb == 'add' else replacement(clamp)}'"


def deletion(device: str) -> str:
    """To nft: delete a device's table."""
    return f"delete table inet {table(device)}"


def replacement(clamp: Clamp) -> str:
    """To nft: the table in place of one that may be there, in one transaction."""
    return f"add table inet {table(clamp.device)}; {deletion(clamp.device)}; {table_text(clamp)}"


def table_text(clamp: Clamp) -> str:
    """To nft: a device's table, which is not there."""
    words = "; ".join(rule_text(rule) for rule in rules(clamp))
    head = f"type filter hook {CHAIN} priority {PRIORITY}; policy accept"
    return f"table inet {table(clamp.device)} {{ chain {CHAIN} {{ {head}; {words}; }}; }}"


def rule_text(rule: SynRule) -> str:
    """A rule as nft reads it."""
    family = f"meta nfproto {rule.family} " if rule.family else ""
    size = str(rule.size) if rule.size else "rt mtu"
    syn = "tcp flags & (syn | rst) == syn"
    key = f"meta {rule.key}" if rule.key == "sdifname" else rule.key
    return f'{key} "{rule.device}" {family}{syn} tcp option maxseg size set {size} comment "{rule.comment}"'


told = told_as(lambda clamp: f"nftables table {table(clamp.device)}")

CONCERN = Concern(KIND, Clamp, attrgetter("device"), wants, with_device_mtu, diff, remove, command, told, owner="name")
