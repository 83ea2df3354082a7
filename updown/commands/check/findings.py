"""What `vti-updown check` finds, from what was gathered: facts in, findings out. Pure.

A finding says in one line what is wrong, and in another how to mend it. What claims ask for is not looked at here: `reconcile`
reads that, and its plan is one of the facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from updown.commands.check.denials import access_denied
from updown.commands.check.facts import RECONCILE, CheckFacts, Finding
from updown.commands.check.ipsec import charon_table, ends, keys, shadows
from updown.commands.check.machine import counters, forwarding, other_managers, own_ends, state_space, trust, waiting_routes
from updown.commands.check.tunnels import missing_sas, unclaimed
from updown.commands.check.ways import ways
from updown.commands.make import claim_of, missing_keys
from updown.concerns.catalogue import concern_of
from updown.concerns.device import is_fallback, moved_mend, moved_text
from updown.concerns.sysctls import all_of, conf, write_command
from updown.kernel.ping import Answer, Question
from updown.ledger.failures import ends as ends_something
from updown.ledger.failures import told
from updown.ledger.liveness import MISSES
from updown.model.claims import MADE, SA, Claim
from updown.model.concern import ip
from updown.model.errors import Refused
from updown.model.objects import MAIN_TABLE, VTIS, Link, Route, Rule, bare, netns_of
from updown.model.operations import Operation
from updown.model.resources import Sysctl
from updown.output.iproute2 import command
from updown.settings.file import resolve

Check = Callable[[CheckFacts], Iterator[Finding]]


def rights(facts: CheckFacts) -> Iterator[Finding]:
    """Without root most of the rest cannot be seen."""
    if not facts.root:
        yield Finding("no-root", "-", "not run as root: ledger and IPsec policies are not seen", "sudo vti-updown check")
    elif facts.xfrm is None:
        text = "the kernel's IPsec policies cannot be read"
        yield Finding("no-net-admin", "-", text, "give it CAP_NET_ADMIN in this namespace")


def settings(facts: CheckFacts) -> Iterator[Finding]:
    """Every mistake in the files; text and hint are those that an event would be refused with."""
    for mistake in facts.mistakes:
        mend = mistake.hint or f"correct {mistake.where}"
        code = "settings-writable" if mistake.untrusted else "settings-mistake"
        yield Finding(code, mistake.where, mistake.text, mend)


def notes(facts: CheckFacts) -> Iterator[Finding]:
    """The ledger, the spool, daemons that do not answer, what could not be looked at; modules and programs that are needed."""
    yield from (*facts.notes, *facts.lacking)
    if facts.root and facts.machine.counted is None:
        text = "/proc/net/xfrm_stat cannot be read: what the kernel drops is not seen"
        yield Finding("not-looked-at", "xfrm_stat", text, "a kernel with CONFIG_XFRM_STATISTICS")


def claims(facts: CheckFacts) -> Iterator[Finding]:
    """Claims with no tunnel behind them, or made under other settings."""
    dead, edited = "claim-without-tunnel", "settings-edited"
    found = [(dead, claim, f"{claim.kind} holds {claim.device or 'nothing'}, but {why}") for claim, why in facts.audit.ended]
    waiting = "sa, but it is not up; its daemon waits for it to come back"
    found += [(dead, claim, waiting) for claim in facts.audit.to_revive]
    for claim, edits in facts.audit.edited if not facts.mistakes else ():  # what is wrong in the files counts for nothing yet
        found += [(edited, claim, f"{claim.kind} was made under other settings: {edit.text}") for edit in edits]
    for code, claim, text in found:
        yield Finding(code, claim.connection, f"{claim.connection}: claim {text}", RECONCILE)


def moved_devices(facts: CheckFacts) -> Iterator[Finding]:
    """Devices that are in another network namespace than we put them into."""
    for name, link in facts.moved:
        yield Finding("device-moved", name, moved_text(name, link), moved_mend(link))


def resources(facts: CheckFacts) -> Iterator[Finding]:
    """What reconcile would do on devices of claims that stay: what is missing, or other than asked for."""
    edited = {claim.key: claim.device for claim, _ in facts.audit.edited}
    going = {claim.device for claim, _ in facts.audit.ended} | {claim.device for claim in facts.audit.moved}
    going |= {name for name, _ in facts.moved}
    going |= {*edited.values(), *(claim.device for claim in facts.claims if claim.key in edited)}
    anew = {operation.subject.name for operation in facts.operations if operation.action == "link add"}
    set_up = [one for one in facts.operations if one.action == "link set" and one.before and not one.before.up]
    down = {operation.subject.name for operation in set_up} - anew
    unaddressed = {one.subject.device for one in facts.operations if one.action == "address add"}
    for operation in facts.operations:
        name = operation.subject.name if operation.effect == "link" else operation.subject.device
        have = facts.by_name.get(name)
        text = difference(operation, have)
        flushed = operation.action in ("route add", "address add") and name in down  # by the kernel, with the link
        flushed = flushed or (operation.action == "route add" and name in unaddressed)
        if text and not flushed and name not in going and (name not in anew or operation.action == "link add"):
            yield Finding(code_of(operation, have), name, text, f"{RECONCILE}  # {command(operation)}")


def code_of(operation: Operation, have: Link | None) -> str:
    """What is wrong with what an operation would mend: what it is, and how it is. `have`: its device as it is."""
    how = {"add": "missing", "front": "missing", "delete": "left-over"}.get(operation.verb, "differs")
    return f"{concern_of(operation).kind}-{'differs' if operation.action == 'link add' and have else how}"


def difference(operation: Operation, have: Link | None) -> str:
    """What an operation of reconcile's would mend."""
    if operation.action == "link add":
        return f"{operation.subject.name} is {'another than asked for' if have else 'missing'}"
    if operation.action == "link delete":
        is_orphan = operation.reason.code == "orphan"
        return f"{operation.subject.name} is ours, and no claim asks for it" if is_orphan else ""
    return concern_of(operation).told(operation)


