"""Which claims have a tunnel behind them: the ledger against what the daemons say and the kernel's XFRM database has. Pure.

The rules, with their reasons, are docs/reconcile.md. In short: a daemon that answers has the last word; where none runs the
XFRM database has it; where one runs and is silent, only a claim of which the kernel has nothing at all ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from updown.commands.reconcile.renewed import device_in, follow
from updown.daemons.answer import ABSENT, ANSWERED, Child, Said
from updown.daemons.libreswan.variables import FIRST_AUTOMATIC_REQID
from updown.kernel.netlink.xfrm import Database
from updown.kernel.path_mtu import Outgoing
from updown.model.about import at
from updown.model.claims import MADE, REVIVE, SA, STRONGSWAN, TRAP, Claim
from updown.model.ipsec import Known, backed, known, policies_of, reqids_of, traces
from updown.model.record import NamedTuple

GRACE = 60
"""Seconds for which a claim is left alone though its daemon says nothing of it: the event that made it may be under way."""

DAEMONS = {"libreswan": "pluto", "strongswan": "charon"}


class Facts(NamedTuple):
    """What was found out before the ledger was locked; `xfrm` None: it could not be read. `sas`: the SAs by what receives them
    and SPI, where a claim's MTU is counted from its SA."""

    said: dict[str, Said]
    xfrm: Database | None
    sas: Mapping[tuple[str, int], Outgoing] = MappingProxyType({})


class End(NamedTuple):
    """A claim that nothing backs, and how that is known."""

    claim: Claim
    reason: str


class Decision(NamedTuple):
    """`moved`: claims with the ends that their tunnels have now. `waiting`: `sa` claims whose `down` got lost and that are
    `revive` by now. `uncounted`: tunnels that no claim counts. `recounted`: claims with another MTU. `young`:
    claims that nothing backs and that grace keeps. `behind`: by a claim's key the child that is certainly its own."""

    ended: tuple[End, ...] = ()
    moved: tuple[Claim, ...] = ()
    waiting: tuple[Claim, ...] = ()
    young: tuple[Claim, ...] = ()
    uncounted: tuple[Child, ...] = ()
    recounted: tuple[Claim, ...] = ()
    behind: Mapping[str, Child] = MappingProxyType({})


def decide(claims: Sequence[Claim], facts: Facts, now: int, before_start: bool = False) -> Decision:
    """What becomes of each claim. `now` in seconds since boot; `before_start`: no event of a daemon that is not running
    can be under way, so no grace."""
    xfrm = known(facts.xfrm) if facts.xfrm is not None else None
    found, sure = pairs(claims, facts, xfrm)
    here = {claim.device: found[claim.key].me for claim in claims if claim.key in sure}
    ended: list[End] = []
    moved: list[Claim] = []
    waiting: list[Claim] = []
    young: list[Claim] = []
    for claim in claims:
        child = found.get(claim.key)
        if claim.kind == MADE:
            continue  # the administrator's: it needs no tunnel
        if child is not None and claim.key in sure:
            there = follow(claim, child.me, child.peer)
        else:  # a device has one local end: who waits on it, and was not told of a move, follows those who were
            there = follow(claim, here.get(claim.device) or waits_at(claim, child, facts), claim.about.peer)
        reason = "" if child else why_it_ends(claim, facts.said.get(claim.about.daemon, Said(ABSENT)), xfrm)
        kept = bool(reason) and in_grace(claim, facts, now, before_start)
        young += [there] if kept else []
        if not reason or kept:
            moved += [there] if there != claim else []
        elif claim.kind == SA and is_permanent(claim) and claim.connection in held_by(claim, facts):
            waiting.append(there._replace(kind=REVIVE))
        else:
            ended.append(End(claim, reason))
    counted = {id(child) for child in found.values()}
    names = {claim.connection for claim in claims if claim.key in found}
    uncounted = [
        child
        for said in facts.said.values()
        for child in said.children
        if child.ours and id(child) not in counted and child.connection not in names
    ]
    behind = {key: child for key, child in found.items() if key in sure}
    return Decision(tuple(ended), tuple(moved), tuple(waiting), tuple(young), tuple(uncounted), behind=behind)


def held_by(claim: Claim, facts: Facts) -> tuple[str, ...]:
    """The connections that the claim's daemon keeps the way open for."""
    said = facts.said.get(claim.about.daemon, Said(ABSENT))
    return said.held if said.state == ANSWERED else ()


def waits_at(claim: Claim, child: Child | None, facts: Facts) -> str:
    """Our end of a connection that is not up, as its daemon has it by now: no hook is told when that moves. Empty where it does
    not say, and where it says that of all instances of a template."""
    said = facts.said.get(claim.about.daemon, Said(ABSENT))
    return said.ends.get(claim.connection, "") if child is None and is_permanent(claim) else ""


