"""A claim as its tunnel and the settings are now: ends move by MOBIKE and NAT, an SA is rekeyed, a line is edited, and no hook
is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from updown.commands.reconcile.edits import Edit, edits
from updown.concerns import addresses
from updown.concerns.catalogue import VrfTable, derive_again
from updown.concerns.device_request import request_device
from updown.daemons.answer import ChildSa
from updown.daemons.terms import words_of
from updown.kernel.netlink import local
from updown.kernel.netlink.rtnetlink import Netlink
from updown.kernel.path_mtu import UnderlayQuery, count
from updown.model.claims import MADE, SA, STRONGSWAN, Claim, with_ends
from updown.model.errors import KernelError, Notice, Refused
from updown.model.ipsec import State
from updown.model.objects import bare
from updown.model.record import NamedTuple
from updown.model.values import AUTO
from updown.settings.file import Line, resolve


class Basis(NamedTuple):
    """What claims are derived from anew: the kernel's state SAs by the address that receives them and their SPI, the settings
    by the file that a claim's calls name, the tables of VRF devices, addresses to send from, and the kernel, for the ways to
    peers."""

    sas: Mapping[tuple[str, int], State]
    lines_of: Callable[[str], tuple[Line, ...]]
    vrf_table: VrfTable
    own_source: Callable[[addresses.SourceQuery, str | None], str]
    netlink: Netlink


class Renewed(NamedTuple):
    """A claim as it should be. `edits`: what differs by the settings alone; `recounted`: its SA has room for another size;
    or this machine another address for it; `warning`: why it keeps what it has."""

    claim: Claim
    edits: tuple[Edit, ...] = ()
    recounted: bool = False
    warning: Notice | None = None


def with_current_ends(claim: Claim, me: str, peer: str) -> Claim:
    """The claim with the ends its tunnel has now; what it asks for is to be derived anew."""
    device = next(iter(claim.devices), None)
    if not (me and peer) or device is None or (me, peer) == (claim.sa.me, claim.sa.peer):
        return claim
    if device.link.kind == "xfrm" and claim.sa.daemon != STRONGSWAN:
        return claim  # pluto calls for its own
    return claim._replace(sa=with_ends(claim.sa, me, peer))


def renew(before: Claim, now: Claim, child: ChildSa | None, basis: Basis) -> Renewed:
    """A claim as it was `before`, whose ends and kind are as in `now`, with its SA's sum and the settings of this moment."""
    if before.kind == MADE:
        return Renewed(now)
    try:
        lines = basis.lines_of(before.sa.config)
        by_settings = derive_again(before, lines, basis.vrf_table)
        counts = resolve(lines, now.connection, bare(now.device)).mtu == AUTO
        counted = with_own_source(recount(now, by_settings.device, child, basis) if counts else now, lines, basis)
        if counted.sa.mtu_sum and not before.sa.mtu_sum:  # an edit to `mtu = auto` is one to its sum
            by_settings = derive_again(before._replace(sa=counted.sa), lines, basis.vrf_table)
        claim = by_settings if counted == before else derive_again(counted, lines, basis.vrf_table)
        moved = before.sa[1:3] != claim.sa[1:3]
        inside = local.end_inside(basis.netlink, claim, [before.sa]) if moved else ""
    except (Refused, KernelError) as error:
        hint = f"; {error.hint}" if error.hint else ""
        text = f"{before.connection}: the settings do not fit, and it keeps what it has: {error.text}{hint}"
        notice = Notice("settings do not fit", text, before.connection, error.hint)
        return Renewed(before._replace(kind=now.kind), warning=notice)
    if inside:
        told = f"its ends are now {claim.sa.me} - {claim.sa.peer}, and nothing follows: {inside}"
        text = f"{before.connection}: {told}; {words_of(claim.sa.daemon).outside.format(claim.device)}"
        return Renewed(before._replace(kind=now.kind), warning=Notice("end inside", text, before.connection))
    differs = counted.sa[-2:] != before.sa[-2:]
    return Renewed(claim, tuple(edits(before, by_settings, lines)), differs)


def with_own_source(claim: Claim, lines: tuple[Line, ...], basis: Basis) -> Claim:
    """The claim with the address of this machine that its routes prefer now."""
    found = request_device(claim.sa, partial(resolve, lines, claim.connection))
    query = addresses.source_query(claim.sa, found) if claim.routed and found.name is not None else None
    own = basis.own_source(query, claim.sa.local_source or None) if query else ""
    return claim._replace(sa=claim.sa._replace(local_source=own))


def recount(claim: Claim, name: str, child: ChildSa | None, basis: Basis) -> Claim:
    """The claim with the sum of its SA as it is now. One whose SA is not found, or cannot be counted, stays as it is: the
    next event tells of it."""
    outgoing = basis.sas.get((child.peer, child.spi_out)) if child else None
    device = next(iter(claim.devices), None)
    if child is None or outgoing is None or device is None or claim.kind != SA:
        return claim
    vti = device.link.kind != "xfrm"
    way = UnderlayQuery(child.peer, claim.sa.underlay or "", name, device.link.okey if vti else 0)
    try:
        total, _ = count(outgoing, way, vti or claim.sa.tunnel_mode, basis.netlink)
    except KernelError:
        return claim
    return claim._replace(sa=claim.sa._replace(mtu_sum=total)) if total else claim
