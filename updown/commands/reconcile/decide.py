"""Which claims have a tunnel behind them: the ledger against what the daemons say and the kernel's XFRM database has. Pure.

The rules, with their reasons, are docs/reconcile.md. In short: a daemon that answers has the last word; where none runs the
XFRM database has it; where one runs and is silent, only a claim of which the kernel has nothing at all ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from updown.commands.reconcile.edits import Edit
from updown.commands.reconcile.renewed import with_current_ends
from updown.daemons.answer import ABSENT, ANSWERED, ChildSa, DaemonAnswer
from updown.daemons.libreswan import match as pluto
from updown.daemons.strongswan import match as charon
from updown.model.claims import LIBRESWAN, MADE, REVIVE, SA, STRONGSWAN, Claim, is_permanent
from updown.model.errors import Notice
from updown.model.ipsec import Database, IpsecIndex, has_any_trace, has_policy_and_state, index
from updown.model.record import NamedTuple

GRACE = 60
"""Seconds for which a claim is left alone though its daemon says nothing of it: the event that made it may be under way."""

DAEMONS = {LIBRESWAN: "pluto", STRONGSWAN: "charon"}


class Evidence(NamedTuple):
    """What was found out before the ledger was locked; `xfrm` None: it could not be read."""

    said: dict[str, DaemonAnswer]
    xfrm: Database | None

    def answer(self, daemon: str) -> DaemonAnswer:
        """What a daemon says; one that was not asked is taken to be absent."""
        return self.said.get(daemon, DaemonAnswer(ABSENT))


class End(NamedTuple):
    """A claim that nothing backs, and how that is known."""

    claim: Claim
    reason: str


class Audit(NamedTuple):
    """`moved`: claims with the ends that their tunnels have now. `to_revive`: `sa` claims whose `down` got lost and that are
    `revive` by now. `unclaimed`: tunnels that no claim counts, though one is to be expected; `uncounted`: all that none counts.
    `recounted`: claims with another MTU. `in_grace`: claims that nothing backs and that grace keeps. `edited`: claims with what
    other settings change of them. `child_of`: by a claim's key the child that is certainly its own. `warnings`: why claims that
    the settings do not fit keep what they have."""

    ended: tuple[End, ...] = ()
    moved: tuple[Claim, ...] = ()
    to_revive: tuple[Claim, ...] = ()
    in_grace: tuple[Claim, ...] = ()
    unclaimed: tuple[ChildSa, ...] = ()
    uncounted: tuple[ChildSa, ...] = ()
    recounted: tuple[Claim, ...] = ()
    edited: tuple[tuple[Claim, tuple[Edit, ...]], ...] = ()
    child_of: Mapping[str, ChildSa] = MappingProxyType({})
    warnings: tuple[Notice, ...] = ()


def decide(claims: Sequence[Claim], facts: Evidence, now: int, before_start: bool = False) -> Audit:
    """What becomes of each claim. `now` in seconds since boot; `before_start`: no event of a daemon that is not running
    can be under way, so no grace."""
    xfrm = index(facts.xfrm) if facts.xfrm is not None else None
    plutos, sure = pluto.match(claims, facts.answer(LIBRESWAN).children, xfrm or index(Database()))
    charons = charon.match(claims, facts.answer(STRONGSWAN).children)
    found = {**plutos, **charons}
    sure.update(charons)
    here = {claim.device: found[claim.key].me for claim in claims if claim.key in sure}
    ended: list[End] = []
    moved: list[Claim] = []
    waiting: list[Claim] = []
    young: list[Claim] = []
    for claim in claims:
        if claim.kind == MADE:
            continue  # the administrator's: it needs no tunnel
        child, said = found.get(claim.key), facts.answer(claim.sa.daemon)
        if child is not None and claim.key in sure:
            there = with_current_ends(claim, child.me, child.peer)
        else:  # a device has one local end: who waits on it, and was not told of a move, follows those who were
            # no hook is told when the end of a tunnel that is not up moves; a template's is that of all instances
            waits = child is None and is_permanent(claim)
            mine = here.get(claim.device) or (said.ends.get(claim.connection, "") if waits else "")
            there = with_current_ends(claim, mine, claim.sa.peer)
        reason = "" if child else why_it_ends(claim, said, xfrm)
        kept = bool(reason) and in_grace(claim, said, now, before_start)
        young += [there] if kept else []
        if not reason or kept:
            moved += [there] if there != claim else []
        elif claim.kind == SA and is_permanent(claim) and said.state == ANSWERED and claim.connection in said.held:
            waiting.append(there._replace(kind=REVIVE))
        else:
            ended.append(End(claim, reason))
    counted = {id(child) for child in found.values()}
    names = {claim.connection for claim in claims if claim.key in found}
    uncounted = [
        child
        for said in facts.said.values()
        for child in said.children
        if id(child) not in counted and child.connection not in names
    ]
    expected = tuple(child for child in uncounted if child.wants_device)
    behind = {key: child for key, child in found.items() if key in sure}
    return Audit(tuple(ended), tuple(moved), tuple(waiting), tuple(young), expected, tuple(uncounted), child_of=behind)


def why_it_ends(claim: Claim, said: DaemonAnswer, xfrm: IpsecIndex | None) -> str:
    """Why a claim for which no daemon reports a child ends; empty where it does not."""
    name = DAEMONS.get(claim.sa.daemon, claim.sa.daemon)
    unread = claim.connection in said.unread
    if said.state == ANSWERED and said.whole and not (unread and claim.kind == SA):
        if claim.kind == SA:
            return f"{name} has no child SA of it"
        return "" if claim.connection in said.held else f"{name} does not keep the way open for it"
    if xfrm is None or (has_policy_and_state(claim, xfrm) if said.state == ABSENT else has_any_trace(claim, xfrm)):
        return ""
    if said.state == ABSENT:
        what = "policy and state" if claim.kind == SA else "policy"
        return f"{name} is not running, and the kernel has no IPsec {what} of it"
    silence = f"what {name} says of it cannot be read" if unread else f"{name} is silent"
    return f"{silence}, but the kernel has neither IPsec policy nor state of it"


def in_grace(claim: Claim, said: DaemonAnswer, now: int, before_start: bool) -> bool:
    """Whether the event that made the claim may still be under way. An earlier daemon's never is."""
    if said.state == ABSENT and before_start:
        return False
    return 0 <= now - claim.since < GRACE and claim.since >= said.since