def is_permanent(claim: Claim) -> bool:
    """Whether the connection is one tunnel, and no template's instance."""
    return claim.tunnel == json.dumps([claim.connection])


def why_it_ends(claim: Claim, said: Said, xfrm: Known | None) -> str:
    """Why a claim for which no daemon reports a child ends; empty where it does not."""
    name = DAEMONS.get(claim.about.daemon, claim.about.daemon)
    if said.state == ANSWERED and said.whole:
        if claim.kind == SA:
            return f"{name} has no child SA of it"
        return "" if claim.connection in said.held else f"{name} does not keep the way open for it"
    if xfrm is None:
        return ""
    if said.state == ABSENT:
        if backed(claim, xfrm):
            return ""
        what = "policy and state" if claim.kind == SA else "policy"
        return f"{name} is not running, and the kernel has no IPsec {what} of it"
    if traces(claim, xfrm):
        return ""
    return f"{name} is silent, but the kernel has neither IPsec policy nor state of it"


def in_grace(claim: Claim, facts: Facts, now: int, before_start: bool) -> bool:
    """Whether the event that made the claim may still be under way. An earlier daemon's never is."""
    said = facts.said.get(claim.about.daemon, Said(ABSENT))
    if said.state == ABSENT and before_start:
        return False
    return 0 <= now - claim.since < GRACE and claim.since >= said.since


# Which child is behind which claim


def pairs(claims: Sequence[Claim], facts: Facts, xfrm: Known | None) -> tuple[dict[str, Child], set[str]]:
    """The child behind each claim that has one, by the claim's key; and the keys of those where that is certain."""
    found: dict[str, Child] = {}
    sure: set[str] = set()
    reqids = {(state.destination, state.spi): state.reqid for state in facts.xfrm.states} if facts.xfrm else {}
    libreswan: dict[str, list[Child]] = {}
    for child in facts.said.get("libreswan", Said(ABSENT)).children:
        libreswan.setdefault(child.connection, []).append(child)
    owners = {
        (claim.connection, claim.about.spi_in, pair_in(claim)): claim.key for claim in claims if claim.about.spi_in
    }
    for claim in claims:
        if claim.about.daemon == "libreswan":
            mine = [
                (likeness(claim, child, reqids, xfrm), child)
                for child in libreswan.get(claim.connection, [])
                if owners.get((child.connection, child.spi_in, pair_in(claim)), claim.key) == claim.key
            ]
            alike = max((rank for rank, _ in mine), default=0)
            if alike:
                found[claim.key] = next(child for rank, child in mine if rank == alike)
                sure |= {claim.key} if alike > 1 else set()
    charons = charon_pairs(claims, facts.said.get("strongswan", Said(ABSENT)).children)
    return {**found, **charons}, sure | set(charons)


def pair_in(claim: Claim) -> tuple[str, str, str]:
    """Which of a child's pairs of selectors a claim is for, or its trap: of each there is one."""
    return claim.about.my_client, claim.about.peer_client, TRAP if claim.kind == TRAP else SA


def likeness(claim: Claim, child: Child, reqids: dict[tuple[str, int], int], xfrm: Known | None) -> int:
    """How surely one of the children with the claim's name is the claim's: 4 by its SPI; of a template's instances, which share
    the name, 3 where the kernel has a policy of the claim that leads to the child's state; 2 by the peer, or since a permanent
    connection has but one; 1 for want of a reqid that could tell; 0 is another's. A configured reqid leads to all of them."""
    if child.spi_in and child.spi_in == claim.about.spi_in:
        return 4
    if is_permanent(claim):
        return 2
    automatic = claim.about.reqid >= FIRST_AUTOMATIC_REQID
    reqid = reqids.get((child.me, child.spi_in))
    if reqid is not None and xfrm is not None and reqid in xfrm.led_to:
        there = policies_of(claim._replace(about=at(claim.about, child.me, child.peer)), xfrm)
        leading = [policy for policy in there if reqid in policy.reqids]
        return 3 if any(automatic or (child.me, child.peer) in policy.ends for policy in leading) else 0
    if reqid is not None and automatic:
        return 3 if reqid in reqids_of(claim) else 0
    return 2 if child.peer == claim.about.peer or not (automatic or claim.row.any_remote) else int(automatic)


