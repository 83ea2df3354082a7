"""Which claims of strongSwan's the children are behind that charon tells of by vici. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from updown.daemons.answer import ChildSa, grouped
from updown.model.claims import SA, STRONGSWAN, Claim
from updown.model.record import dumps


def match(claims: Sequence[Claim], children: Sequence[ChildSa]) -> dict[str, ChildSa]:
    """By child name, marks and if_ids; in these as `match_selectors` says."""
    found: dict[str, ChildSa] = {}
    theirs = [claim for claim in claims if claim.sa.daemon == STRONGSWAN and claim.kind == SA]
    named = grouped(children, lambda child: child.connection)
    for group, members in grouped(theirs, lambda claim: (claim.connection, *keys_of(claim))).items():
        numbered: dict[int, ChildSa] = {}
        for child in named.get(str(group[0]), ()):
            if child_group(child, len(group)) == group:
                # an IKE SA may have several of one name, each with its selectors
                more = numbered[child.unique_id].remote_ts if child.unique_id in numbered else ()
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
