"""Findings about IPsec policies, states and charon's routes beside the tunnel devices. Pure, as findings.py."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from updown.commands.check.facts import RECONCILE, CheckFacts, Finding
from updown.commands.check.tunnels import key_of
from updown.concerns.device import is_fallback
from updown.model.claims import MADE
from updown.model.ipsec import Database, Key, Policy, serves_device
from updown.model.objects import VTIS, Link, Route, is_any, netns_of

CHARON_TABLE = 220  # charon.routing_table's default


def ends(facts: CheckFacts) -> Iterator[Finding]:
    """A VTI whose IPsec policies lead elsewhere: after a move (MOBIKE) that nobody told of."""
    told = facts.remade - {claim.device for claim in facts.audit.moved}
    for link in (one for one in facts.tunnels if one.name not in told):
        for local, remote in sorted(set(stray_ends(link, facts.xfrm))):
            told.add(link.name)
            has = f"{link.local} - {'any' if is_any(link.remote) else link.remote}"
            text = f"{link.name} has ends {has}, its IPsec policies have {local} - {remote}"
            yield Finding("ends-moved", link.name, text, f"{RECONCILE}  # or take its tunnel down and up")
    for claim in facts.audit.moved:
        if claim.device not in told:
            text = f"{claim.device}: the ends of {claim.connection} are now {claim.sa.me} - {claim.sa.peer}"
            yield Finding("ends-moved", claim.device, text, RECONCILE)


def stray_ends(link: Link, xfrm: Database | None) -> list[tuple[str, str]]:
    """The ends in policies with a VTI's output key that are not its own, where none has its own."""
    if link.kind not in VTIS or is_fallback(link) or xfrm is None or not link.okey:
        return []
    found = [pair for pair in served_ends(link, xfrm) if not is_any(pair[0]) and not is_any(pair[1])]
    own = [pair for pair in found if pair[0] == link.local and (is_any(link.remote) or pair[1] == link.remote)]
    return [] if own else found


def served_ends(link: Link, xfrm: Database) -> list[tuple[str, str]]:
    """Both ends of what leaves by a device, by its IPsec policies."""
    out = [policy for policy in xfrm.policies if policy.direction == "out" and serves_device(policy.key, link)]
    return [pair for policy in out for pair in policy.ends]


def keys(facts: CheckFacts) -> Iterator[Finding]:
    """A half tunnel: policies or states that the device's keys do not fit, or an if_id that no interface has."""
    if facts.xfrm is None:
        return
    for link in facts.tunnels:
        if link.kind in VTIS and not is_fallback(link) and link.name not in facts.remade:
            yield from vti_keys(link, facts.xfrm)
    here = {key_of(child, facts).if_id for child in facts.audit.uncounted}  # these are told by their connection
    here |= {link.if_id for link in facts.links if link.kind == "xfrm"}
    here |= {want.link.if_id for wants in facts.devices.values() for want in wants}
    if any(link.external for link in facts.links):
        return  # it has every if_id
    for if_id in sorted({policy.key.if_id for policy in facts.xfrm.policies if policy.key.if_id} - here):
        text = f"IPsec policies have if_id {if_id}, and no XFRM interface here has it: what they cover is dropped"
        mend = f"ip link add ipsec{if_id} type xfrm if_id {if_id}  # or `interface` in the settings, then up again"
        yield Finding("if-id-without-device", f"if_id {if_id}", text, mend)