def charon_pairs(claims: Sequence[Claim], children: Sequence[Child]) -> dict[str, Child]:
    """By child name, marks and if_ids; in these as `matched` says."""
    found: dict[str, Child] = {}
    groups: dict[tuple[object, ...], list[Claim]] = {}
    for claim in claims:
        if claim.about.daemon == "strongswan" and claim.kind == SA:
            groups.setdefault((claim.connection, *keys_of(claim)), []).append(claim)
    named: dict[object, list[Child]] = {}
    for child in children:
        named.setdefault(child.connection, []).append(child)
    for group, members in groups.items():
        theirs: dict[int, Child] = {}
        for child in named.get(group[0], ()):
            if (
                child_group(child, len(group)) == group
            ):  # an IKE SA may have several of one name, each with its selectors
                other = theirs.get(child.unique_id)
                theirs[child.unique_id] = child._replace(theirs=(*other.theirs, *child.theirs)) if other else child
        found.update(matched(sorted(members, key=lambda claim: claim.order), theirs))
    return found


def matched(claims: Sequence[Claim], children: dict[int, Child]) -> dict[str, Child]:
    """Each pair of selectors of a peer for itself, with the children that have it; then what is left, with children of the same
    peer of which a selector is left: selectors move with an end, and ranges are not told alike. A selector may be another
    peer's by now, as a pool's address is: a child with the identities of claims is theirs, one with others may be anyone's."""
    found: dict[str, Child] = {}
    pairs_of: dict[tuple[str, str], list[Claim]] = {}
    for claim in claims:
        pairs_of.setdefault((claim.about.my_client, claim.about.peer_client), []).append(claim)
    left = {number: set(child.theirs) for number, child in children.items()}
    groups = {claim.group for claim in claims}
    for (_, selector), mine in pairs_of.items():
        network = selector.split(" ")[0]
        having = {n: child for n, child in children.items() if network in child.theirs}
        for group, members in by_group(mine).items():
            found.update(by_number(members, {n: child for n, child in having.items() if hosts_of(child) == group}))
        strangers = {n: child for n, child in having.items() if hosts_of(child) not in groups}
        found.update(by_number([claim for claim in mine if claim.key not in found], strangers))
        for number in having:
            left[number].discard(network)
    for (_, selector), mine in pairs_of.items():
        network = selector.split(" ")[0]
        # a child that has this network had its turn above
        theirs = {
            n: child for n, child in children.items() if network not in child.theirs and (left[n] or not child.theirs)
        }
        for group, members in by_group(claim for claim in mine if claim.key not in found).items():
            found.update(by_number(members, {n: child for n, child in theirs.items() if same_peer(group, child)}))
    return found


def by_group(claims: Iterable[Claim]) -> dict[str, list[Claim]]:
    """Claims by their two hosts."""
    found: dict[str, list[Claim]] = {}
    for claim in claims:
        found.setdefault(claim.group, []).append(claim)
    return found


def same_peer(group: str, child: Child) -> bool:
    """Whether the identities of strongSwan's claims are those of a child, where it tells them."""
    return not all(child.ids) or group == hosts_of(child)


def hosts_of(child: Child) -> str:
    """The group of a child's claims."""
    return json.dumps([STRONGSWAN, *child.ids])


def by_number(claims: Sequence[Claim], children: dict[int, Child]) -> dict[str, Child]:
    """By the IKE SA's unique id. Since that changes when the IKE SA is rekeyed, ids that stand on one side only belong together
    newest to newest; the oldest claims beyond their number have no child. Claims in order of arrival."""
    mine: dict[int, list[Claim]] = {}
    for claim in claims:
        mine.setdefault(unique_id(claim), []).append(claim)
    found = {number: children[number] for number in mine if number in children}
    left = [children[number] for number in sorted(children.keys() - mine.keys())]
    for number in reversed([number for number in mine if number not in found]):
        if left:
            found[number] = left.pop()
    return {claim.key: child for number, child in found.items() for claim in mine[number]}


def unique_id(claim: Claim) -> int:
    """The IKE SA's id when the claim was made; 0 where claims do not tell."""
    return int(getattr(claim.about, "unique_id", 0) or 0)


def keys_of(claim: Claim) -> tuple[object, ...]:
    """What ties a claim's device to its child: both marks, or the if_id; nothing where the device is for all if_ids."""
    device = device_in(claim)
    if device is None or device.link.external:
        return ()
    return (device.link.if_id,) if device.link.kind == "xfrm" else (device.link.ikey, device.link.okey)


def child_group(child: Child, length: int) -> tuple[object, ...]:
    """A child's name and keys, in the form of a group of claims with `length` parts."""
    keys: dict[int, tuple[object, ...]] = {
        1: (),
        2: (child.if_id_out or child.if_id_in,),
        3: (child.mark_in, child.mark_out),
    }
    return (child.connection, *keys[length])
