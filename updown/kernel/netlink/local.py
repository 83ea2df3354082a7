"""This machine's own addresses: which one a tunnel's routes may prefer, and whether a tunnel's end is inside of the tunnel."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from updown.concerns.addresses import SourceQuery, as_address
from updown.kernel.netlink.route_messages import LOCAL, RouteSeen
from updown.kernel.netlink.rtnetlink import Netlink
from updown.model import values
from updown.model.claims import Claim, SaInfo
from updown.model.objects import OUR_PROTOCOL, TUNNELS, Address, host, netns_of
from updown.model.record import Any
from updown.model.resources import SourceAddress


def own_source(netlink: Netlink, query: SourceQuery, known: str | None) -> str:
    """An address of this machine within the selectors of `query`; empty where there is none. `known`: what was found the last
    time, which stays while it is there; None: nobody looked yet.

    The kernel is asked from where it would send to the first address of each network. Only where that says nothing, and once,
    all addresses are read: the selector is wider than this machine's networks. Those of a tunnel's device go with it."""
    if query.on_device:
        return query.on_device
    there = netlink.at(query.place)
    networks = [ipaddress.ip_network(prefix) for prefix in query.prefixes]
    vrf = netlink.link(query.vrf) if query.vrf else None
    oif = vrf.ifindex if vrf else 0

    def fits(address: str) -> bool:
        return bool(address) and is_in(networks, address) and is_machines(there, address, oif)

    def candidates() -> Iterator[str]:
        yield known or ""
        for network in networks:
            yield from senders(there, network, oif)
        if known != "" and not vrf:
            yield from there.lasting_addresses(networks[0].version)

    return next((address for address in candidates() if fits(address)), "")


def senders(netlink: Netlink, network: Any, oif: int) -> Iterator[str]:
    """From where a packet to a network's first address would be sent; of IPv6 the device's addresses that last, since the
    kernel may choose one for a day (RFC 8981)."""
    first = network.network_address + (1 if network.num_addresses > 2 else 0)
    seen = netlink.match(str(first), oif, fib=False).route
    if seen is not None and seen.type == LOCAL:
        yield str(first)
    elif seen is not None and network.version == 6 and seen.oif:
        yield from netlink.lasting_addresses(6, seen.oif)
    elif seen is not None:
        yield seen.source


def is_in(networks: Sequence[Any], address: str) -> bool:
    """Whether one of these networks has an address."""
    found = ipaddress.ip_address(address)
    return not found.is_loopback and any(found in network for network in networks)


def is_machines(netlink: Netlink, address: str, oif: int = 0) -> bool:
    """Whether a device of this machine that is no tunnel's has an address."""
    seen = netlink.match(address, oif).route
    link = netlink.link_at(seen.oif) if seen is not None and seen.type == LOCAL else None
    return link is not None and link.kind not in TUNNELS


def end_inside(netlink: Netlink, claim: Claim, earlier: Sequence[SaInfo]) -> str:
    """Why an end of a claim's tunnel is inside of that tunnel itself, so that IKE and ESP would go into it; empty where none
    is. `earlier`: what was told of the tunnel until now; ends that it had are looked at no more."""
    sa = claim.sa
    names = [want.link.name for want in claim.devices if not netns_of(want.link.name)]  # elsewhere it takes no packet of IKE's
    if not names or any((one.me, one.peer) == (sa.me, sa.peer) for one in earlier):
        return ""
    own = {link.ifindex: link.name for link in map(netlink.link, names) if link is not None and link.kind in TUNNELS}
    mine = [as_address(want).address for want in claim.resources if isinstance(want, (Address, SourceAddress))]
    mine += [text for index in own for text in netlink.addresses(index)]
    if sa.me in map(host, mine) and not is_elsewhere(netlink, sa, own):
        return f"{sa.me} is an address of {names[0]} itself"
    seen = netlink.match(sa.peer).route
    if is_beside(sa.peer, mine, seen, own):
        return f"{sa.peer} is in a network of {names[0]} itself"
    if seen is not None and seen.oif in own and has_moved_in(netlink, sa, seen, earlier):
        return f"the way to {sa.peer} is {own[seen.oif]} itself"
    return ""


def is_elsewhere(netlink: Netlink, sa: SaInfo, own: dict[int, str]) -> bool:
    """Whether our end is an address of another device as well, as where a tunnel borrows that of an uplink."""
    seen = netlink.match(sa.me).route
    if seen is not None and seen.type == LOCAL and seen.oif not in own:
        return True
    uplink = netlink.link(sa.underlay) if sa.underlay else None
    return uplink is not None and uplink.ifindex not in own and sa.me in map(host, netlink.addresses(uplink.ifindex))


def is_beside(peer: str, mine: Sequence[str], seen: RouteSeen | None, own: dict[int, str]) -> bool:
    """Whether the peer is in a network of the device's addresses `mine`, and nobody but us leads there more exactly."""
    found = ipaddress.ip_address(peer)
    networks = [ipaddress.ip_interface(text.rpartition(" ")[2]).network for text in mine]
    lengths = [one.prefixlen for one in networks if found in one and not one.is_link_local]
    if not lengths or seen is None or seen.oif in own or seen.protocol == OUR_PROTOCOL:
        return bool(lengths)
    return length_of(seen) < max(lengths)


def has_moved_in(netlink: Netlink, sa: SaInfo, seen: RouteSeen, earlier: Sequence[SaInfo]) -> bool:
    """Whether both ends moved into the networks behind the tunnel that leads to the peer, ours into that of our selector. Its
    peer alone may move into the network of its own selector, outside; and where that is everything, and holds each peer, ours
    may move to another uplink there, unless that knows no way."""
    behind = [ipaddress.ip_network(prefix) for prefix in values.network(sa.my_client.partition(" ")[0]).prefixes]
    behind = [one for one in behind if one.prefixlen]
    if not earlier or not is_in(behind, sa.me) or any(is_in(behind, one.me) for one in earlier):
        return False
    network = ipaddress.ip_network(seen.destination)
    if length_of(seen) > 1:
        return not any(ipaddress.ip_address(one.peer) in network for one in earlier)
    uplink = netlink.link(sa.underlay) if sa.underlay else None
    return uplink is not None and netlink.match(sa.peer, uplink.ifindex).route is None


def length_of(route: RouteSeen) -> int:
    """The length of a route's prefix."""
    return int(route.destination.split("/")[1])
