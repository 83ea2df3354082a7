"""Which claim of libreswan's a child SA is behind: one that a call is about, or one that pluto's status tells of. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from updown.daemons.answer import ChildSa, grouped
from updown.daemons.libreswan.claims import rank
from updown.model.claims import LIBRESWAN, SA, TRAP, Claim, is_permanent, with_ends
from updown.model.ipsec import FIRST_AUTOMATIC_REQID, IpsecIndex, policies_of, reqids_of


def rank_in_kernel(claim: Claim, child: ChildSa, xfrm: IpsecIndex) -> int:
    """The same with what the kernel has: of an instance 3 where a policy of the claim leads to the child's state, 0 where none
    does; 1 for want of a reqid that could tell. A configured reqid leads to all of them."""
    known = rank(claim, child.spi_in, child.peer)
    if known == 4 or is_permanent(claim):
        return known
    automatic = claim.sa.reqid >= FIRST_AUTOMATIC_REQID
    reqid = xfrm.reqid_of.get((child.me, child.spi_in))
    if reqid is not None and reqid in xfrm.led_to:
        there = policies_of(claim._replace(sa=with_ends(claim.sa, child.me, child.peer)), xfrm)
        leading = [policy for policy in there if reqid in policy.reqids]
        return 3 if any(automatic or (child.me, child.peer) in policy.ends for policy in leading) else 0
    if reqid is not None and automatic:
        return 3 if reqid in reqids_of(claim) else 0
    return known or (2 if not (automatic or claim.deletion.any_remote) else int(automatic))


def match(claims: Sequence[Claim], children: Sequence[ChildSa], xfrm: IpsecIndex) -> tuple[dict[str, ChildSa], set[str]]:
    """The child behind each claim that has one, by the claim's key; and the keys of those where that is certain."""
    found: dict[str, ChildSa] = {}
    named = grouped(children, lambda child: child.connection)
    owners = {(claim.connection, claim.sa.spi_in, pair_in(claim)): claim.key for claim in claims if claim.sa.spi_in}
    sure: set[str] = set()
    for claim in (one for one in claims if one.sa.daemon == LIBRESWAN):
        mine = [
            (rank_in_kernel(claim, child, xfrm), child)
            for child in named.get(claim.connection, [])
            if owners.get((child.connection, child.spi_in, pair_in(claim)), claim.key) == claim.key
        ]
        best, child = max(mine, key=lambda one: one[0], default=(0, None))
        if child is not None and best:
            found[claim.key] = child
            sure |= {claim.key} if best > 1 else set()
    return found, sure


def pair_in(claim: Claim) -> tuple[str, str, str]:
    """Which of a child's pairs of selectors a claim is for, or its trap: of each there is one."""
    return claim.sa.my_client, claim.sa.peer_client, TRAP if claim.kind == TRAP else SA
