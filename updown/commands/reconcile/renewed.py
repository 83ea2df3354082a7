"""A claim where its tunnel's ends are now: they move by MOBIKE and NAT, and not always is a hook called. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from updown.concerns.mtu import AH, ESP, NO_TUNNEL, MtuSum, compute, with_mtu
from updown.daemons.answer import ChildSa
from updown.kernel.netlink.rtnetlink import Netlink
from updown.kernel.path_mtu import UnderlayQuery, mtu_facts
from updown.model.claims import SA, STRONGSWAN, Claim, with_ends
from updown.model.errors import KernelError
from updown.model.ipsec import State
from updown.model.objects import Link, Route, family, is_any, netns_of
from updown.model.resources import Device, Mtu, PeerRoute, Resource


def with_current_ends(claim: Claim, me: str, peer: str) -> Claim:
    """The claim with the ends its tunnel has now. They move with MOBIKE and NAT, and the hook is not always called."""
    device = device_in(claim)
    if not (me and peer) or device is None or (me, peer) == (claim.about.me, claim.about.peer):
        return claim
    if device.link.kind == "xfrm" and claim.about.daemon != STRONGSWAN:
        return claim  # pluto calls for its own
    rest = [moved_resource(want, me, peer) for want in claim.resources if not isinstance(want, PeerRoute)]
    first = next((place for place, want in enumerate(rest) if isinstance(want, Route)), len(rest))
    wants = (*rest[:first], *peer_paths(claim, device.link, me, peer), *rest[first:])
    return claim._replace(resources=wants, about=with_ends(claim.about, me, peer))


def peer_paths(claim: Claim, link: Link, me: str, peer: str) -> tuple[PeerRoute, ...]:
    """The ways to peers that the claim needs now: to the one that moved where a route of the claim holds its address, as
    concerns/routes.py has it."""
    before = [want for want in claim.resources if isinstance(want, PeerRoute)]
    kept = [want for want in before if want.peer != claim.about.peer]
    into = [want for want in claim.resources if isinstance(want, Route) and holds(want, peer)]
    underlay = before[0].underlay if before else ""
    same_tables = not (netns_of(link.name) or link.vrf)
    return (*kept, PeerRoute(peer, link.name, underlay, me)) if into and same_tables else tuple(kept)


def holds(route: Route, peer: str) -> bool:
    """Whether a route's network has this address in it."""
    network, address = ipaddress.ip_network(route.destination), ipaddress.ip_address(peer)
    return network.version == address.version and address in network


def moved_resource(want: Resource, me: str, peer: str) -> Resource:
    """One want, with the ends of a VTI where they are now."""
    if isinstance(want, Device) and want.link.kind != "xfrm":
        six = family(me) == 6
        anywhere = "::" if six else "0.0.0.0"
        remote = anywhere if is_any(want.link.remote) else peer
        return want._replace(link=want.link._replace(kind="vti6" if six else "vti", local=me, remote=remote))
    return want


def device_in(claim: Claim) -> Device | None:
    """The device that a claim asks for."""
    return next((want for want in claim.resources if isinstance(want, Device)), None)


def counts_itself(claim: Claim) -> bool:
    """Whether the claim's MTU was worked out from its SA: only then it has a sum."""
    return claim.kind == SA and any(isinstance(want, Mtu) and want.reason for want in claim.resources)


def outdated_mtus(
    claims: Iterable[Claim], behind: Mapping[str, ChildSa], states: Iterable[State], netlink: Netlink
) -> tuple[Claim, ...]:
    """The claims whose child has room for packets of another size now, with that size. A claim whose SA is not found, or cannot
    be counted, stays as it is: the next event tells of it."""
    found: list[Claim] = []
    sas = {(state.destination, state.spi): state for state in states if state.sa.protocol in (ESP, AH)}
    for claim in filter(counts_itself, claims):
        child = behind.get(claim.key)
        outgoing = sas.get((child.peer, child.spi_out)) if child else None
        total = current_mtu(claim, child, outgoing, netlink) if child and outgoing else None
        wants = (
            with_mtu(claim.resources, family(claim.about.peer_client.split(" ")[0]), total)
            if total
            else claim.resources
        )
        if wants != claim.resources:
            found.append(claim._replace(resources=wants))
    return tuple(found)


def current_mtu(claim: Claim, child: ChildSa, outgoing: State, netlink: Netlink) -> MtuSum | None:
    """The sum for a claim's SA as it is now; None where it cannot be counted."""
    device = device_in(claim)
    if device is None:
        return None
    vti = device.link.kind != "xfrm"
    counted = next((want.reason for want in claim.resources if isinstance(want, Mtu)), "")
    tunnel = vti or NO_TUNNEL not in counted  # an XFRM interface's ESP in transport mode may stand below IPComp
    underlay = next((want.underlay for want in claim.resources if isinstance(want, PeerRoute)), "")
    way = UnderlayQuery(child.peer, underlay, device.link.name, device.link.okey if vti else 0)
    try:
        total, _ = compute(mtu_facts(outgoing, way, tunnel, netlink))
    except KernelError:
        return None
    return total
