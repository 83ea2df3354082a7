"""Which child SA that a daemon reports is behind which claim. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from updown.daemons.answer import ABSENT, ChildSa, DaemonAnswer
from updown.model.claims import SA, STRONGSWAN, TRAP, Claim, with_ends
from updown.model.ipsec import FIRST_AUTOMATIC_REQID, Database, IpsecIndex, policies_of, reqids_of
from updown.model.record import NamedTuple, dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    _One = TypeVar("_One")
    _Key = TypeVar("_Key")


class Evidence(NamedTuple):
    """What was found out before the ledger was locked; `xfrm` None: it could not be read."""

    said: dict[str, DaemonAnswer]
    xfrm: Database | None

    def answer(self, daemon: str) -> DaemonAnswer:
        """What a daemon says; one that was not asked is taken to be absent."""
        return self.said.get(daemon, DaemonAnswer(ABSENT))


def is_permanent(claim: Claim) -> bool:
    """Whether the connection is one tunnel, and no template's instance."""
    return claim.tunnel == dumps([claim.connection])


def match_children(claims: Sequence[Claim], facts: Evidence, xfrm: IpsecIndex | None) -> tuple[dict[str, ChildSa], set[str]]:
    """The child behind each claim that has one, by the claim's key; and the keys of those where that is certain."""
    found: dict[str, ChildSa] = {}
    sure: set[str] = set()
    reqids = {(state.destination, state.spi): state.reqid for state in facts.xfrm.states} if facts.xfrm else {}
    libreswan = grouped(facts.answer("libreswan").children, lambda child: child.connection)
    with_spi = [claim for claim in claims if claim.sa.spi_in]
    owners = {(claim.connection, claim.sa.spi_in, pair_in(claim)): claim.key for claim in with_spi}
    for claim in claims:
        if claim.sa.daemon == "libreswan":
            mine = [
                (match_rank(claim, child, reqids, xfrm), child)
                for child in libreswan.get(claim.connection, [])
                if owners.get((child.connection, child.spi_in, pair_in(claim)), claim.key) == claim.key
            ]
            rank, child = max(mine, key=lambda one: one[0], default=(0, None))
            if child is not None and rank:
                found[claim.key] = child
                sure |= {claim.key} if rank > 1 else set()
    charons = match_charon(claims, facts.answer("strongswan").children)
    return {**found, **charons}, sure | set(charons)


def pair_in(claim: Claim) -> tuple[str, str, str]:
    """Which of a child's pairs of selectors a claim is for, or its trap: of each there is one."""
    return claim.sa.my_client, claim.sa.peer_client, TRAP if claim.kind == TRAP else SA


def match_rank(claim: Claim, child: ChildSa, reqids: dict[tuple[str, int], int], xfrm: IpsecIndex | None) -> int:
    """How surely one of the children with the claim's name is the claim's: 4 by its SPI; of a template's instances, which share
    the name, 3 where the kernel has a policy of the claim that leads to the child's state; 2 by the peer, or since a permanent
    connection has but one; 1 for want of a reqid that could tell; 0 is another's. A configured reqid leads to all of them."""
    if child.spi_in and child.spi_in == claim.sa.spi_in:
        return 4
    if is_permanent(claim):
        return 2
    automatic = claim.sa.reqid >= FIRST_AUTOMATIC_REQID
    reqid = reqids.get((child.me, child.spi_in))
    if reqid is not None and xfrm is not None and reqid in xfrm.led_to:
        there = policies_of(claim._replace(sa=with_ends(claim.sa, child.me, child.peer)), xfrm)
        leading = [policy for policy in there if reqid in policy.reqids]
        return 3 if any(automatic or (child.me, child.peer) in policy.ends for policy in leading) else 0
    if reqid is not None and automatic:
        return 3 if reqid in reqids_of(claim) else 0
    return 2 if child.peer == claim.sa.peer or not (automatic or claim.deletion.any_remote) else int(automatic)