def vti_keys(link: Link, xfrm: Database) -> Iterator[Finding]:
    """Policies and states between a VTI's ends, against okey and ikey: the first direction that does not fit."""
    anyone = is_any(link.remote)  # other devices may serve others from the same address
    out = [one.key for one in xfrm.policies if one.direction == "out" and between(one, link.local, link.remote)]
    coming = [one.key for one in xfrm.policies if one.direction == "in" and between(one, link.remote, link.local)]
    ways = (("out", "sends", link.okey, out), ("in", "takes in", link.ikey, coming))
    fitting = [way for way, _, mark, there in ways if any(marked(key, mark) for key in there)]
    said: list[str] = []
    for way, what, mark, there in ways:
        if there and way not in fitting and (fitting or not anyone):
            has = ", ".join(sorted({mark_text(key) for key in there}))
            said.append(f"{link.name} {what} with key {mark}, but the IPsec policies ({way}) between its ends have {has}")
    for inbound in xfrm.states:
        own = not anyone and (inbound.source, inbound.destination) == (link.remote, link.local)
        if own and inbound.key.mask and not marked(inbound.key, link.ikey):
            has = mark_text(inbound.key)
            said.append(f"{link.name} takes in with key {link.ikey}, but the IPsec SA {inbound.spi:#x} has {has}")
    mend = "write equal marks for both ends and the device into the daemon's configuration (docs/strongswan.md)"
    yield from (Finding("keys-differ", link.name, text, mend) for text in said[:1])


def between(policy: Policy, source: str, destination: str) -> bool:
    """Whether a policy's tunnel goes from one end to the other; an end that is any fits all."""
    ends = (source, destination)
    return any(all(is_any(end) or end == has for end, has in zip(ends, pair)) for pair in policy.ends)


def marked(key: Key, mark: int) -> bool:
    """Whether packets with this mark are what the policy or state is for. One without a mark is for all packets, but a VTI's
    are looked up by mark first."""
    return key.mask != 0 and key.mark == mark & key.mask


def mark_text(key: Key) -> str:
    """A mark for a message."""
    return f"mark {key.mark}" if key.mask else f"if_id {key.if_id}" if key.if_id else "no mark"


def shadows(facts: CheckFacts) -> Iterator[Finding]:
    """A VTI for one peer takes in what comes from it, also what belongs to a device for everyone."""
    own = [link for link in facts.links if link.kind in VTIS and not is_fallback(link) and not is_any(link.local)]
    for wide in own:
        if not is_any(wide.remote) or wide.name not in facts.devices:
            continue
        peers = {claim.sa.peer for claim in facts.claims if claim.device == wide.name and claim.kind != MADE}
        if facts.xfrm is not None:
            peers |= {remote for local, remote in served_ends(wide, facts.xfrm) if local == wide.local}
        for narrow in own:
            same = narrow.kind == wide.kind and narrow.local == wide.local
            if same and narrow.up and narrow.remote in peers and narrow.ikey != wide.ikey:
                taken = f"{wide.name} (remote any, key {wide.ikey}) serves that peer with"
                text = f"{narrow.name} (remote {narrow.remote}, key {narrow.ikey}) takes in what {taken}"
                mend = f"ip link set {narrow.name} down  # or delete it, or give that tunnel {narrow.name} and its key"
                yield Finding("device-shadowed", wide.name, text, mend)


def charon_table(facts: CheckFacts) -> Iterator[Finding]:
    """charon's own routes come before those of the main table."""
    wanted = {
        want.destination: want.device
        for claim in facts.claims
        for want in claim.resources
        if isinstance(want, Route) and want.table != CHARON_TABLE and not netns_of(want.device)
    }
    links = {link.ifindex: link.name for link in facts.links if not netns_of(link.name)}
    for seen in facts.charon_routes:
        first = next((name for name in wanted if is_inside(name, seen.destination)), "")
        if first and links.get(seen.oif) != wanted[first]:
            has = f"table {CHARON_TABLE} has a route to {seen.destination} (dev {links.get(seen.oif, '?')})"
            text = f"{has}, which comes before {first} dev {wanted[first]}"
            mend = f"ip route del {seen.destination} table {CHARON_TABLE}  # and charon.install_routes = no in strongswan.conf"
            yield Finding("charon-route", wanted[first], text, mend)


def is_inside(narrow: str, wide: str) -> bool:
    """Whether one prefix is a part of another, or the same."""
    one, other = ipaddress.ip_network(narrow), ipaddress.ip_network(wide)
    return one.version == other.version and one.subnet_of(other)  # type: ignore[arg-type]
