"""What `mtu = auto` comes to now, for claims that are there already: a rekeying may bring other algorithms, and a move another
way or a NAT, while no daemon calls the hook. For `reconcile`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from updown.commands.reconcile.renewed import device_in
from updown.concerns.mtu import NO_TUNNEL, Sum, measured, recounted
from updown.daemons.answer import Child
from updown.kernel.netlink.rtnetlink import Netlink
from updown.kernel.path_mtu import Outgoing, Way, facts_of
from updown.model.claims import SA, Claim
from updown.model.errors import KernelError
from updown.model.objects import family
from updown.model.resources import Mtu, PeerRoute

Sas = Mapping[tuple[str, int], Outgoing]
"""Outgoing SAs by the address that receives them and their SPI."""


def counts_itself(claim: Claim) -> bool:
    """Whether the claim's MTU was worked out from its SA: only then it has a sum."""
    return claim.kind == SA and any(isinstance(want, Mtu) and want.reason for want in claim.wants)


def outdated(claims: Iterable[Claim], behind: Mapping[str, Child], sas: Sas, netlink: Netlink) -> tuple[Claim, ...]:
    """The claims whose child has room for packets of another size now, with that size. A claim whose SA is not found, or cannot
    be counted, stays as it is: the next event tells of it."""
    found: list[Claim] = []
    for claim in filter(counts_itself, claims):
        child = behind.get(claim.key)
        outgoing = sas.get((child.peer, child.spi_out)) if child else None
        total = room(claim, child, outgoing, netlink) if child and outgoing else None
        wants = recounted(claim.wants, family(claim.about.peer_client.split(" ")[0]), total) if total else claim.wants
        if wants != claim.wants:
            found.append(claim._replace(wants=wants))
    return tuple(found)


def room(claim: Claim, child: Child, outgoing: Outgoing, netlink: Netlink) -> Sum | None:
    """The sum for a claim's SA as it is now; None where it cannot be counted."""
    device = device_in(claim)
    if device is None:
        return None
    vti = device.link.kind != "xfrm"
    counted = next((want.reason for want in claim.wants if isinstance(want, Mtu)), "")
    tunnel = vti or NO_TUNNEL not in counted  # an XFRM interface's ESP in transport mode may stand below IPComp
    underlay = next((want.underlay for want in claim.wants if isinstance(want, PeerRoute)), "")
    way = Way(child.peer, underlay, device.link.name, device.link.okey if vti else 0)
    try:
        total, _ = measured(facts_of(outgoing, way, tunnel, netlink))
    except KernelError:
        return None
    return total