def match_charon(claims: Sequence[Claim], children: Sequence[ChildSa]) -> dict[str, ChildSa]:
    """By child name, marks and if_ids; in these as `match_selectors` says."""
    found: dict[str, ChildSa] = {}
    theirs = [claim for claim in claims if claim.sa.daemon == STRONGSWAN and claim.kind == SA]
    named = grouped(children, lambda child: child.connection)
    for group, members in grouped(theirs, lambda claim: (claim.connection, *keys_of(claim))).items():
        numbered: dict[int, ChildSa] = {}
        for child in named.get(str(group[0]), ()):
            if child_group(child, len(group)) == group:
                # an IKE SA may have several of one name, each with its selectors
                other = numbered.get(child.unique_id)
                more = other.remote_ts if other else ()
                numbered[child.unique_id] = child._replace(remote_ts=(*more, *child.remote_ts))
        found.update(match_selectors(sorted(members, key=lambda claim: claim.order), numbered))
    return found


def match_selectors(claims: Sequence[Claim], children: dict[int, ChildSa]) -> dict[str, ChildSa]:
    """Each pair of selectors of a peer for itself, with the children that have it; then what is left, with children of the same
    peer of which a selector is left: selectors move with an end, and ranges are not told alike. A selector may be another
    peer's by now, as a pool's address is: a child with the identities of claims is theirs, one with others may be anyone's."""
    found: dict[str, ChildSa] = {}
    pairs_of = grouped(claims, lambda claim: (claim.sa.my_client, claim.sa.peer_client))
    left = {number: set(child.remote_ts) for number, child in children.items()}
    groups = {claim.group for claim in claims}
    for (_, selector), mine in pairs_of.items():
        network = selector.split(" ")[0]
        having = {number: child for number, child in children.items() if network in child.remote_ts}
        for group, members in grouped(mine, lambda claim: claim.group).items():
            own = {number: child for number, child in having.items() if hosts_of(child) == group}
            found.update(match_unique_ids(members, own))
        strangers = {number: child for number, child in having.items() if hosts_of(child) not in groups}
        found.update(match_unique_ids([claim for claim in mine if claim.key not in found], strangers))
        for number in having:
            left[number].discard(network)
    for (_, selector), mine in pairs_of.items():
        network = selector.split(" ")[0]
        rest = {
            number: child
            for number, child in children.items()  # one that has this network had its turn above
            if network not in child.remote_ts and (left[number] or not child.remote_ts)
        }
        waiting = [claim for claim in mine if claim.key not in found]
        for group, members in grouped(waiting, lambda claim: claim.group).items():
            own = {number: child for number, child in rest.items() if not all(child.ids) or hosts_of(child) == group}
            found.update(match_unique_ids(members, own))
    return found


def grouped(each: Iterable[_One], key: Callable[[_One], _Key]) -> dict[_Key, list[_One]]:
    """What has one key, together and in order."""
    found: dict[_Key, list[_One]] = {}
    for one in each:
        found.setdefault(key(one), []).append(one)
    return found


def hosts_of(child: ChildSa) -> str:
    """The group of a child's claims."""
    return dumps([STRONGSWAN, *child.ids])


def match_unique_ids(claims: Sequence[Claim], children: dict[int, ChildSa]) -> dict[str, ChildSa]:
    """By the IKE SA's unique id. Since that changes when the IKE SA is rekeyed, ids that stand on one side only belong together
    newest to newest; the oldest claims beyond their number have no child. Claims in order of arrival."""
    mine = grouped(claims, lambda claim: claim.sa.unique_id)
    found = {number: children[number] for number in mine if number in children}
    left = [children[number] for number in sorted(children.keys() - mine.keys())]
    for number in reversed([number for number in mine if number not in found]):
        if left:
            found[number] = left.pop()
    return {claim.key: child for number, child in found.items() for claim in mine[number]}


def keys_of(claim: Claim) -> tuple[object, ...]:
    """What ties a claim's device to its child: both marks, or the if_id; nothing where the device is for all if_ids."""
    device = next(iter(claim.devices), None)
    if device is None or device.link.external:
        return ()
    return (device.link.if_id,) if device.link.kind == "xfrm" else (device.link.ikey, device.link.okey)


def child_group(child: ChildSa, length: int) -> tuple[object, ...]:
    """A child's name and keys, in the form of a group of claims with `length` parts."""
    marks = (child.mark_in, child.mark_out)
    keys: dict[int, tuple[object, ...]] = {1: (), 2: (child.if_id_out or child.if_id_in,), 3: marks}
    return (child.connection, *keys[length])
