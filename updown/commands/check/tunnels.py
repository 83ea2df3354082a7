"""Findings about tunnels that a daemon says are up: that no claim counts, or of which the kernel lacks something. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from updown.commands.check.facts import CheckFacts, Finding, again, appended
from updown.commands.reconcile.decide import DAEMONS
from updown.concerns.device_request import request_device
from updown.daemons.answer import ChildSa
from updown.ledger.failures import ends as ends_something
from updown.model.claims import LIBRESWAN, NO_SA, SA, Claim, SaInfo
from updown.model.errors import Refused
from updown.model.ipsec import Key, SelectorSide, index, policies_of, selector_side
from updown.model.objects import VTIS, Link, has_our_alias
from updown.settings.file import resolve

BY_FAILURE = ("tunnel-uncounted", "device-taken")
"""What an event fails at, or leaves: where one is remembered, that is the cause, and told."""

HOOK = "/usr/libexec/vti-updown"


def unclaimed(facts: CheckFacts) -> Iterator[Finding]:
    """Tunnels that are up and that no claim counts, each by its cause: of mistakes in settings that is those, and of an event
    that failed its own finding."""
    if facts.mistakes:
        return
    told, failed = set(), {one.connection for one in facts.failed if not ends_something(one.verb)}
    for child in facts.audit.uncounted:
        if (child.daemon, child.connection) not in told:
            told.add((child.daemon, child.connection))
            found = cause(child, facts)
            yield from (one for one in found if child.connection not in failed or one.code not in BY_FAILURE)


def cause(child: ChildSa, facts: CheckFacts) -> Iterator[Finding]:
    """Why no claim counts a tunnel; nothing for one that is not for us: one without device and keys, or of another hook."""
    key, name, restart = key_of(child, facts), child.connection, again(child.daemon, child.connection)
    wanted, own = child.device or device_of(child, key, facts), {name, name.rsplit("/", 1)[0]}
    named = any(line.kind == "connection" and line.key == "interface" and line.pattern in own for line in facts.lines)
    up = f"{DAEMONS.get(child.daemon, child.daemon)} has {name} up ({child.me} - {child.peer})"
    if not (wanted or named) and key == Key():
        return
    other = next((link.name for link in facts.links if carries(link, key) and not has_our_alias(link)), "")
    if child.calls_us is False:
        if named or (child.device and not other and child.device not in facts.by_name):
            text = f"{up} and does not call vti-updown: nothing is done for it"
            conn = name.rsplit("/", 1)[0]  # NAME/1x2 is pluto's name for one pair of NAME's subnets
            mend = f"write leftupdown={HOOK} into conn {conn} of ipsec.conf; then ipsec auto --replace {conn}; {restart}"
            yield Finding("hook-not-called", name, text, mend)
        return
    if not wanted:
        if other and not named:
            return  # somebody's own device serves it
        routed = child.remote_ts and not any(network.endswith("/0") for network in child.remote_ts)
        lines = (f"[connection {name}]", f"interface = {device_name(key)}", *(["routing = yes"] if routed else ()))
        text = f"{up} and no device is named for it, neither by it nor by the settings"
        yield Finding("no-interface", name, text, f"{appended(lines, facts.config)}; {restart}")
        return
    link = facts.by_name.get(wanted)
    if link is not None and not has_our_alias(link) and not carries(link, key):
        text = f"{up}, and {wanted} is there and not ours ({link.kind or 'no tunnel device'}): it has no device"
        mend = f"ip link del {wanted}; {restart}  # or name another device"
        yield Finding("device-taken", name, text, mend)
        return
    hook = f"updown = {HOOK} in child {name} of swanctl.conf"
    more = "" if child.daemon == LIBRESWAN else f"  # where that does not help: {hook}, and swanctl --load-all"
    yield Finding("tunnel-uncounted", name, f"{up} and no claim counts it: its events were missed, or failed", restart + more)


def key_of(child: ChildSa, facts: CheckFacts) -> Key:
    """What ties a tunnel to a device: as its daemon says, or as the kernel has it."""
    if child.if_id_out or child.if_id_in or child.mark_out:
        return Key(child.mark_out, 0xFFFFFFFF if child.mark_out else 0, child.if_id_out or child.if_id_in)
    states = facts.xfrm.states if facts.xfrm else ()
    ends = {(child.me, child.spi_in), (child.peer, child.spi_out)}
    return next((one.key for one in states if (one.destination, one.spi) in ends and one.key != Key()), Key())


def carries(link: Link, key: Key) -> bool:
    """Whether what has this key leaves by the device."""
    if link.kind == "xfrm":
        return bool(key.if_id) and (link.external or link.if_id == key.if_id)
    return link.kind in VTIS and bool(key.mask) and link.okey == key.mark


def device_of(child: ChildSa, key: Key, facts: CheckFacts) -> str:
    """The device that the settings name for a tunnel; empty where they name none, or none that could be."""
    marks = (child.mark_in or key.mark, key.mark) if key.mask else (None, None)
    sa: SaInfo = NO_SA._replace(daemon=child.daemon, connection=child.connection, me=child.me, peer=child.peer)
    sa = sa._replace(mark_in=marks[0], mark_out=marks[1], if_id_in=child.if_id_in, if_id_out=key.if_id)
    try:
        return request_device(sa, partial(resolve, facts.lines, child.connection)).name or ""
    except Refused:
        return ""


def device_name(key: Key) -> str:
    """A name for a device of this key."""
    return f"ipsec{key.if_id}" if key.if_id else f"vti{key.mark}"


def missing_sas(facts: CheckFacts) -> Iterator[Finding]:
    """What a daemon believes to be in the kernel, and is not: somebody flushed it, or it expired there."""
    if facts.xfrm is None:
        return
    there = {(state.destination, state.spi) for state in facts.xfrm.states}
    whole = {(one.connection, one.me, one.peer) for one in facts.children if not lost_of(one, there)}
    by_prefixes = index(facts.xfrm)
    told = set()
    for claim in facts.claims:
        child = facts.audit.child_of.get(claim.key)
        if child is None or claim.kind != SA or claim.connection in told or not (child.me and child.peer):
            continue
        # while it is rekeyed there is a second one, of which the kernel has all
        lost = lost_of(child, there) if (child.connection, child.me, child.peer) not in whole else []
        code = "sa-missing" if lost else "policy-missing"
        alone = all(side is not None and len(side.prefixes) == 1 for side in sides_of(claim))
        if not lost and alone and not policies_of(claim._replace(resources=()), by_prefixes):  # of another key: see `keys`
            lost = [f"a policy {claim.sa.my_client} -> {claim.sa.peer_client}"]
        if lost:
            told.add(claim.connection)
            name = DAEMONS.get(claim.sa.daemon, claim.sa.daemon)
            text = f"{claim.connection}: {name} has it up, but the kernel lacks {' and '.join(lost)}: nothing passes"
            yield Finding(code, claim.connection, text, again(claim.sa.daemon, claim.connection))


def lost_of(child: ChildSa, there: set[tuple[str, int]]) -> list[str]:
    """The SAs of a child that are not `there`."""
    ends = (("in", child.me, child.spi_in), ("out", child.peer, child.spi_out))
    return [f"the SA {spi:#x} ({way})" for way, end, spi in ends if spi and (end, spi) not in there]


def sides_of(claim: Claim) -> list[SelectorSide | None]:
    """Both selectors of a claim."""
    return [selector_side(claim.sa.my_client), selector_side(claim.sa.peer_client)]
