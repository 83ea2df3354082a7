"""Addresses on the tunnel device: leftvti= of every connection that uses it, `address` in settings, and source addresses."""

from __future__ import annotations

import ipaddress

from updown.model.claims import SaInfo
from updown.model.objects import Address, family, host
from updown.model.operations import Operation
from updown.model.resources import Observed, SourceAddress
from updown.settings.keys import Settings


def wants(sa: SaInfo, settings: Settings, device: str) -> tuple[Address, ...]:
    """What the daemon says and what the settings say, each once."""
    both = dict.fromkeys((*sa.interface_addresses, *settings.address))
    return tuple(Address(device, address) for address in both)


def source_wants(sa: SaInfo, device: str, by_daemon: bool, addresses: tuple[Address, ...]) -> tuple[SourceAddress, ...]:
    """leftsourceip= or a lease: without it on this machine, no route could name it as its source. Often it is leftvti='s.

    On its own XFRM interface pluto 5.x sets it (programs/pluto/ipsec_interface.c); 4.10 leaves that to the hook.
    """
    if not sa.source_address or (by_daemon and sa.generation >= 5):
        return ()
    if any(host(address.address) == sa.source_address for address in addresses):
        return ()
    return (SourceAddress(device, sa.source_address),)


def as_address(want: Address | SourceAddress) -> Address:
    """`want` in interface notation; a source address is a host's."""
    if isinstance(want, Address):
        return want
    return Address(want.device, f"{want.address}/{128 if family(want.address) == 6 else 32}")


def plan(want: Address | SourceAddress, observed: Observed, claim: str) -> Operation | None:
    """Add the address unless it is there, or, for a source address, unless this machine has it anywhere."""
    address = as_address(want)
    on_device = address in observed.addresses.get(address.device, ())
    if on_device:
        return None
    if isinstance(want, SourceAddress):
        path = observed.paths.get(want.address)
        if path is not None and path.local and not on_device:
            return None  # on another device of this machine
        return Operation("address add", address, reason=f"{claim} sends from {want.address}")
    return Operation("address add", address, reason=f"{claim} gives the device this address")


def same_subnet(one: Address, other: Address) -> bool:
    """Whether two addresses of a device are in one subnet, so that the later is a secondary one (net/ipv4/devinet.c)."""
    return subnet(one.address) == subnet(other.address)


def subnet(address: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """The subnet of an address in interface notation; where it has a peer, the peer's."""
    return ipaddress.ip_interface(address.rpartition(" ")[2]).network


def plan_removal(address: Address, observed: Observed, why: str) -> list[Operation]:
    """Remove an address that we added, if it is still there."""
    if address not in observed.addresses.get(address.device, ()):
        return []
    return [Operation("address delete", address, reason=why)]


def goes_with_link(address: Address) -> bool:
    """Whether the kernel takes the address along when the device is set down, even with keep_addr_on_down=1
    (net/ipv6/addrconf.c addrconf_ifdown)."""
    return family(address.address) == 6 and ipaddress.ip_address(host(address.address)).is_link_local
