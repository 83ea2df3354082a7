"""Findings about the machine around our tunnels: who may write what we believe, forwarding, routes, other managers, counters.
Pure, as findings.py."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from updown.commands.check.facts import RECONCILE, CheckFacts, Finding, again, appended
from updown.concerns import routes as routing
from updown.concerns.sysctls import conf
from updown.model.claims import LIBRESWAN, REVIVE, SA, TRAP, is_permanent
from updown.model.objects import Route, family, netns_of

PERSISTENT = "/etc/sysctl.d/90-vti-updown.conf"
IP_FORWARD = "net/ipv4/ip_forward"
SIX_FORWARD = "net/ipv6/conf/all/forwarding"

STATES, POLICIES = "ip -s xfrm state", "ip -s xfrm policy"
COUNTERS = {
    "XfrmInError": ("came in and failed for a reason without a counter of its own", "dmesg"),
    "XfrmInBufferError": ("came in and found no memory", "free"),
    "XfrmInHdrError": ("came in with a header that is none", "tcpdump -ni any esp or udp port 4500"),
    "XfrmInNoStates": ("came in by an SPI that no SA here has: the peer has an SA that is over here", STATES),
    "XfrmInStateProtoError": ("came in and could not be decrypted: both ends have other keys or algorithms", STATES),
    "XfrmInStateModeError": ("came in by an SA of another mode (tunnel, transport)", STATES),
    "XfrmInStateSeqError": ("came in again, or too late for the replay window", "write a larger replay window (replay-window)"),
    "XfrmInStateExpired": ("came in by an SA that has expired", STATES),
    "XfrmInStateMismatch": ("came in with, or without, UDP encapsulation against what the SA says", STATES),
    "XfrmInStateInvalid": ("came in by an SA that is not complete, or just goes", STATES),
    "XfrmInStateDirError": ("came in by an SA for the other direction", STATES),
    "XfrmInTmplMismatch": ("came in by another SA than their policy asks for, or in clear where it asks for one", POLICIES),
    "XfrmInNoPols": ("came in by an SA, and no policy of their selectors and mark, or if_id, lets them in", POLICIES),
    "XfrmInPolBlock": ("came in and are blocked by a policy", POLICIES),
    "XfrmInPolError": ("came in, and looking for their policy failed", POLICIES),
    "XfrmAcquireError": ("came in by an SA that is not negotiated yet", STATES),
    "XfrmFwdHdrError": ("to be forwarded could not be read", POLICIES),
    "XfrmOutError": ("going out failed for a reason without a counter of its own", "dmesg"),
    "XfrmOutBundleGenError": ("going out found no way to the peer, or an SA that cannot carry them", "ip route get PEER"),
    "XfrmOutBundleCheckError": ("going out had an SA or way that went meanwhile", STATES),
    "XfrmOutNoStates": ("going out have a policy, and no SA behind it: no tunnel is up for them", STATES),
    "XfrmOutStateProtoError": ("going out could not be encrypted", STATES),
    "XfrmOutStateModeError": ("going out are too large for an SA of this mode, or it is wrong for them", "set `mtu` lower"),
    "XfrmOutStateSeqError": ("going out found the SA's numbers used up: it was not rekeyed in time", STATES),
    "XfrmOutStateExpired": ("going out had an SA that has expired", STATES),
    "XfrmOutPolBlock": ("going out are blocked by a policy: of a tunnel that is down, or a failure shunt", POLICIES),
    "XfrmOutPolDead": ("going out had a policy that just goes", POLICIES),
    "XfrmOutPolError": ("going out, and looking for their policy failed", POLICIES),
    "XfrmOutStateInvalid": ("going out had an SA that is not complete, or just goes", STATES),
    "XfrmOutStateDirError": ("going out had an SA for the other direction", STATES),
}
"""What packets that /proc/net/xfrm_stat counts met (Documentation/networking/xfrm_proc.rst), and where to look."""


def trust(facts: CheckFacts) -> Iterator[Finding]:
    """What others than root may write, and root would believe: one finding for each kind of it."""
    told = set()
    uses = {"settings": "and could tell root what to do", "code": "and root runs it", "state": "and so what we believe"}
    for one in facts.machine.writable:
        if one.what not in told:
            told.add(one.what)
            text = f"{one.path}: {one.writer} may write it, {uses[one.what]}"
            mend = f"chown -R root:root {one.top} && chmod -R go-w {one.top}"
            yield Finding(f"{one.what}-writable", one.path, text, mend)


def state_space(facts: CheckFacts) -> Iterator[Finding]:
    """A state directory that cannot be written: no event could be counted, so none would be served."""
    for code, path, mount in facts.machine.unusable:
        if code == "state-full":
            text = f"{path}: the file system {mount} is full: no event can be counted"
            mend = f"mount -o remount,size=75%,nr_inodes=0 {mount}  # a tmpfs; else free space: du -xh {mount} | sort -h | tail"
        else:
            text = f"{path}: the file system {mount} is read-only: no event can be counted"
            mend = f"mount -o remount,rw {mount}  # of a container or a unit: make it writable there (ReadWritePaths=)"
        yield Finding(code, path, text, mend)


def forwarding(facts: CheckFacts) -> Iterator[Finding]:
    """Packets between a network behind us and the tunnel: IPv4 asks the device that they come in by, IPv6 all of them
    (net/ipv4/route.c ip_route_input_slow, net/ipv6/ip6_output.c ip6_forward)."""
    told = set()
    for one in facts.machine.networks:
        six = family(one.network) == 6
        path = SIX_FORWARD if six else conf("ipv4", one.device, "forwarding")
        if facts.sysctls.get(path) != "0" or (path, one.device) in told:
            continue
        told.add((path, one.device))
        line = path if six or facts.sysctls.get(IP_FORWARD) != "0" else IP_FORWARD
        text = f"{one.device}: {line} is 0: packets from {one.network}, behind it, do not reach {one.tunnel}"
        yield Finding("forwarding-off", one.device, text, f"{appended((f'{line} = 1',), PERSISTENT)}; sysctl -p {PERSISTENT}")


def own_ends(facts: CheckFacts) -> Iterator[Finding]:
    """A live SA from an address that this machine does not have any more: nothing comes back to it. And a tunnel that waits to
    come back from there, or whose move pluto began and cannot finish (5.2): nobody will tell of it."""
    told, over = set(), {claim.key for claim, _ in facts.audit.ended}
    for claim in facts.claims:
        me = claim.sa.me
        waits = claim.kind == REVIVE and (is_permanent(claim) or claim.sa.daemon != LIBRESWAN)
        if waits and me in facts.machine.moved_away and claim.key not in over:
            text = f"{claim.connection} waits to come back from {me}, which is no address of this machine any more: it is dead"
            name = shlex.quote(claim.connection.rsplit("/", 1)[0])  # pluto's NAME/1x2 is conn NAME
            replace = f"ipsec auto --replace {name}; ipsec whack --initiate --name {name}"
            mend = replace if claim.sa.daemon == LIBRESWAN else again(claim.sa.daemon, claim.connection)
            more = f"  # where its own end is {me} by name, `ip addr add` it before; without the connection: {RECONCILE}"
            yield Finding("address-gone", claim.connection, text, mend + more)
        elif claim.kind in (SA, REVIVE) and claim.key not in over and me in facts.machine.moved_away and me not in told:
            told.add(me)
            length = 128 if family(me) == 6 else 32
            text = f"{claim.connection}: its own end {me} is no address of this machine any more: nothing comes back to it"
            where = claim.sa.underlay or "UPLINK"
            mend = f"ip addr add {me}/{length} dev {where}  # or give the daemon the address of now, and take it down and up"
            yield Finding("address-gone", claim.connection, text, mend)


def waiting_routes(facts: CheckFacts) -> Iterator[Finding]:
    """Routes that wait, since another claim's of the same prefix and metric stands there."""
    names = {link.ifindex: link.name for link in facts.links if not netns_of(link.name)}
    seen = [one for one in facts.machine.ours if one.oif]
    ours = [Route(one.destination, names.get(one.oif, ""), "", one.table, one.metric) for one in seen]
    whole = [routing.stands_for(route) or route for route in ours]
    there = {(route.destination, route.table, route.metric): route.device for route in whole}
    holders: dict[tuple[str, str], str] = {}
    asked = [(claim, want) for claim in facts.claims for want in claim.resources if isinstance(want, Route)]
    for claim, want in asked:
        holders.setdefault((routing.key(want), want.device), claim.connection)
    told = set()
    for claim, want in asked:
        device = there.get((want.destination, want.table, want.metric), "")
        holder = holders.get((routing.key(want), device), "")
        if claim.kind == SA and holder and device not in want.devices and claim.connection not in told:
            told.add(claim.connection)
            held = f"{want.destination} is held by {holder} on {device}"
            text = f"{claim.connection}: {held}, and its own route on {want.device} waits"
            lines = (f"[connection {claim.connection}]", f"metric = {want.metric + 50}")
            yield Finding("route-waits", claim.connection, text, f"{appended(lines, facts.config)}; {RECONCILE}")


