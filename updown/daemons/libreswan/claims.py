"""What each of libreswan's verbs does to the claims. Pure: the ledger's content in, the change out.

The rules are those of docs/deletion.md; docs/claims.md gives the reason for each variable that identifies a claim."""

from __future__ import annotations

from updown.model import claims
from updown.model.claims import REVIVE, SA, TRAP, CandidateClaims, Change, Claim, ClaimQuery, RememberedSa, Rules
from updown.model.context import Context
from updown.model.record import dumps


def tunnel_of(context: Context) -> str:
    """A permanent connection is one tunnel, whatever its reqid, which a restarted daemon counts anew. Instances of one template
    share the name but not an automatic reqid; a configured one they share, so that there the peer tells them apart."""
    if not context.instance:
        return dumps([context.connection])
    return dumps([context.connection, context.reqid if context.reqid_automatic else context.peer])


def key_of(context: Context, kind: str) -> str:
    """One claim for each child (of an instance: base reqid where automatic, else the peer), pair of selectors, protocols and
    ports. `sa` and `revive` are one claim in two states; `trap` is another: it outlives them. Not in it: ME, marks."""
    reqid = (context.reqid if context.reqid_automatic else context.peer) if context.instance else 0
    mine, theirs = context.my_client, context.peer_client
    return dumps([TRAP if kind == TRAP else SA, context.connection, reqid, mine.text, theirs.text])


def group_of(context: Context) -> str:
    """Whose `unroute` comes once for all: connections with one remote selector, marks and local address share the kernel's
    trap policy and route, and the last one's `unroute` ends them all (programs/pluto/kernel.c, bare route owner). The local
    address is not in here: see `unroute`."""
    marks = [mark.value if mark else 0 for mark in (context.mark_in, context.mark_out)]
    return dumps([context.peer_client.text, *marks, context.daemon_device or ""])


def query(context: Context) -> ClaimQuery:
    """The tunnel, the group where a verb looks at it, and the claims that have the keys."""
    group = group_of(context) if context.instance or "unroute" in context.verb.steps else ""
    return ClaimQuery(tunnel_of(context), group, (key_of(context, SA), key_of(context, TRAP)))


def remembered_sa(context: Context) -> RememberedSa:
    """The SPIs, by which a joined call is known that comes after its SA's end. A refused SA is apart from those that ended: the
    joined call may come once more, by hand, and is not late. SPIs are random: no SA comes again, but one that was refused may
    be made after all."""
    spis = f"{context.spi_in:#x} {context.spi_out:#x}" if context.child else ""
    refused = f"refused {spis}" if spis else ""
    return RememberedSa(spis, refused, refused, refused)


def make(context: Context, held: CandidateClaims, asked: Claim) -> Change:
    """A verb that makes: the claim for what is asked, new or renewed."""
    kind = SA if context.child else TRAP
    new = asked._replace(key=key_of(context, kind), kind=kind, tunnel=tunnel_of(context), group=group_of(context))
    before = renewed_claim(context, held)
    old = [*([before] if before else []), *superseded(context, held)]
    ended = tuple({claim.key: claim for claim in old if claim.key != new.key}.values())
    return Change(put=(claims.complete(new, before),), end=ended)


def superseded(context: Context, held: CandidateClaims) -> tuple[Claim, ...]:
    """Claims of another instance with the same name, ends, selectors and marks: what a daemon that was killed left, since the
    next one counts reqids anew. At one time the kernel has but one policy for all of that, whatever the ends; of an
    initiator they may have moved until then."""
    if not (context.instance and context.child):
        return ()
    now = claims.sa_info(context)
    return tuple(
        claim
        for claim in held.group
        if (claim.connection == context.connection and claim.tunnel != tunnel_of(context))
        and (claim.sa.my_client, claim.sa.peer_client) == (now.my_client, now.peer_client)
        and (claim.sa[1:3] == now[1:3] or (context.initiates and not claim.deletion.any_remote))
    )


def renewed_claim(context: Context, held: CandidateClaims) -> Claim | None:
    """The claim that a making verb renews, if there is one: of a tunnel between two hosts also the one before it moved."""
    return matching_claim(context, held, SA if context.child else TRAP) or next(iter(superseded(context, held)), None)


