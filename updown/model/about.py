"""What is remembered of a call beside what it asks for: both ends, both selectors, numbers. And which of that says the same
after an end has moved. Pure.
"""

from __future__ import annotations

import json

from updown.model.context import Context
from updown.model.objects import family
from updown.model.record import NamedTuple


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
