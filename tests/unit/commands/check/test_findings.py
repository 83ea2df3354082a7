"""What `check` finds in given facts, as a table."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.machine import EAST, THIRD, WEST
from tests.kit.settings_text import parse
from updown.commands.check.facts import CheckFacts, Denial, Finding, LocalNetwork, MachineFacts, Mistake, Writable
from updown.commands.check.findings import CHECKS, find
from updown.commands.reconcile.decide import Audit, End
from updown.commands.reconcile.edits import Edit
from updown.daemons.answer import ChildSa
from updown.kernel.netlink.route_messages import RouteSeen
from updown.kernel.ping import Answer, Question
from updown.ledger.failures import Failure
from updown.ledger.liveness import Missed
from updown.model.claims import MADE, NO_SA, Claim
from updown.model.ipsec import Database, Key, Policy, Sa, State
from updown.model.objects import Link, Route
from updown.model.resources import DeletionRule, Device, Sysctl

M32 = 0xFFFFFFFF
VTI = Link("vti5", "vti", 5, WEST, EAST, 5, 5, mtu=1480, up=True, alias="vti-updown")
WIDE = Link("wide", "vti", 9, WEST, "0.0.0.0", 9, 9, mtu=1480, up=True, alias="vti-updown")
FALLBACK = Link("ip_vti0", "vti", 2, "0.0.0.0", "0.0.0.0")
ABOUT = NO_SA._replace(daemon="libreswan", me=WEST, peer=EAST, my_client="10.1.0.0/24", peer_client="10.2.0.0/24")
ROUTE = Route("10.2.0.0/24", "vti5")


def held(link: Link, *more: Any, peer: str = EAST) -> Claim:
    """A claim of kind sa on a device."""
    want = Device(link._replace(ifindex=0, up=False, alias=""), shared=False, with_last=True)
    sa = ABOUT._replace(peer=peer)
    return Claim("k" + link.name, "sa", "t", "t", "g", link.name, DeletionRule(False, True), resources=(want, *more), sa=sa)


def policies(out: int, come: int, peer: str = EAST, me: str = WEST) -> Database:
    return Database(
        (
            Policy("out", "10.1.0.0/24", "10.2.0.0/24", ends=((me, peer),), key=Key(out, M32)),
            Policy("in", "10.2.0.0/24", "10.1.0.0/24", ends=((peer, me),), key=Key(come, M32)),
        ),
        (State(me, peer, 1, 1, Sa(50, 1, 4), Key(out, M32)), State(peer, me, 2, 1, Sa(50, 1, 4), Key(come, M32))),
    )


GOOD = CheckFacts(
    claims=(held(VTI, ROUTE),),
    links=(Link("lo", ifindex=1, up=True), FALLBACK, VTI),
    sysctls={"net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/vti5/rp_filter": "0"},
    xfrm=policies(5, 5),
)
SHARED = GOOD._replace(claims=(held(WIDE, peer=THIRD),), links=(FALLBACK, WIDE), xfrm=policies(9, 9, THIRD))
QUIET = Sysctl("wide", "net/ipv4/conf/wide/send_redirects", "0")
HUB = SHARED._replace(
    claims=(held(WIDE, QUIET, peer=THIRD), held(WIDE, QUIET)._replace(key="other")),
    sysctls={"net/ipv4/conf/all/send_redirects": "1", "net/ipv4/conf/wide/forwarding": "1"},
)
NARROW = Link("narrow", "vti", 11, WEST, THIRD, 3, 3, up=True)
UP = ChildSa("libreswan", "x", WEST, THIRD, 7, 8)
CHARON_UP = ChildSa("strongswan", "x", WEST, THIRD, unique_id=1, if_id_in=7, if_id_out=7, wants_device=True)
OWN = ChildSa("libreswan", "t", WEST, EAST, 2, 1)
BEHIND = GOOD._replace(machine=MachineFacts(networks=(LocalNetwork("10.1.0.0/24", "lan0", "vti5"),)))


ASKED = Question("vti5", "10.2.0.1", ("10.1.0.1",), ("vti5",))
UNASKED = Answer(trouble="no address of this machine is in 10.1.0.0/24", mend="put one there")


def lines(text: str) -> Any:
    return tuple(parse(text, "f"))


CASES: dict[str, tuple[CheckFacts, list[str]]] = {
    "in order": (GOOD, []),
    "a shared device in order": (SHARED, []),
    "a trap's policy has no ends": (
        GOOD._replace(
            xfrm=Database((Policy("out", "10.1.0.0/24", "10.2.0.0/24", ends=(("0.0.0.0", "0.0.0.0"),), key=Key(5, M32)),))
        ),
        [],
    ),
    "an inbound SA without a mark": (
        GOOD._replace(xfrm=policies(5, 5)._replace(states=(State(EAST, WEST, 2, 1, Sa(50, 1, 4)),))),
        [],
    ),
    "not root": (GOOD._replace(root=False, xfrm=None), ["not run as root"]),
    "no capability": (GOOD._replace(xfrm=None), ["the kernel's IPsec policies cannot be read"]),
    "a failure": (
        GOOD._replace(failed=(Failure("t", "up-client", 0, 3, "conflict", "vti5 is not ours"),)),
        ["t: up-client failed at 1970-01-01"],
    ),
    "a mistake": (GOOD._replace(mistakes=(Mistake("f:2: unknown key x", "", "f:2"),)), ["f:2: unknown key x"]),
    "stale remote": (GOOD._replace(xfrm=policies(5, 5, THIRD)), ["vti5 has ends 198.51.100.1 - 198.51.100.2, its IPsec"]),
    "stale local": (GOOD._replace(xfrm=policies(5, 5, me=THIRD)), ["vti5 has ends"]),
    "stale local of a shared device": (SHARED._replace(xfrm=policies(9, 9, THIRD, "198.51.100.9")), ["wide has ends"]),
    "one of two peers on a key has the device's ends": (
        GOOD._replace(xfrm=Database(policies(5, 5).policies + policies(5, 5, THIRD).policies)),
        [],
    ),
    "out by another mark": (
        GOOD._replace(xfrm=policies(7, 5)),
        ["vti5 sends with key 5, but the IPsec policies (out) between its ends have mark 7"],
    ),
    "in by another mark": (GOOD._replace(xfrm=policies(5, 7)), ["vti5 takes in with key 5, but the IPsec policies (in)"]),
    "both by another mark": (GOOD._replace(xfrm=policies(7, 7)._replace(states=())), ["vti5 sends with key 5"]),
    "no marks at all": (
        GOOD._replace(xfrm=Database((Policy("out", "10.1.0.0/24", "10.2.0.0/24", ends=((WEST, EAST),)),))),
        ["vti5 sends with key 5, but the IPsec policies (out) between its ends have no mark"],
    ),
    "a masked mark that fits": (
        GOOD._replace(xfrm=Database((Policy("out", "10.1.0.0/24", "10.2.0.0/24", ends=((WEST, EAST),), key=Key(5, 0xF)),))),
        [],
    ),
    "half of a shared device": (SHARED._replace(xfrm=policies(9, 8, THIRD)), ["wide takes in with key 9"]),
    "another tunnel from a shared device's address": (
        SHARED._replace(xfrm=Database(policies(9, 9, THIRD).policies + policies(4, 4).policies)),
        [],
    ),
    "a shared device without policies, beside another tunnel from its address": (SHARED._replace(xfrm=policies(4, 4)), []),
    "an if_id without interface": (
        GOOD._replace(xfrm=Database((Policy("out", "10.1.0.0/24", "10.3.0.0/24", key=Key(if_id=7)),))),
        ["IPsec policies have if_id 7"],
    ),
    "an external interface has every if_id": (
        GOOD._replace(
            links=(*GOOD.links, Link("ipsec", "xfrm", 12, external=True)),
            xfrm=Database((Policy("out", "10.1.0.0/24", "10.3.0.0/24", key=Key(if_id=7)),)),
        ),
        [],
    ),
    "strict by the device": (GOOD._replace(sysctls={"net/ipv4/conf/vti5/rp_filter": "1"}), ["vti5: rp_filter is 1 (strict)"]),
    "strict by all": (
        GOOD._replace(sysctls={"net/ipv4/conf/all/rp_filter": "1", "net/ipv4/conf/vti5/rp_filter": "0"}),
        ["vti5: all.rp_filter is 1 (strict)"],
    ),
    "loose beats strict": (
        GOOD._replace(sysctls={"net/ipv4/conf/all/rp_filter": "1", "net/ipv4/conf/vti5/rp_filter": "2"}),
        [],
    ),
    "a hub that sends redirects": (HUB, ["wide: all.send_redirects is 1: packets between its 2 peers are answered"]),
    "a hub that sends none": (HUB._replace(sysctls={**HUB.sysctls, "net/ipv4/conf/all/send_redirects": "0"}), []),
    "a hub that does not forward": (HUB._replace(sysctls={**HUB.sysctls, "net/ipv4/conf/wide/forwarding": "0"}), []),
    "a hub that is to send redirects": (HUB._replace(claims=(held(WIDE, peer=THIRD), held(WIDE)._replace(key="other"))), []),
    "one peer has nobody to be led to": (HUB._replace(claims=HUB.claims[:1]), []),
    "disable_xfrm": (GOOD._replace(sysctls={"net/ipv4/conf/vti5/disable_xfrm": "1"}), ["vti5: disable_xfrm is 1"]),
    "charon's route": (
        GOOD._replace(charon_routes=(RouteSeen("10.2.0.0/24", 1, table=220),)),
        ["table 220 has a route to 10.2.0.0/24 (dev lo)"],
    ),
    "charon's wider route": (
        GOOD._replace(charon_routes=(RouteSeen("10.0.0.0/8", 1, table=220),)),
        ["table 220 has a route to 10.0.0.0/8"],
    ),
    "charon's route elsewhere": (GOOD._replace(charon_routes=(RouteSeen("10.3.0.0/24", 1, table=220),)), []),
    "charon's route by our device": (GOOD._replace(charon_routes=(RouteSeen("10.2.0.0/24", 5, table=220),)), []),
    "packets by a route of somebody's": (
        GOOD._replace(other_ways=((ROUTE._replace(metric=10), Route("10.2.0.0/24", "eth0", metric=5, protocol=4)),)),
        ["packets to 10.2.0.0/24 leave outside of vti5, in clear: a route dev eth0 that is not ours is first"],
    ),
    "packets by another tunnel that claims ask for": (
        GOOD._replace(claims=(held(VTI, ROUTE), held(WIDE)), other_ways=((ROUTE, Route("10.2.0.0/24", "wide", protocol=4)),)),
        [],
    ),
    "packets while the device is down": (
        GOOD._replace(links=(VTI._replace(up=False),), other_ways=((ROUTE, Route("0.0.0.0/0", "eth0", protocol=4)),)),
        [],
    ),
    "packets by a table of charon's": (GOOD._replace(other_ways=((ROUTE, Route("10.2.0.0/24", "eth0", table=220)),)), []),
    "a device that was moved": (
        GOOD._replace(moved=(("vti5", VTI._replace(name="vti5@red")),)),
        ["vti5 was moved into the network namespace red; it keeps its ends or if_id"],
    ),
    "the fallback device by its name": (
        GOOD._replace(lines=lines("[device vti0]\nmtu = 1400\n"), links=(FALLBACK._replace(name="vti0"), VTI)),
        ["vti0 (f:2) is the kernel's fallback device"],
    ),
    "the fallback device under another name": (
        GOOD._replace(lines=lines("[connection c]\ninterface = vti0\n"), links=(FALLBACK._replace(name="vti0"), VTI)),
        ["vti0 (f:2) is the kernel's fallback device"],
    ),
    "a shadow": (SHARED._replace(links=(WIDE, NARROW)), ["narrow (remote 198.51.100.3, key 3) takes in what wide"]),
    "a shadow that is down": (SHARED._replace(links=(WIDE, NARROW._replace(up=False))), []),
    "a device for a peer that the wide one does not serve": (SHARED._replace(links=(WIDE, NARROW._replace(remote=EAST))), []),
    "a device from another address": (SHARED._replace(links=(WIDE, NARROW._replace(local=EAST))), []),
    "a silent far end": (
        GOOD._replace(missed={"vti5": Missed(3, 0), "vti6": Missed(2, 0)}, probed={"vti5": ASKED, "vti6": ASKED}),
        ["vti5: its far end missed 3 probes; our routes into it yield to tunnels that live"],
    ),
    "a silent far end of a tunnel that waits": (
        GOOD._replace(missed={"vti5": Missed(3, 0)}),
        ["vti5: its far end missed 3 probes; our routes into it yield to tunnels that live, and no tunnel on it is up"],
    ),
    "a far end that cannot be asked, since the device is down": (
        GOOD._replace(links=(VTI._replace(up=False),), probed={"vti5": UNASKED}),
        [],
    ),
    "a far end that cannot be asked": (
        GOOD._replace(missed={"vti5": Missed(2, 0)}, probed={"vti5": UNASKED}),
        ["vti5: its far end cannot be asked: no address of this machine is in 10.1.0.0/24"],
    ),
    "a silent far end that cannot be asked": (
        GOOD._replace(missed={"vti5": Missed(3, 0)}, probed={"vti5": UNASKED}),
        ["vti5: its far end cannot be asked: no address of this machine is in 10.1.0.0/24; our routes into it go on yielding"],
    ),
    "a claim without a tunnel": (
        GOOD._replace(audit=Audit(ended=(End(GOOD.claims[0], "pluto has no child SA of it"),))),
        ["t: claim sa holds vti5, but pluto has no child SA of it"],
    ),
    "a claim made under other settings": (
        GOOD._replace(audit=Audit(edited=((GOOD.claims[0], (Edit("no address", "address vti5 10.99.0.5/30", ("f:4",)),)),))),
        ["t: claim sa was made under other settings: no address -> address vti5 10.99.0.5/30 (f:4)"],
    ),
    "the same, with a mistake in the files": (
        GOOD._replace(
            mistakes=(Mistake("f:3: unknown key x", "", "f:3"),),
            audit=Audit(edited=((GOOD.claims[0], (Edit("address vti5 10.99.0.5/30", "no address", ("f:4",)),)),)),
        ),
        ["f:3: unknown key x"],
    ),
    "a move the daemon tells of": (
        GOOD._replace(audit=Audit(moved=(GOOD.claims[0]._replace(sa=ABOUT._replace(peer=THIRD)),))),
        ["vti5: the ends of t are now 198.51.100.1 - 198.51.100.3"],
    ),
    "a move that both tell of": (
        GOOD._replace(xfrm=policies(5, 5, THIRD), audit=Audit(moved=(GOOD.claims[0],))),
        ["vti5 has ends"],
    ),
    "something is lacking": (
        GOOD._replace(lacking=(Finding("program-missing", "f:2", "f:2: mss needs nft", "install"),)),
        ["f:2: mss needs nft"],
    ),
    "a tunnel that no claim counts, with a VTI and our hook": (
        GOOD._replace(audit=Audit(uncounted=(UP._replace(device="vti6", calls_us=True),))),
        ["pluto has x up (198.51.100.1 - 198.51.100.3) and no claim counts it"],
    ),
    "the same under mistakes in the settings, which are the cause": (
        GOOD._replace(
            audit=Audit(uncounted=(UP._replace(device="vti6", calls_us=True),)), mistakes=(Mistake("f:2: no", "", "f:2"),)
        ),
        ["f:2: no"],
    ),
    "of one whose event failed that tells": (
        GOOD._replace(
            audit=Audit(uncounted=(UP._replace(device="vti6", calls_us=True),)),
            failed=(Failure(UP.connection, "up-client", 1, 3, "conflict", "vti6 is taken"),),
        ),
        ["x: up-client"],
    ),
    "one that is told in any case: another hook": (
        GOOD._replace(
            audit=Audit(uncounted=(UP._replace(device="vti7", calls_us=False),)),
            failed=(Failure(UP.connection, "up-client", 1, 3, "conflict", "vti7 is taken"),),
        ),
        ["x: up-client", "pluto has x up (198.51.100.1 - 198.51.100.3) and does not call vti-updown"],
    ),
    "what AppArmor denies to us": (
        GOOD._replace(machine=MachineFacts(denied=(Denial("p", "open", "f", '"f" r,'),))),
        ["AppArmor's profile p denied: open f"],
    ),
    "a policy-based tunnel is not for us": (GOOD._replace(audit=Audit(uncounted=(UP._replace(calls_us=True),))), []),
    "one of the stock script, with its device": (
        GOOD._replace(
            audit=Audit(uncounted=(UP._replace(device="vti7", calls_us=False),)),
            links=(*GOOD.links, Link("vti7", "vti", 8, WEST)),
        ),
        [],
    ),
    "one of the stock script, without": (
        GOOD._replace(audit=Audit(uncounted=(UP._replace(device="vti7", calls_us=False),))),
        ["pluto has x up (198.51.100.1 - 198.51.100.3) and does not call vti-updown"],
    ),
    "one that the settings name, and that does not call us": (
        GOOD._replace(
            audit=Audit(uncounted=(UP._replace(device="vti7", calls_us=False),)),
            links=(*GOOD.links, Link("vti7", "vti", 8, WEST)),
            lines=lines("[connection x]\ninterface = vti7\n"),
        ),
        ["pluto has x up (198.51.100.1 - 198.51.100.3) and does not call vti-updown"],
    ),
    "a policy-based one of the stock script, with a template for all": (
        GOOD._replace(
            audit=Audit(uncounted=(UP._replace(calls_us=False),)), lines=lines("[defaults]\ninterface = vti{mark}\n")
        ),
        [],
    ),
    "one of the stock script with a mark alone": (
        GOOD._replace(audit=Audit(uncounted=(UP._replace(calls_us=False, mark_out=7),))),
        [],
    ),
    "a template that has no value for it": (
        GOOD._replace(audit=Audit(uncounted=(CHARON_UP,)), lines=lines("[connection x]\ninterface = vti{mark}\n")),
        ["charon has x up (198.51.100.1 - 198.51.100.3) and no device is named for it"],
    ),
    "strongSwan's child without a name for its device": (
        GOOD._replace(audit=Audit(uncounted=(CHARON_UP,))),
        ["charon has x up (198.51.100.1 - 198.51.100.3) and no device is named for it"],
    ),
    "two SAs of it are one finding": (
        GOOD._replace(audit=Audit(uncounted=(CHARON_UP, CHARON_UP._replace(unique_id=2)))),
        ["charon has x up"],
    ),
    "one that somebody's own interface serves": (
        GOOD._replace(audit=Audit(uncounted=(CHARON_UP,)), links=(*GOOD.links, Link("own7", "xfrm", 9, if_id=7))),
        [],
    ),
    "one whose device is taken": (
        GOOD._replace(
            audit=Audit(uncounted=(CHARON_UP,)),
            links=(*GOOD.links, Link("tun", "dummy", 9)),
            lines=lines("[connection x]\ninterface = tun\n"),
        ),
        ["charon has x up (198.51.100.1 - 198.51.100.3), and tun is there and not ours (dummy)"],
    ),
    "its SAs are flushed": (
        GOOD._replace(xfrm=policies(5, 5)._replace(states=()), audit=Audit(child_of={"kvti5": OWN})),
        ["t: pluto has it up, but the kernel lacks the SA 0x2 (in) and the SA 0x1 (out)"],
    ),
    "its policies are flushed": (
        GOOD._replace(xfrm=policies(5, 5)._replace(policies=()), audit=Audit(child_of={"kvti5": OWN})),
        ["t: pluto has it up, but the kernel lacks a policy 10.1.0.0/24 -> 10.2.0.0/24"],
    ),
    "one of two is, as while it is rekeyed": (
        GOOD._replace(children=(OWN, OWN._replace(spi_in=9)), audit=Audit(child_of={"kvti5": OWN._replace(spi_in=9)})),
        [],
    ),
    "a selector that is no prefix": (
        GOOD._replace(
            claims=(GOOD.claims[0]._replace(sa=ABOUT._replace(peer_client="10.2.0.0-10.2.0.9")),),
            xfrm=policies(5, 5)._replace(policies=()),
            audit=Audit(child_of={"kvti5": OWN}),
        ),
        [],
    ),
    "all of it is there": (GOOD._replace(audit=Audit(child_of={"kvti5": OWN})), []),
    "settings, code and state that others may write, each once": (
        GOOD._replace(
            machine=MachineFacts(
                (
                    Writable("settings", "/etc/vti-updown/conf.d", "group 7", "/etc/vti-updown/conf.d"),
                    Writable("code", "/usr/lib/updown/a.py", "everybody", "/usr/lib/updown"),
                    Writable("code", "/usr/lib/updown/b.py", "everybody", "/usr/lib/updown"),
                    Writable("state", "/run/vti-updown", "user 7", "/run/vti-updown"),
                )
            )
        ),
        ["/etc/vti-updown/conf.d: group 7 may", "/usr/lib/updown/a.py: everybody may", "/run/vti-updown: user 7 may"],
    ),
    "a full and a read-only state directory": (
        GOOD._replace(
            machine=MachineFacts(unusable=(("state-full", "/run/vti-updown", "/run"), ("state-read-only", "/var/x", "/var")))
        ),
        ["/run/vti-updown: the file system /run is full", "/var/x: the file system /var is read-only"],
    ),
    "no forwarding at all": (
        BEHIND._replace(sysctls={"net/ipv4/ip_forward": "0", "net/ipv4/conf/lan0/forwarding": "0"}),
        ["lan0: net/ipv4/ip_forward is 0: packets from 10.1.0.0/24"],
    ),
    "no forwarding on the local network's device": (
        BEHIND._replace(sysctls={"net/ipv4/ip_forward": "1", "net/ipv4/conf/lan0/forwarding": "0"}),
        ["lan0: net/ipv4/conf/lan0/forwarding is 0: packets from 10.1.0.0/24"],
    ),
    "forwarding": (BEHIND._replace(sysctls={"net/ipv4/ip_forward": "0", "net/ipv4/conf/lan0/forwarding": "1"}), []),
    "no forwarding of IPv6, which asks all": (
        BEHIND._replace(
            machine=MachineFacts(networks=(LocalNetwork("fd00:1::/64", "lan0", "vti5"),)),
            sysctls={"net/ipv6/conf/all/forwarding": "0"},
        ),
        ["lan0: net/ipv6/conf/all/forwarding is 0: packets from fd00:1::/64"],
    ),
    "an end that is gone": (
        GOOD._replace(machine=MachineFacts(moved_away=frozenset((WEST,)))),
        ["t: its own end 198.51.100.1 is no address of this machine any more"],
    ),
    "an end that is gone, of a tunnel that waits, or whose move was begun": (
        GOOD._replace(
            claims=(GOOD.claims[0]._replace(kind="revive", tunnel='["t"]'),),
            machine=MachineFacts(moved_away=frozenset((WEST,))),
        ),
        ["t waits to come back from 198.51.100.1, which is no address of this machine any more"],
    ),
    "the same where reconcile ends it": (
        GOOD._replace(
            claims=(GOOD.claims[0]._replace(kind="revive"),),
            audit=Audit(ended=(End(GOOD.claims[0]._replace(kind="revive"), "pluto has no such connection"),)),
            machine=MachineFacts(moved_away=frozenset((WEST,))),
        ),
        ["t: claim revive holds vti5"],
    ),
    "a route that waits": (
        GOOD._replace(
            claims=(*GOOD.claims, held(NARROW, ROUTE._replace(device="narrow"))._replace(connection="u")),
            links=(*GOOD.links, NARROW),
            machine=MachineFacts(ours=(RouteSeen("10.2.0.0/24", 5, table=254),)),
        ),
        ["u: 10.2.0.0/24 is held by t on vti5, and its own route on narrow waits"],
    ),
    "a route that waits for two halves": (
        GOOD._replace(
            claims=(*GOOD.claims, held(NARROW, ROUTE._replace(device="narrow"))._replace(connection="u")),
            links=(*GOOD.links, NARROW),
            machine=MachineFacts(ours=(RouteSeen("10.2.0.0/25", 5, table=254, metric=160_000),)),
        ),
        ["u: 10.2.0.0/24 is held by t on vti5, and its own route on narrow waits"],
    ),
    "networkd": (
        GOOD._replace(machine=MachineFacts(managers={"vti5": "systemd-networkd"})),
        ["vti5: systemd-networkd manages"],
    ),
    "counters": (
        GOOD._replace(machine=MachineFacts(counted={"XfrmInNoPols": 2, "XfrmInError": 0, "XfrmNew": 1})),
        ["XfrmInNoPols: 2 packets since the last look: they came in by an SA, and no", "XfrmNew: 1 packets since"],
    ),
    "a tunnel on demand drops its first packet": (
        GOOD._replace(
            claims=(GOOD.claims[0]._replace(kind="trap"),),
            machine=MachineFacts(counted={"XfrmOutNoStates": 1, "XfrmInError": 1}),
        ),
        ["XfrmInError: 1 packets"],
    ),
    "no counters": (GOOD._replace(machine=MachineFacts(counted=None)), ["/proc/net/xfrm_stat cannot be read"]),
    "made, and not described any more": (
        GOOD._replace(claims=(held(VTI)._replace(kind=MADE),)),
        ["vti5 was made by `make`, and [device vti5] does not describe it any more: a VTI needs"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_facts_and_what_is_found_in_them(case: str) -> None:
    facts, wanted = CASES[case]
    found = find(facts)
    assert [finding.text[: len(text)] for finding, text in zip(found, wanted)] == wanted
    assert len(found) == len(wanted), found
    assert all(finding.mend for finding in found)


def test_the_table_has_a_case_for_every_check() -> None:
    """`resources` has its own below: it needs a plan of reconcile's."""
    silent = {check.__name__ for check in CHECKS if not any(list(check(facts)) for facts, _ in CASES.values())}
    assert silent == {"resources"}