def down(context: Context, held: CandidateClaims) -> Change:
    """`down`: the child is gone. Its claim waits where the daemon will bring it back, else it ends, and with it what waits of
    the tunnel's other pairs of selectors; no claim, nothing."""
    claim = matching_claim(context, held, SA)
    if context.revives:
        return Change(put=(claim._replace(kind=REVIVE),)) if claim and claim.kind == SA else Change()
    ended = [claim] if claim else []
    # what waits of other pairs was not brought back, and nothing more is called for it
    tunnel = tunnel_of(context)
    ended += [one for one in held.tunnel if one.kind == REVIVE and one.tunnel == tunnel and one not in ended]
    if context.down_ends_trap:
        trap = matching_claim(context, held, TRAP)
        ended += [trap] if trap else []
    return Change(end=tuple(ended))


def unroute(context: Context, held: CandidateClaims) -> Change:
    """`unroute`: the end of everything for this remote selector, unless the tunnel only changes its address. After an attempt
    that failed (no child, still wished up) another connection's living child stays."""
    if context.suspended:
        return Change()
    theirs = context.peer_client.text
    failed = context.initiates and not context.child
    mine = [claim for claim in held.tunnel if claims.same_selector(claim.sa.peer_client, claim.sa.peer, theirs, context.peer)]
    # one without the local address had it before a move that it was not told of, where it is on the tunnel's device
    devices = {context.interface or context.daemon_device or "", *(claim.device for claim in held.tunnel)} - {""}
    near = [claim for claim in held.group if claim.sa.me == context.me or claim.device in devices]
    group = [claim for claim in near if not (failed and claim.kind == SA)]
    return Change(end=tuple({claim.key: claim for claim in (*group, *mine)}.values()))


def matching_claim(context: Context, held: CandidateClaims, kind: str) -> Claim | None:
    """The child's claim, or the trap: the same key, else the one whose selectors differ only where they are a moved end
    itself. Never a sibling's: a repeated `down` finds nothing."""
    exact = claims.same_key(held.tunnel, key_of(context, kind))
    moved = [
        claim for claim in held.tunnel if (claim.kind == TRAP) == (kind == TRAP) and claims.is_same_or_moved(context, claim.sa)
    ]
    return exact or (moved[0] if len(moved) == 1 else None) or moved_instance_claim(context, held, kind)


def moved_instance_claim(context: Context, held: CandidateClaims, kind: str) -> Claim | None:
    """The claim of an instance with a configured reqid whose peer moved, among those with its selectors and marks: by the SPIs,
    or by the peer, where `reconcile` told of it; for a `down` that is not the second one it may be the only one too."""
    if not context.instance or context.reqid_automatic:
        return None
    like = [
        claim
        for claim in held.group
        if claim.connection == context.connection
        and (claim.kind == TRAP) == (kind == TRAP)
        and claim.sa.my_client == context.my_client.text
    ]
    best = max(like, key=lambda claim: rank(claim, context.spi_in, context.peer), default=None)
    alone = len(like) == 1 and context.child and "down" in context.verb.steps and not held.served
    return best if best and (alone or rank(best, context.spi_in, context.peer)) else None


def rank(claim: Claim, spi_in: int, peer: str) -> int:
    """How surely a child of the claim's connection is the claim's, by what a call or pluto's status tells of it: 4 by its SPI;
    2 by the peer, which tells a template's instances apart, or since a permanent connection has but one; 0 is not known."""
    if spi_in and spi_in == claim.sa.spi_in:
        return 4
    return 2 if claims.is_permanent(claim) or peer == claim.sa.peer else 0


def siblings(claim: Claim, held: CandidateClaims) -> tuple[Claim, ...]:
    """Other claims of the same tunnel (pairs of selectors, the trap), with the ends and the device that `claim` was told: what
    moved moved for them all, and for some of them the daemon calls nothing."""
    now = claim.sa
    device = {field: getattr(now, field) for field in DEVICE_FACTS}
    return tuple(
        other._replace(sa=claims.with_ends(other.sa, now.me, now.peer)._replace(**device))
        for other in held.tunnel
        if other.key != claim.key and other.tunnel == claim.tunnel
    )


DEVICE_FACTS = ("mark_in", "mark_out", "if_id_in", "if_id_out", "interface", "daemon_device")
"""Of which device a connection has, whatever its pair of selectors."""


RULES = Rules(query, remembered_sa, renewed_claim, make, down, siblings, unroute, superseded)
