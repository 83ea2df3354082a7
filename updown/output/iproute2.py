"""Operations as the iproute2 commands that would do them: the one renderer, for logs, --dry-run and explain."""

from __future__ import annotations

from updown.concerns import mss
from updown.model.objects import HOP_GATEWAY, MAIN_TABLE, Address, Link, Route, Rule, bare, is_any, netns_of
from updown.model.operations import Operation
from updown.model.resources import Clamp, Sysctl
from updown.model.values import escaped
from updown.output.lines import WIDTH

EMPTY = "''"


def command(operation: Operation) -> str:
    """The command line; safe to paste, since every word of it is a validated value."""
    subject = operation.subject
    if isinstance(subject, Link):
        return link(operation.action, subject, operation.before)
    if isinstance(subject, Address):
        verb = operation.action.split()[1][:3]
        return f"{ip(subject.device)} addr {verb} {subject.address} dev {bare(subject.device)}"
    if isinstance(subject, Sysctl):
        netns = netns_of(subject.device)
        there = f"ip netns exec {netns} " if netns else ""
        return f"{there}sysctl -w {subject.path.replace(f'@{netns}', '', 1) if netns else subject.path}={subject.value}"
    if isinstance(subject, Rule):
        return rule(operation.action, subject)
    if isinstance(subject, Clamp):
        return mss.command(operation.action, subject)
    return route(operation.action, subject)


def ip(device: str) -> str:
    """`ip`, in the namespace of the device."""
    return f"ip -n {netns_of(device)}" if netns_of(device) else "ip"


def link(action: str, wanted: Link, before: object) -> str:
    """`ip link add|change|set|del`; "link down" is a set that comes last, "link up" its undoing."""
    if action == "link delete":
        return f"{ip(wanted.name)} link del {bare(wanted.name)}"
    if action == "link state":
        return f"{ip(wanted.name)} link set {bare(wanted.name)} state {'dormant' if wanted.dormant else 'up'}"
    if action in ("link set", "link down", "link up"):
        words = [f"{ip(wanted.name)} link set {bare(wanted.name)}"]
        had = before if isinstance(before, Link) else Link(wanted.name)
        if wanted.mtu and wanted.mtu != had.mtu:
            words.append(f"mtu {wanted.mtu}")
        if wanted.alias != had.alias:
            words.append(f"alias {escaped(wanted.alias) or EMPTY}")
        if wanted.vrf != had.vrf and wanted.vrf:
            words.append(f"master {wanted.vrf}")
        if wanted.up != had.up:
            words.append("up" if wanted.up else "down")
        return " ".join(words)
    makes = action == "link add"  # it is made in the hook's own namespace, and moved
    words = [f"{'ip' if makes else ip(wanted.name)} link {action.split()[1]} {bare(wanted.name)}"]
    if wanted.mtu:
        words.append(f"mtu {wanted.mtu}")
    words.append(f"type {wanted.kind}")
    if wanted.local:
        words.append(f"local {wanted.local} remote {'any' if is_any(wanted.remote) else wanted.remote}")
    if wanted.ikey or wanted.okey:
        same = wanted.ikey == wanted.okey
        words.append(f"key {wanted.ikey}" if same else f"ikey {wanted.ikey} okey {wanted.okey}")
    if wanted.external:
        words.append("external")
    elif wanted.if_id:
        words.append(f"if_id {wanted.if_id}")
    if makes and netns_of(wanted.name):
        words.append(f"&& ip link set {bare(wanted.name)} netns {netns_of(wanted.name)}")
    return " ".join(words)


def route(action: str, wanted: Route) -> str:
    """`ip route add|del|replace|prepend`; attributes that are the default are left out."""
    words = [f"{ip(wanted.device)} route {action.split()[1].replace('delete', 'del')} {wanted.destination}"]
    if wanted.if_id:
        words.append(f"encap xfrm if_id {wanted.if_id}")
    if wanted.gateway:
        words.append(f"via {wanted.gateway}")
    if not wanted.hops or "delete" in action:
        words.append(f"dev {bare(wanted.device)}")
    if wanted.table != MAIN_TABLE:
        words.append(f"table {wanted.table}")
    words.append(f"proto {wanted.protocol}")
    if wanted.metric and not (wanted.metric == 1024 and ":" in wanted.destination):
        words.append(f"metric {wanted.metric}")
    if wanted.mtu:
        words.append(f"mtu {wanted.mtu}")
    if wanted.source:
        words.append(f"src {wanted.source}")
    if wanted.hops and "delete" not in action:
        via = f"via {HOP_GATEWAY} " if ":" in wanted.destination else ""
        words += [f"nexthop {via}dev {bare(name)}" for name in wanted.devices]
    return " ".join(words)


def rule(action: str, wanted: Rule) -> str:
    """`ip rule add|del`."""
    six = "-6 " if wanted.family == 6 else ""
    words = [f"{ip(wanted.device)} {six}rule {action.split()[1].replace('delete', 'del')} priority {wanted.priority}"]
    if wanted.source:
        words.append(f"from {wanted.source}")
    if wanted.iif:
        words.append(f"iif {wanted.iif}")
    if wanted.fwmask:
        exact = wanted.fwmask == 0xFFFFFFFF
        words.append(f"fwmark {wanted.fwmark:#x}" + ("" if exact else f"/{wanted.fwmask:#x}"))
    words.append(f"lookup {wanted.table} protocol {wanted.protocol}")
    return " ".join(words)


def wrapped(text: str, width: int = WIDTH) -> list[str]:
    """`text` in lines of at most `width` characters, broken at blanks; all but the last end in a backslash."""
    lines: list[str] = []
    rest = text
    while len(rest) > width:
        cut = rest.rfind(" ", 1, width - 2)
        if cut <= 0:
            cut = width - 2
        lines.append(rest[:cut].rstrip() + " \\")
        rest = "    " + rest[cut:].lstrip()
    return [*lines, rest]