@pytest.mark.parametrize(
    ("device", "mend"),
    [
        ("vti5", "ping -I vti5 -I 10.1.0.1 10.2.0.1; ip -s link show vti5  # see why"),
        ("vti5@red", "ip netns exec red ping -I vti5 -I 10.1.0.1 10.2.0.1; ip -n red -s link show vti5  # see why"),
    ],
)
def test_a_silent_far_end_is_asked_by_hand_as_the_probe_asks_it(device: str, mend: str) -> None:
    facts = GOOD._replace(missed={device: Missed(3, 0)}, probed={device: ASKED._replace(device=device)})
    assert [finding.mend for finding in find(facts) if finding.code == "peer-silent"] == [mend]


def test_a_tunnel_that_waits_without_its_end_is_replaced_by_the_name_that_ipsec_conf_has() -> None:
    """Of a template nobody here can take up an instance: there the address comes back."""
    waits = GOOD.claims[0]._replace(kind="revive", connection="net/1x2", tunnel='["net/1x2"]')
    gone = MachineFacts(moved_away=frozenset((WEST,)))
    (found,) = find(GOOD._replace(claims=(waits,), machine=gone))
    assert found.mend.startswith("ipsec auto --replace net; ipsec whack --initiate --name net  # ")
    (found,) = find(GOOD._replace(claims=(waits._replace(tunnel='["net/1x2", 16400]'),), machine=gone))
    assert found.mend.startswith(f"ip addr add {WEST}/32 dev ")
