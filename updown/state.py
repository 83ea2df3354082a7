"""What the kernel holds, or should hold: the records that desired and observed share.

Records are NamedTuples: `dataclasses` costs a hook 8 ms of start-up (it imports `inspect`).
Addresses are canonical text (`ipaddress` form), numbers are host-order integers.
"""

from typing import NamedTuple, Optional

OUR_PROTOCOL = 160
"""Route protocol number (rtm_protocol) of every route we make; no routing daemon in iproute2's rt_protos has it."""

OUR_ALIAS = "vti-updown"
"""Interface alias (ifalias) of every device we make: it survives our crash and the loss of the ledger."""

MAIN_TABLE = 254


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


class Address(NamedTuple):
    """An address on a device, in interface notation: `10.99.0.1/30`, `fd00:99::1/64`."""

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


class Path(NamedTuple):
    """How the kernel would send a packet to an address now."""

    device: str
    gateway: str = ""
    source: str = ""
    local: bool = False  # the address is one of this machine


def family(address: str) -> int:
    """4 or 6, from the text of an address or prefix."""
    return 6 if ":" in address else 4


def is_any(address: Optional[str]) -> bool:
    """Whether a tunnel end is unspecified."""
    return address in (None, "", "0.0.0.0", "::")
