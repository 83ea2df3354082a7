"""Addresses on the tunnel device: leftvti= of every connection that uses it, `address` in settings, and source addresses."""

from __future__ import annotations

import ipaddress

from updown.concerns.device_request import DeviceRequest, Tunnel
from updown.model import values
from updown.model.claims import SaInfo, host_part
from updown.model.concern import Concern, ip, told_as, verb
from updown.model.errors import Refused
from updown.model.objects import Address, Link, bare, family, host, placed
from updown.model.operations import Operation, Reason
from updown.model.record import NamedTuple
from updown.model.resources import Left, SourceAddress
from updown.settings.keys import Settings

SOURCE = "source"


def wants(tunnel: Tunnel) -> tuple[Address, ...]:
    """What the daemon says and what the settings say, each once."""
    both = dict.fromkeys((*tunnel.sa.interface_addresses, *tunnel.settings.address))
    return tuple(Address(tunnel.device, address) for address in both)


def wants_source(tunnel: Tunnel) -> tuple[SourceAddress, ...]:
    """`source` of the settings; else leftsourceip= or a lease: without it on this machine, no route could name it as its
    source. Often it is leftvti='s.

    On its own XFRM interface pluto 5.x sets it (programs/pluto/ipsec_interface.c); 4.10 leaves that to the hook."""
    sa, said = tunnel.sa, list(tunnel.settings.source or ())
    told = sa.source_address
    if told and family(told) not in map(family, said) and not (tunnel.request.by_daemon and sa.generation >= 5):
        said.append(told)
    there = {host(address.address) for address in wants(tunnel)}
    return tuple(SourceAddress(tunnel.device, address) for address in said if address not in there)


def check_outer(settings: Settings, peer: str, where: str) -> None:
    """Raise Refused where `address` has the peer's outer address, by the settings or as it is now: then nothing reaches it.
    `where` are file and line."""
    for address in settings.address:
        if host(address) in (settings.remote, peer):
            text = f"{where}: address = {address} has the peer's outer address"
            raise Refused(text, f"write this end's own inside the tunnel, such as {values.FORM}")


def as_address(want: Address | SourceAddress) -> Address:
    """`want` in interface notation; a source address is a host's."""
    if isinstance(want, Address):
        return want
    return Address(want.device, f"{want.address}/{128 if family(want.address) == 6 else 32}")


def needed_source(asked: SourceAddress, left: Left, _link: Link | None) -> Address | None:
    """The address, unless another device of this machine has it."""
    address = as_address(asked)
    path = left.paths.get(asked.address)
    elsewhere = path is not None and path.local and address not in left.addresses.get(address.device, ())
    return None if elsewhere else address


def diff(want: Address, by: str, left: Left) -> list[Operation]:
    """Add the address unless it is there."""
    there = want in left.addresses.get(want.device, ())
    return [] if there else [Operation("address add", want, reason=Reason("gives address", by))]


def diff_source(want: Address, by: str, left: Left) -> list[Operation]:
    """The same, of an address to send from."""
    reason = Reason("sends from", by, host(want.address))
    return [operation._replace(reason=reason, kind=SOURCE) for operation in diff(want, by, left)]


def remove(asked: Address | SourceAddress, reason: Reason, left: Left) -> list[Operation]:
    """Remove an address that we added, if it is still there."""
    address = as_address(asked)
    there = address in left.addresses.get(address.device, ())
    return [Operation("address delete", address, reason=reason)] if there else []


def same_subnet(one: Address, other: Address) -> bool:
    """Whether two addresses of a device are in one subnet, so that the later is a secondary one (net/ipv4/devinet.c). One with
    a peer is in the peer's."""
    first, second = (ipaddress.ip_interface(each.address.rpartition(" ")[2]).network for each in (one, other))
    return first == second


def is_link_local(address: Address) -> bool:
    """Whether it is in fe80::/10: such a one the kernel takes along when the device is set down, even with
    keep_addr_on_down=1 (net/ipv6/addrconf.c addrconf_ifdown)."""
    return family(address.address) == 6 and ipaddress.ip_address(host(address.address)).is_link_local


def key(asked: Address | SourceAddress) -> str:
    """The device and the address."""
    return f"{asked.device} {asked.address}"


def command(operation: Operation) -> str:
    """`ip addr add|del`."""
    address: Address = operation.subject
    return f"{ip(address.device)} addr {verb(operation)} {address.address} dev {bare(address.device)}"


class SourceQuery(NamedTuple):
    """Where an address to send from is looked for: within `prefixes`, in the namespace of `place`, in the VRF `vrf` if there is
    one. `on_device`: the device's own that is within, beside others that are not."""

    prefixes: tuple[str, ...]
    place: str
    vrf: str
    on_device: str


def source_query(sa: SaInfo, found: DeviceRequest) -> SourceQuery | None:
    """What is to be looked for, so that this machine itself reaches the other side: of what it sends, the tunnel's policy takes
    only what comes from an address within our selector. None where the daemon or the settings name one, or all are within; and
    where the kernel chooses one by itself: of the device, or of a host's that the tunnel begins at, which moves with it."""
    settings = found.settings._replace(netns="", vrf="") if found.by_daemon else found.settings
    routed = (sa.routing if sa.routing is not None else settings.routing) or settings.route
    told = sa.source_address and family(sa.source_address) == sa.inner_family
    if not routed or told or settings.source is not None:
        return None
    prefixes = values.network(sa.my_client.partition(" ")[0]).prefixes
    networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
    there = [host(text) for text in (*sa.interface_addresses, *settings.address) if family(text) == sa.inner_family]
    there = [text for text in there if not ipaddress.ip_address(text).is_link_local]
    inside = [text for text in there if any(ipaddress.ip_address(text) in network for network in networks)]
    chosen = len(inside) == len(there) if there else host_part(sa.my_client, sa.me) is not None
    if chosen or not all(network.prefixlen for network in networks):
        return None
    vrf = placed(settings.vrf, settings.netns) if settings.vrf else ""
    return SourceQuery(prefixes, placed("", settings.netns), vrf, inside[0] if inside else "")


told = told_as(lambda address: f"address {address.address}")

CONCERN = Concern("address", Address, key, wants, diff=diff, remove=remove, command=command, told=told, owner="ledger")
SOURCES = CONCERN._replace(kind=SOURCE, record=SourceAddress, wants=wants_source, thing=needed_source, diff=diff_source)
