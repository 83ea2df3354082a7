"""Addresses on the tunnel device: leftvti= of every connection that uses it, `address` in settings, and source addresses."""

from __future__ import annotations

import ipaddress

from updown.model.concern import Concern, ip, state, verb
from updown.model.context import Context
from updown.model.objects import Address, Link, bare, family, host
from updown.model.operations import Operation, Reason
from updown.model.resources import Left, SourceAddress
from updown.settings.keys import Settings

ADDRESS, SOURCE = "address", "source"


def wants(context: Context, settings: Settings, device: str) -> tuple[Address, ...]:
    """What the daemon says and what the settings say, each once."""
    both = dict.fromkeys((*context.interface_addresses, *settings.address))
    return tuple(Address(device, address) for address in both)


def source_wants(
    context: Context, device: str, by_daemon: bool, addresses: tuple[Address, ...]
) -> tuple[SourceAddress, ...]:
    """leftsourceip= or a lease: without it on this machine, no route could name it as its source. Often it is leftvti='s.

    On its own XFRM interface pluto 5.x sets it (programs/pluto/ipsec_interface.c); 4.10 leaves that to the hook.
    """
    if not context.source_address or (by_daemon and context.generation >= 5):
        return ()
    if any(host(address.address) == context.source_address for address in addresses):
        return ()
    return (SourceAddress(device, context.source_address),)


def as_address(want: Address | SourceAddress) -> Address:
    """`want` in interface notation; a source address is a host's."""
    if isinstance(want, Address):
        return want
    return Address(want.device, f"{want.address}/{128 if family(want.address) == 6 else 32}")


def needed_source(asked: SourceAddress, left: Left, _link: Link | None) -> Address | None:
    """The address, unless another device of this machine has it."""
    address = as_address(asked)
    path = left.paths.get(asked.address)
    if path is not None and path.local and address not in left.addresses.get(address.device, ()):
        return None
    return address


def diff(want: Address, by: str, left: Left) -> list[Operation]:
    """Add the address unless it is there."""
    return added(want, left, Reason("gives address", by), ADDRESS)


def diff_source(want: Address, by: str, left: Left) -> list[Operation]:
    """The same, of an address to send from."""
    return added(want, left, Reason("sends from", by, host(want.address)), SOURCE)


def added(want: Address, left: Left, reason: Reason, kind: str) -> list[Operation]:
    """The address on its device."""
    if want in left.addresses.get(want.device, ()):
        return []
    return [Operation("address add", want, reason=reason, kind=kind)]


def remove(asked: Address | SourceAddress, reason: Reason, left: Left) -> list[Operation]:
    """Remove an address that we added, if it is still there."""
    address = as_address(asked)
    if address not in left.addresses.get(address.device, ()):
        return []
    return [Operation("address delete", address, reason=reason)]


def same_subnet(one: Address, other: Address) -> bool:
    """Whether two addresses of a device are in one subnet, so that the later is a secondary one (net/ipv4/devinet.c)."""
    return subnet(one.address) == subnet(other.address)


def subnet(address: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """The subnet of an address in interface notation; where it has a peer, the peer's."""
    return ipaddress.ip_interface(address.rpartition(" ")[2]).network


def goes_with_link(address: Address) -> bool:
    """Whether the kernel takes the address along when the device is set down, even with keep_addr_on_down=1
    (net/ipv6/addrconf.c addrconf_ifdown)."""
    return family(address.address) == 6 and ipaddress.ip_address(host(address.address)).is_link_local


def key(asked: Address | SourceAddress) -> str:
    """The device and the address."""
    return f"{asked.device} {asked.address}"


def command(operation: Operation) -> str:
    """`ip addr add|del`."""
    address = operation.subject
    assert isinstance(address, Address)
    return f"{ip(address.device)} addr {verb(operation)} {address.address} dev {bare(address.device)}"


def told(operation: Operation) -> str:
    """For `check`."""
    address = operation.subject
    assert isinstance(address, Address)
    return f"{address.device}: address {address.address} {state(operation)}"


CONCERN = Concern(ADDRESS, Address, key, diff=diff, remove=remove, command=command, told=told, owner="ledger")
SOURCES = CONCERN._replace(kind=SOURCE, record=SourceAddress, thing=needed_source, diff=diff_source)