def other_managers(facts: CheckFacts) -> Iterator[Finding]:
    """Devices of ours that a network manager configures too: it takes away what it does not know."""
    for device, manager in facts.machine.managers.items():
        text = f"{device}: {manager} manages it too, and takes away addresses and routes that it does not know"
        if manager == "systemd-networkd":
            file = "/etc/systemd/network/05-vti-updown.network"
            lines, then = ("[Match]", f"Name={device}", "[Link]", "Unmanaged=yes"), "networkctl reload"
        else:
            file = f"/etc/NetworkManager/conf.d/vti-updown-{device}.conf"
            lines = (f"[device-{device}]", f"match-device=interface-name:{device}", "managed=0", "")
            then = f"nmcli general reload; nmcli device set {device} managed no"
        yield Finding("managed-by-other", device, text, f"{appended(lines, file)}; {then}")


def counters(facts: CheckFacts) -> Iterator[Finding]:
    """What the kernel dropped since the last look. The first packet of a tunnel on demand is dropped in any case."""
    on_demand = any(claim.kind in (TRAP, REVIVE) for claim in facts.claims)
    for name, count in (facts.machine.counted or {}).items():
        if count > 0 and not (on_demand and name == "XfrmOutNoStates"):
            meaning, look = COUNTERS.get(name, ("met something that this release does not know", STATES))
            text = f"{name}: {count} packets since the last look: they {meaning}"
            yield Finding("xfrm-stat", name, text, look)