def sysctls(facts: CheckFacts) -> Iterator[Finding]:
    """Values that drop a tunnel's packets without a word."""
    mended = {operation.subject.path for operation in facts.operations if operation.action == "sysctl"}
    for link in facts.tunnels:
        everyone = facts.sysctls.get(all_of(link.name)) or "0"
        path = conf("ipv4", link.name, "rp_filter")
        own = facts.sysctls.get(path) or "0"
        if max(own, everyone) == "1" and path not in mended:
            says = "all.rp_filter is 1" if everyone == "1" else "rp_filter is 1"
            text = f"{link.name}: {says} (strict): packets whose way back is not by {link.name} are dropped"
            mend = f"{write_command(link.name, path)}=2  # or `rp_filter = auto` in the settings"
            yield Finding("rp-filter-strict", link.name, text, mend)
        path = conf("ipv4", link.name, "disable_xfrm")
        if link.kind in VTIS and facts.sysctls.get(path) == "1":
            text = f"{link.name}: disable_xfrm is 1: nothing it sends is encrypted, so all of it is dropped"
            mend = f"{write_command(link.name, path)}=0  # and see what sets it (sysctl.d)"
            yield Finding("disable-xfrm", link.name, text, mend)


def redirects(facts: CheckFacts) -> Iterator[Finding]:
    """Hubs that tell each packet's sender of a shorter way, which is none: `all` counts too (net/ipv4/route.c). What comes out
    of an XFRM interface is known to have come by IPsec, and not answered so (net/ipv4/ip_forward.c)."""
    for link in facts.tunnels:
        path, everyone = conf("ipv4", link.name, "send_redirects"), all_of(link.name, "send_redirects")
        peers = {claim.sa.peer for claim in facts.claims if claim.device == link.name and claim.kind == SA}
        silenced = any(Sysctl(link.name, path, "0") in claim.resources for claim in facts.claims)
        forwards = facts.sysctls.get(conf("ipv4", link.name, "forwarding")) == "1"
        if link.kind in VTIS and len(peers) > 1 and silenced and forwards and facts.sysctls.get(everyone) == "1":
            what = f"packets between its {len(peers)} peers are answered with ICMP redirects"
            text = f"{link.name}: all.send_redirects is 1: {what}"
            mend = f"{write_command(link.name, everyone)}=0  # and in sysctl.d; or `send_redirects = keep` in the settings"
            yield Finding("redirects", link.name, text, mend)


