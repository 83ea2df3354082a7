"""Claims: which tunnel holds what, and what each of libreswan's verbs does to them (strongSwan's: claims_strongswan.py).
Pure: the ledger's content in, the change out.

The rules are design's section 6; docs/claims.md gives the reason for each variable that identifies a claim.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from updown.model.context import Context
from updown.model.objects import family
from updown.model.record import NamedTuple
from updown.model.resources import Device, Row, Want, Wants

SA = "sa"
TRAP = "trap"
REVIVE = "revive"
MADE = "made"  # of `vti-updown make`: by the administrator, whatever tunnels do

STRONGSWAN = "strongswan"


class About(NamedTuple):
    """What people want to know of a claim. Rules look at the ends and selectors alone, to find what moved."""

    daemon: str
    me: str
    peer: str
    my_client: str
    peer_client: str
    reqid: int
    spi_in: int
    spi_out: int
    unique_id: int = 0  # strongSwan's IKE SA at the time


NOBODY = About("", "", "", "", "", 0, 0, 0)


class Claim(NamedTuple):
    """One tunnel's hold. `tunnel` and `group` are what later verbs find it by; `since` is in seconds since boot."""

    key: str
    kind: str
    connection: str
    tunnel: str
    group: str
    device: str
    row: Row
    routed: bool = False
    since: int = 0
    wants: Wants = ()
    about: About = NOBODY
    order: int = 0  # of arrival; the first to hold a resource comes first


class Sought(NamedTuple):
    """What the ledger is asked for: the tunnel, the group where it matters, the claims a context may have; and, of a tunnel
    that may have thousands of claims, the one child SA that the context is of."""

    tunnel: str
    group: str = ""
    keys: tuple[str, ...] = ()
    sa: Sa | None = None


class Held(NamedTuple):
    """What the ledger has that one context may speak of."""

    tunnel: tuple[Claim, ...] = ()  # of the same connection and reqid; of strongSwan's those that its rules look at
    group: tuple[Claim, ...] = ()  # of the same remote selector and marks
    served: bool = False  # the end of this very SA was told in the last ten minutes


class Holder(NamedTuple):
    """A claim that asks for a resource, and what exactly it asks for."""

    claim: Claim
    want: Want


class Ended(NamedTuple):
    """What a connection asked for before this event, or before one that was not finished."""

    connection: str
    want: Want


class Change(NamedTuple):
    """Claims to write (new, renewed or of another kind) and claims to end."""

    put: tuple[Claim, ...] = ()
    end: tuple[Claim, ...] = ()


class Rules(NamedTuple):
    """How a daemon's calls become changes of claims."""

    sought: Callable[[Context], Sought]
    sa_of: Callable[[Context], str]  # the SA as its end is remembered by; empty where there is none
    anew: Callable[[Context], tuple[str, str]]  # from where to where remembered ends mean nothing once a verb makes
    renewed: Callable[[Context, Held], Claim | None]
    make: Callable[[Context, Held, Row, Wants, int], Change]
    down: Callable[[Context, Held], Change]
    unroute: Callable[[Context, Held], Change]
    replaced: Callable[[Context, Held], tuple[Claim, ...]]  # claims in whose place an instance's new one comes
    refused: Callable[[Context], str]  # what a refused verb's SA is remembered by: its end is not another claim's


def filled(new: Claim, context: Context, before: Claim | None, wants: Wants, now: int) -> Claim:
    """`new`, which says only who it is, with what it asks for; a renewal keeps the time and the place of the one before."""
    return new._replace(
        device=next((want.link.name for want in wants if isinstance(want, Device)), ""),
        routed=routed(context, before),
        since=before.since if before else now,
        wants=wants,
        about=about(context),
        order=before.order if before else 0,
    )


def routed(context: Context, before: Claim | None) -> bool:
    """Whether the claim holds routes: a renewal by `prepare` never takes back what `route` or `up` gave."""
    return context.verb.routes or (before is not None and before.routed)


def row_of(held: Held) -> Row | None:
    """The row its tunnel stands in since its first claim."""
    return held.tunnel[0].row if held.tunnel else None


def same_hosts(one: Claim, other: Claim) -> bool:
    """Whether two claims are strongSwan's and between the same two identities (its group): where their ends differ, one
    moved."""
    return one.about.daemon == other.about.daemon == STRONGSWAN and one.group == other.group


def same_key(claims: tuple[Claim, ...], key: str) -> Claim | None:
    """The claim with this key."""
    return next((claim for claim in claims if claim.key == key), None)


class Sa(NamedTuple):
    """strongSwan's child SA, by what it is found among many of its tunnel: who it is beside the selectors, the IKE SA's number,
    the selectors, and the same with `me` and `peer` for a network that is an end itself."""

    child: str
    number: int
    pair: str
    place: str


def about(context: Context) -> About:
    """What to remember of a context for people."""
    selectors = (context.my_client.text, context.peer_client.text)
    numbers = (context.reqid, context.spi_in, context.spi_out, context.unique_id)
    return About(context.daemon, context.me, context.peer, *selectors, *numbers)


def moved_to(context: Context, before: About) -> bool:
    """Whether the selectors of `context` are those of `before`, or a host's own address where they were its address then."""
    return same_side(before.my_client, before.me, context.my_client.text, context.me) and same_side(
        before.peer_client, before.peer, context.peer_client.text, context.peer
    )


def same_side(was: str, end: str, now: str, new: str) -> bool:
    """Whether one side's selector is as it was, or was the tunnel's end itself, and moved with it."""
    return was == now or from_end(was, end) == from_end(now, new) is not None


def from_end(selector: str, end: str) -> str | None:
    """What a selector says of protocol and port, where its network is `end` alone; else None."""
    network, _, rest = selector.partition(" ")
    return rest if network == f"{end}/{32 if family(end) == 4 else 128}" else None


def at(was: About, me: str, peer: str) -> About:
    """The same with these ends; a selector that is an end itself moves with it, so that later verbs find it."""
    sides: list[str] = []
    for selector, old, new in ((was.my_client, was.me, me), (was.peer_client, was.peer, peer)):
        rest = from_end(selector, old)
        sides.append(selector if rest is None else f"{new}/{32 if family(new) == 4 else 128} {rest}".rstrip())
    return was._replace(me=me, peer=peer, my_client=sides[0], peer_client=sides[1])


def pair_of(was: About) -> str:
    """Both selectors."""
    return json.dumps([was.my_client, was.peer_client])


def place_of(was: About) -> str:
    """Both selectors, with the end's name for one that moves with its end."""
    mine, theirs = from_end(was.my_client, was.me), from_end(was.peer_client, was.peer)
    return json.dumps(
        [was.my_client if mine is None else ["me", mine], was.peer_client if theirs is None else ["peer", theirs]]
    )
