"""Claims by strongSwan's two verbs, up and down. Pure: the ledger's content in, the change out.

charon calls for each pair of selectors of a child SA, never at a rekeying or a move (MOBIKE), and sometimes once too often.
docs/claims.md has the reason for each variable, and the recordings that show it."""

from __future__ import annotations

import ipaddress

from updown.model import claims
from updown.model.claims import SA, STRONGSWAN, CandidateClaims, Change, Claim, ClaimQuery, RememberedSa, Rules
from updown.model.context import Context
from updown.model.record import dumps, loads
from updown.model.values import network


def child_of(context: Context) -> str:
    """What stays the same of a child SA from its `up` to its `down`, beside the selectors: its name, both identities, marks and
    if_ids. The UNIQUEID changes when the IKE SA is rekeyed, PEER and ME when an end moves."""
    marks = [claims.value_of(mark) or 0 for mark in (context.mark_in, context.mark_out)]
    return dumps([tunnel_of(context), *marks, context.if_id_in, context.if_id_out])


def tunnel_of(context: Context) -> str:
    """The child's name between these two hosts. Marks and if_ids are no part: with %unique a new SA has others, and takes
    over the device that its predecessor has."""
    return dumps([STRONGSWAN, context.connection, context.my_id, context.peer_id])


def group_of(context: Context) -> str:
    """The two hosts, by the identities that IKE has verified: where their addresses differ from claim to claim, they moved."""
    return dumps([STRONGSWAN, context.my_id, context.peer_id])


def key_of(context: Context) -> str:
    """One claim for each child, IKE SA and pair of selectors with protocols and ports."""
    return dumps([SA, child_of(context), context.unique_id, context.my_client.text, context.peer_client.text])


def remembered_sa(context: Context) -> RememberedSa:
    """The child, the pair of selectors, and the IKE SA's number, written so that texts are in the order of the numbers: by it a
    `down` that comes again is known. An `up` makes the ends of its own number and of greater ones forgotten: charon counts on
    and gives none twice, so it was restarted and began at 1. One with a smaller number is not forgotten: its `down` may come
    once more yet (up to 6.0.4)."""
    pair = dumps([child_of(context), context.my_client.text, context.peer_client.text])
    sa = f"{pair} {context.unique_id:010}"
    return RememberedSa(sa, sa, first=sa, last=f"{pair} ~")


def query(context: Context) -> ClaimQuery:
    """The tunnel and the child SA; no verb ends what is another tunnel's. All clients that share both identities are one tunnel
    of thousands of claims, so of these the ledger reads only what `claim_to_end` looks at, the first and the last."""
    return ClaimQuery(tunnel_of(context), sa=claims.sa_query(child_of(context), claims.sa_info(context)))


def renewed_claim(context: Context, held: CandidateClaims) -> Claim | None:
    """The claim that an `up` repeats."""
    return claims.same_key(held.tunnel, key_of(context))


def make(context: Context, held: CandidateClaims, asked: Claim) -> Change:
    """`up`: a claim, or the same once more where everything that identifies it is the same. Where SAs with smaller numbers came
    after the one before, that was a killed charon's: this one is the latest."""
    new = asked._replace(key=key_of(context), kind=SA, tunnel=tunnel_of(context), group=group_of(context))
    before = renewed_claim(context, held)
    later = [claim for claim in held.tunnel if before and claim.order > before.order]
    if before and any(claim.sa.unique_id < context.unique_id for claim in later):
        return Change(put=(new,), end=(before,))
    return Change(put=(claims.complete(new, before),))


def down(context: Context, held: CandidateClaims) -> Change:
    """`down`: ends one claim. What is left of the tunnel is held as its latest SA asks for it, so that one is written again."""
    ended = claim_to_end(context, held)
    if ended is None:
        return Change()
    left = [claim for claim in held.tunnel if claim.key != ended.key]
    return Change(put=tuple(left[-1:]), end=(ended,))


def claim_to_end(context: Context, held: CandidateClaims) -> Claim | None:
    """The claim of the IKE SA that `down` names; else, since that number changes when the IKE SA is rekeyed, the oldest of the
    same child. Where charon lost track of the child it is a `down` too many, as up to 6.0.4 may come, and ends nothing; nor
    does a `down` that comes again, or of an SA whose `up` was refused: charon heeds no status, and has it all the same."""
    child = child_of(context)
    childs = [claim for claim in held.tunnel if loads(claim.key)[1] == child]
    same = by_selectors(context, childs)
    own = [claim for claim in same if claim.sa.unique_id == context.unique_id]
    if own:
        return own[0]
    if context.way_unknown or held.served:
        return None
    return next(iter(same), None) or narrowed_claim(context, childs)


def narrowed_claim(context: Context, childs: list[Claim]) -> Claim | None:
    """The only claim of the IKE SA, where each selector has addresses in common with that of `context`: a rekeying of the child
    may narrow selectors, or widen them again, and is not told."""
    mine = [claim for claim in childs if claim.sa.unique_id == context.unique_id]
    if len(mine) != 1:
        return None
    was = mine[0].sa
    fits = overlaps(was.my_client, context.my_client.text) and overlaps(was.peer_client, context.peer_client.text)
    return mine[0] if fits else None


def overlaps(was: str, now: str) -> bool:
    """Whether two selectors of the same protocol and ports have addresses in common."""
    (one, _, rest), (other, _, new) = was.partition(" "), now.partition(" ")
    networks = [[ipaddress.ip_network(prefix) for prefix in network(text).prefixes] for text in (one, other)]
    return rest == new and any(a.version == b.version and a.overlaps(b) for a in networks[0] for b in networks[1])


def by_selectors(context: Context, childs: list[Claim]) -> list[Claim]:
    """The claims with the selectors of `context`, oldest first; after them those whose selectors are an end that moved."""
    pair = (context.my_client.text, context.peer_client.text)
    exact = [claim for claim in childs if (claim.sa.my_client, claim.sa.peer_client) == pair]
    return exact + [claim for claim in childs if claim not in exact and claims.is_same_or_moved(context, claim.sa)]


def siblings(claim: Claim, held: CandidateClaims) -> tuple[Claim, ...]:
    """Claims for the other pairs of selectors of the same IKE SA and child, each with its own facts."""
    now = claim.sa.unique_id
    mine = loads(claim.key)[1]
    return tuple(
        other for other in held.tunnel if other.key != claim.key and other.sa.unique_id == now and loads(other.key)[1] == mine
    )


RULES = Rules(query, remembered_sa, renewed_claim, make, down, siblings)
