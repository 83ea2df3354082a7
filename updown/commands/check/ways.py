"""Where packets to a tunnel's networks go: the kernel is asked, and what it says is held against what claims ask for."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from updown.commands.check.facts import CheckFacts, Finding
from updown.commands.check.ipsec import CHARON_TABLE
from updown.concerns.routes import first_of_others, is_passed
from updown.kernel.netlink.rtnetlink import Netlink
from updown.kernel.observe import LOCAL_TABLE, Names, with_names
from updown.ledger.liveness import MISSES
from updown.model.claims import Claim
from updown.model.objects import MAIN_TABLE, OUR_PROTOCOL, Route, family, netns_of
from updown.plan.conflicts import leaving

Ways = tuple[tuple[Route, Route], ...]
"""Routes that claims ask for, each with somebody else's by which its packets go."""


def other_ways(netlink: Netlink, claims: Sequence[Claim]) -> Ways:
    """The routes of claims whose packets go elsewhere, by the answer to a question for addresses in them; in another table than
    the main one by what stands there, as a question without mark and source is not answered by it."""
    wants = dict.fromkeys(want for claim in claims for want in claim.resources if isinstance(want, Route))
    names: Names = {}
    found = []
    for want in (one for one in wants if netlink.reaches(one.device)):
        rival = asked_for(netlink, want, names) if want.table == MAIN_TABLE else stands_before(netlink, want, names)
        found += [(want, rival)] if rival is not None and not is_passed(want, rival) else []
    return tuple(found)


def asked_for(netlink: Netlink, want: Route, names: Names) -> Route | None:
    """Somebody else's route by which the kernel sends packets to the prefix. Parts of it may be led elsewhere on purpose: an
    address counts that no narrower route has, if there is one. A wider one counts where ours is missing, which others tell."""
    length = int(want.destination.split("/")[1])
    narrower: Route | None = None
    for address in samples(want.destination):
        best = netlink.at(want.device).match(address).route
        if best is None or best.table == LOCAL_TABLE:
            continue
        route = with_names(netlink, best, names, netns_of(want.device))
        theirs = int(best.destination.split("/")[1])
        if route.protocol == OUR_PROTOCOL or want.device in route.devices:
            return None
        if theirs > length and best.table == MAIN_TABLE:
            narrower = route
            continue
        return None if theirs < length and best.table == MAIN_TABLE else route
    return narrower


def stands_before(netlink: Netlink, want: Route, names: Names) -> Route | None:
    """Somebody else's route to the prefix in its own table, before which ours cannot be."""
    there = netlink.at(want.device).routes(family(want.destination), want.table)
    same = [with_names(netlink, one, names, netns_of(want.device)) for one in there if one.destination == want.destination]
    return first_of_others(want, same)


def samples(destination: str) -> list[str]:
    """Addresses of a prefix: the only one, or those next to both ends and in the middle."""
    network = ipaddress.ip_network(destination)
    size = network.num_addresses
    return list(dict.fromkeys(str(network[at % size]) for at in (min(1, size - 1), size - 2, size // 2)))


def ways(facts: CheckFacts) -> Iterator[Finding]:
    """Packets that leave outside of the tunnel. What a plan of reconcile's mends, devices that are not up, and charon's own
    routes have findings of their own."""
    planned = {one.subject.destination for one in facts.operations if one.effect == "route"}
    silent = {name for name, (count, _) in facts.missed.items() if count >= MISSES}
    ready = {name for name, link in facts.by_name.items() if link.up} - silent
    for want, rival in facts.other_ways:
        told = want.destination in planned or (rival.table == CHARON_TABLE and want.table == MAIN_TABLE)
        if want.device in ready and not told and rival.device not in facts.devices:
            text, _, mend = leaving(want, rival)
            yield Finding("route-not-ours", want.device, text, mend)
