"""The one SA that a tunnel's packets leave by, and the way its ESP takes: what `mtu = auto` is worked out from.

An event never reads all SAs. libreswan tells the SPI; for strongSwan the kernel gives those between our two ends alone."""

from __future__ import annotations

from collections.abc import Iterable

from updown.concerns.device_request import DeviceRequest
from updown.concerns.mtu import AH, ESP, TRANSPORT, tunnel_mtu
from updown.kernel import sysctl
from updown.kernel.netlink.rtnetlink import Netlink
from updown.kernel.netlink.xfrm import Xfrm
from updown.model.context import Context
from updown.model.errors import KernelError
from updown.model.ipsec import State
from updown.model.objects import family, placed
from updown.model.record import NamedTuple
from updown.model.resources import MtuSum
from updown.model.values import AUTO


class UnderlayQuery(NamedTuple):
    """Where a tunnel's ESP goes: to `peer`, outside the device `tunnel`, by `device` where the routes know no other; `mark`: of
    packets before the SA sets its own."""

    peer: str
    device: str
    tunnel: str
    mark: int = 0


def mtu_sum(netlink: Netlink, context: Context, found: DeviceRequest) -> tuple[MtuSum | None, str]:
    """What is left for a packet on the device `found`, or what cannot be counted; neither where `mtu = auto` is not asked for,
    or there is no child SA. Raises KernelError."""
    if found.settings.mtu != AUTO or not context.child:
        return None, ""
    try:
        outgoing = outgoing_sa(context)
    except KernelError as error:
        return None, f"its SA: {error.text}{'; ' + error.hint if error.hint else ''}"
    if outgoing is None:
        return None, "its SA: the kernel shows none"
    vti = found.kind == "vti" and not found.by_daemon
    mark = context.mark_out.value if context.mark_out and vti else 0
    tunnel = placed(found.name or "", "" if found.by_daemon else found.settings.netns)
    way = UnderlayQuery(context.peer, context.underlay or "", tunnel, mark)
    return count(outgoing, way, vti or context.compressed or context.connection_type == "tunnel", netlink)


def count(outgoing: State, way: UnderlayQuery, tunnel: bool, netlink: Netlink) -> tuple[MtuSum | None, str]:
    """The sum, or what of it is not known. `tunnel`: an SA in transport mode stands below IPComp in tunnel mode."""
    sa = outgoing.sa._replace(compressed=True) if tunnel and outgoing.sa.mode == TRANSPORT else outgoing.sa
    value, mask = outgoing.output_mark
    mtu, name = underlay(way._replace(mark=(way.mark & ~mask) | value), netlink)
    if not mtu:
        return None, f"the way to the peer {way.peer}: there is none outside of it"
    try:
        return tunnel_mtu(sa, mtu, name), ""
    except ValueError as error:
        return None, str(error)


def underlay(way: UnderlayQuery, netlink: Netlink) -> tuple[int, str]:
    """The MTU of the way to the peer, and its device: the route's metric, else the device's MTU; 0 without a way."""
    seen = netlink.match(way.peer, mark=way.mark).route
    link = netlink.link_at(seen.oif) if seen and seen.oif else None
    if seen and not seen.oif:  # several ways at once
        path = netlink.path(way.peer)
        link = netlink.link(path.device) if path else None
    if link is None or link.name == way.tunnel:
        link = netlink.link(way.device) if way.device else None
        seen = netlink.match(way.peer, link.ifindex).route if link else None
    if link is None or seen is None:
        return 0, ""
    if seen.mtu:
        return seen.mtu, f"{link.name} (route)"
    least = sysctl.read(f"net/ipv6/conf/{link.name}/mtu") if family(way.peer) == 6 else None
    return min(link.mtu, int(least) if least and least.isdigit() else link.mtu, 0xFFFF), link.name


def outgoing_sa(context: Context) -> State | None:
    """The newest SA from us to the peer that is this tunnel's. Raises KernelError."""
    with Xfrm() as xfrm:
        if context.spi_out:
            mark = context.mark_out.value if context.mark_out else 0
            found = xfrm.with_spi(context.peer, context.spi_out, AH if context.sa_type == "AH" else ESP, mark)
        else:
            found = xfrm.between(context.me, context.peer)
    return newest(of_tunnel(context, found))


def of_tunnel(context: Context, found: Iterable[State]) -> list[State]:
    """Those of this tunnel, by what the daemon told: reqid, mark and if_id, where the SA has them."""
    mark = context.mark_out.value if context.mark_out else 0
    return [
        one
        for one in found
        if one.spi
        and one.sa.protocol in (ESP, AH)
        and (not one.key.mask or mark & one.key.mask == one.key.mark)
        and (context.spi_out or (context.reqid in (0, one.reqid) and one.key.if_id == context.if_id_out))
    ]


def newest(found: list[State]) -> State | None:
    """The SA added last; of one second the first, since the kernel lists new ones first (xfrm_state_insert)."""
    return max(found, key=lambda one: one.sa.added, default=None)