def fallback(facts: CheckFacts) -> Iterator[Finding]:
    """A name in claims or settings that is the kernel's fallback device."""
    named = {line.pattern: line.where for line in facts.lines if line.kind == "device"}
    named.update({line.value: line.where for line in facts.lines if line.key == "interface"})
    for link in facts.links:
        if is_fallback(link) and (link.name in facts.devices or link.name in named):
            where = f" ({named[link.name]})" if link.name in named else ""
            text = f"{link.name}{where} is the kernel's fallback device (local any, remote any), not a tunnel's"
            mend = "take another name; that device can be neither changed nor deleted"
            yield Finding("fallback-device", link.name, text, mend)


def made_devices(facts: CheckFacts) -> Iterator[Finding]:
    """Devices that `make` made, and whose section says something else by now."""
    for claim in facts.claims:
        if claim.kind != MADE or facts.mistakes:
            continue
        name = bare(claim.device)
        said = resolve(facts.lines, "", name)
        lacks = missing_keys(said)
        try:
            wants = () if lacks else claim_of(name, said, 0, partial(table_in, claim))[0].resources
        except Refused as refusal:
            lacks, wants = refusal.text, ()
        if lacks:
            text = f"{claim.device} was made by `make`, and [device {name}] does not describe it any more: {lacks}"
            yield Finding("made-undescribed", claim.device, text, f"vti-updown release {claim.device}  # or write it again")
        elif wants != claim.resources:
            text = f"[device {name}] was changed after `make` made it"
            yield Finding("made-differs", claim.device, text, f"vti-updown make {name}")


def table_in(claim: Claim, _vrf: str) -> int:
    """The table that a claim's routes and rules are in."""
    return next((want.table for want in claim.resources if isinstance(want, (Route, Rule))), MAIN_TABLE)


def probes(facts: CheckFacts) -> Iterator[Finding]:
    """Far ends that do not answer, and those that cannot be asked; of a device that is missing or down `resources` tells."""
    silent = {device: count for device, (count, _) in facts.missed.items() if count >= MISSES}
    for device, asked in facts.probed.items():
        link = facts.by_name.get(device)
        if isinstance(asked, Answer) and link is not None and link.up:
            stays = "; our routes into it go on yielding" if device in silent else ""
            yield Finding("peer-unasked", device, f"{device}: its far end cannot be asked: {asked.trouble}{stays}", asked.mend)
    for device, count in silent.items():
        way = facts.probed.get(device)
        text = f"{device}: its far end missed {count} probes; our routes into it yield to tunnels that live"
        if isinstance(way, Question):
            inside = f"ip netns exec {netns_of(device)} " if netns_of(device) else ""
            ping = f"{inside}ping -I {bare(device)} -I {way.sources[0]} {way.far}"
            yield Finding("peer-silent", device, text, f"{ping}; {ip(device)} -s link show {bare(device)}  # see why")
        elif way is None:
            text += ", and no tunnel on it is up"
            yield Finding("peer-silent", device, text, "take its tunnel up; an answer brings them back")


def failed(facts: CheckFacts) -> Iterator[Finding]:
    """The last failure of each connection that nothing made up for; a mistake in the settings has a finding of its own."""
    for one in facts.failed:
        if one.text not in (mistake.text for mistake in facts.mistakes):
            again = RECONCILE if ends_something(one.verb) else f"take {one.connection} down and up"
            yield Finding("event-failed", one.connection, told(one, facts.booted), f"{one.hint or 'mend that'}; then {again}")


CHECKS: tuple[Check, ...] = (
    rights,
    settings,
    trust,
    state_space,
    notes,
    access_denied,
    failed,
    fallback,
    claims,
    unclaimed,
    made_devices,
    missing_sas,
    ends,
    moved_devices,
    resources,
    keys,
    shadows,
    own_ends,
    waiting_routes,
    sysctls,
    redirects,
    forwarding,
    other_managers,
    charon_table,
    ways,
    probes,
    counters,
)
"""Another check is one more function here."""


def find(facts: CheckFacts) -> tuple[Finding, ...]:
    """All findings, in the order of the list."""
    return tuple(dict.fromkeys(finding for check in CHECKS for finding in check(facts)))
