"""What the kernel holds, or should hold: the records that desired and observed share.

Records are NamedTuples: `dataclasses` costs a hook 8 ms of start-up (it imports `inspect`).
Addresses are canonical text (`ipaddress` form), numbers are host-order integers. A device in another network namespace than
the hook's own is named with it, `vti5@red`: `@` is in no device name, so the two never mix."""

from __future__ import annotations

from updown.model.record import NamedTuple

OUR_PROTOCOL = 160
"""Route protocol number (rtm_protocol) of every route we make; no routing daemon in iproute2's rt_protos has it."""

OUR_ALIAS = "vti-updown"
"""Interface alias (ifalias) of every device we make: it survives our crash and the loss of the ledger."""

ON_ITS_WAY = f"{OUR_ALIAS} to "
"""The same, before the name of a network namespace, while a device is moved there."""

KERNEL_PROTOCOL = 2
"""RTPROT_KERNEL: a device's own network, which comes and goes with its address."""

MAIN_TABLE = 254

VTIS = ("vti", "vti6")
TUNNELS = (*VTIS, "xfrm")
"""Kinds of links."""

HOP_GATEWAY = "fe80::a0"
"""Of each hop of an IPv6 multipath route: the kernel joins none without a gateway, and a tunnel device asks for no neighbour
(net/ipv6/route.c ip6_route_multipath_add, IFF_NOARP)."""


class Link(NamedTuple):
    """A network device; as a wish, `mtu` 0 is the kernel's own choice and `ifindex` 0 is unknown."""

    name: str
    kind: str = ""  # IFLA_INFO_KIND: vti, vti6, xfrm, ...; empty for a device without one
    ifindex: int = 0
    local: str = ""  # tunnel end; "0.0.0.0" or "::" is any; empty for other kinds
    remote: str = ""
    ikey: int = 0
    okey: int = 0
    parent: int = 0  # index of the underlying device (IFLA_VTI_LINK, IFLA_XFRM_LINK); 0 is none
    if_id: int = 0
    mtu: int = 0  # bytes
    up: bool = False
    alias: str = ""
    vrf: str = ""  # the VRF device it belongs to
    external: bool = False  # an XFRM interface for all if_ids (IFLA_XFRM_COLLECT_METADATA): each route tells its own
    dormant: bool = False  # up, but not RUNNING for who looks at its operational state (RFC 2863)
    multicast: bool = False  # routing daemons may speak to groups on it (IFF_MULTICAST)
    underlay: str = (
        ""  # as a wish: the name of the device that `parent` is the index of, or `to ADDRESS`: that of the way there
    )


class Address(NamedTuple):
    """An address on a device, in interface notation: `10.99.0.1/30`, `fd00:99::1/64`, `10.0.0.1 peer 10.0.0.2/32`."""

    device: str
    address: str


class Route(NamedTuple):
    """A unicast route; `metric` 0 is the kernel's default (0 for IPv4; IPv6 reads back 1024)."""

    destination: str  # "10.2.0.0/24"
    device: str
    gateway: str = ""
    table: int = MAIN_TABLE
    metric: int = 0
    mtu: int = 0  # bytes; 0 is none
    source: str = ""
    protocol: int = OUR_PROTOCOL
    if_id: int = 0  # into an external XFRM interface: of what goes by it (LWTUNNEL_ENCAP_XFRM)
    hops: tuple[str, ...] = ()  # further devices, of a multipath route
    joins: bool = False  # as a wish: it shares its prefix with others that say so too

    @property
    def devices(self) -> tuple[str, ...]:
        """Every device it leads into."""
        return (self.device, *self.hops)


class Rule(NamedTuple):
    """A policy rule: packets that meet all of what is said look into `table` first."""

    family: int  # 4 or 6
    device: str  # the tunnel's, whose namespace the rule is in
    table: int
    priority: int
    source: str = ""  # a prefix
    iif: str = ""  # the device they come in by
    fwmark: int = 0
    fwmask: int = 0  # 0 without a mark
    protocol: int = OUR_PROTOCOL
    destination: str = ""  # a prefix
    inverted: bool = False  # packets that do not meet all of that
    source_port: int = 0  # of UDP


class Path(NamedTuple):
    """How the kernel would send a packet to an address now."""

    device: str
    gateway: str = ""
    source: str = ""
    local: bool = False  # the address is one of this machine
    mtu: int = 0  # bytes, of the route; asked for only where it matters


def family(address: str) -> int:
    """4 or 6, from the text of an address or prefix."""
    return 6 if ":" in address else 4


def placed(device: str, netns: str) -> str:
    """A device's name with its network namespace; empty is the hook's own."""
    return f"{device}@{netns}" if netns else device


def has_our_alias(link: Link) -> bool:
    """Whether it is marked as ours; an administrator's words that begin with our name are his own."""
    return link.alias == OUR_ALIAS or link.alias.startswith(ON_ITS_WAY)


def bare(device: str) -> str:
    """The device's name without its namespace, as the kernel has it."""
    return device.partition("@")[0]


def netns_of(device: str) -> str:
    """The network namespace in a device's name; empty is the hook's own."""
    return device.partition("@")[2]


def host(address: str) -> str:
    """Our own address of an address in interface notation."""
    return address.split(" ")[0].split("/")[0]


def is_any(address: str | None) -> bool:
    """Whether a tunnel end is unspecified."""
    return address in (None, "", "0.0.0.0", "::")
