r"""Cases of the plan as text: who asks for what, what is there, and the commands that follow, in iproute2's own words.

    # The rule, in a sentence.
    #   docs/deletion.md: "words that stand there"

    asked                               claims, first come first
      t, new                            a connection; `new`: this event made its claim, or renewed it
        dev vti5 type vti local 198.51.100.1 remote 198.51.100.2 key 5, shared, delete = last
        route 10.2.0.0/24               on that device, as everything up to the next `dev`
    ended                               what was asked for until now; `ended` with no `new`: the event is a `down`
      u
        dev vti5                        as it was described first
        route 10.3.0.0/24
    there                               what is not said is not there
      dev vti5 as asked, ours           up, with the kernel's MTU, 1480, unless said
      route 10.2.0.0/24 dev vti5 proto 160
      route 10.3.0.0/24 dev vti5 proto 160
    plan                                all commands, in order; nothing below it: nothing to do
      ip route del 10.3.0.0/24 dev vti5 proto 160
    warnings                            the texts; left out: none
    error                               the text and the hint of a conflict, in the plan's place

A line that ends in \ goes on in the next one. Further words:

- of a claim: `trap`, `revive`, `made` (by `vti-updown make`; else it is an SA), `strongswan`, `peer ADDRESS`, `client NETWORK`,
  `ike NUMBER` (the IKE SA), `between ID and ID`. Two of one connection are two SAs of one tunnel.
- of a device asked for: `if_id N`, `external`, `ikey N okey N`, `vrf NAME`; then `shared`, `instance`, `wished up` (UP in its
  policy), `template = yes`, `delete = last`, `follow`, `multicast`, `no multicast`, `the daemon's own`. The table of
  docs/deletion.md says from these whether it goes with its last claim.
- beside `dev` and `route`: `address A/N`, `source A`, `peer A from OUR_END` (a way to the peer outside of the tunnel),
  `rule ...`, `mtu N`, `mtu N with IPv6 inside`, `mss clamp`, `sysctls` (what the default settings ask for) and
  `sysctls rp_filter = 1, ...`. `route default` is both halves; `route N, multipath` shares.
- of a device that is there: `down`, `dormant`, `multicast`, `mtu N`, `alias WORD`, `index N`; then whose it is, see WHOSE, and
  `used by other tunnels`.
- beside it: `address A/N dev D, ours`, `route`, `rule`, `way to A dev eth0 via G`, `sysctl PATH = VALUE`,
  `mss clamp dev D mtu N`, `far end of D is silent`. The addresses of devices that are no tunnels are this machine's.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Any, NamedTuple

from updown.concerns import mtu, sysctls
from updown.concerns.addresses import as_address, same_subnet
from updown.concerns.catalogue import key_of
from updown.concerns.device_request import deletion_rule
from updown.concerns.routes import HALVES, IPV6_DEFAULT_METRIC, in_front
from updown.model.claims import NO_SA, SA, Claim, FormerHolder, Holder
from updown.model.context import Context, Selector, Verb
from updown.model.errors import Conflict
from updown.model.objects import MAIN_TABLE, OUR_ALIAS, OUR_PROTOCOL, Address, Link, Path, Route, Rule, family, host
from updown.model.resources import (
    Clamp,
    DeletionRule,
    Device,
    Mtu,
    Observed,
    PeerRoute,
    Resource,
    SourceAddress,
    Sysctl,
    device_of,
    route_key,
)
from updown.model.values import Network
from updown.output.iproute2 import command
from updown.plan.diff import make_plan
from updown.plan.inputs import Liveness, Plan, PlanInput
from updown.settings.keys import KEYS, Settings

PROTOCOLS = {"kernel": 2, "boot": 3, "static": 4, "bird": 12, "ospf": 188}
TUNNELS = ("vti", "vti6", "xfrm")
WORDS = {"peer": "peer", "client": "peer_client", "ike": "unique_id"}
KERNEL_MTU = 1480
KERNEL_SYSCTLS = {"accept_ra": "1"}  # of a new device; others are 0

WHOSE = {
    "not ours": (False, None),
    "ours": (True, 1),
    "ours by its alias": (True, None),  # the ledger was lost
    "ours by the ledger": (False, 1),
    "ours by a ledger that was lost": (True, -1),
    "made by a call that was killed": (False, 0),
    "in the place of ours": (False, 99),  # the ledger has another index
}
"""Whether a device has our alias, and what the ledger has as its index: 1 is its own, -1 that of before a loss."""


@dataclass
class There:
    """What the kernel shows, and what the ledger has of it."""

    links: dict[str, Link] = field(default_factory=dict)
    made: dict[str, int | None] = field(default_factory=dict)
    addresses: list[Address] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    ways: dict[str, Path] = field(default_factory=dict)
    sysctls: dict[str, str] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)
    clamps: dict[str, Clamp] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)


class Outcome(NamedTuple):
    """What a plan says, as text; `error` has the text and the hint of a conflict."""

    plan: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    error: tuple[str, ...] = ()


class Case(NamedTuple):
    """One file: `new` is the key of the claim of this event."""

    asked: tuple[Claim, ...]
    new: str
    ended: tuple[Claim, ...]
    there: There
    wanted: Outcome


# -- the planner: all that is known here of how it is called


def make(case: Case) -> Plan:
    """What the planner makes of a case; raises Conflict."""
    there, claims = case.there, sorted(case.asked, key=lambda claim: claim.key != case.new)
    mine = 1 if case.new else 0
    wants = [want for claim in (*claims[:mine], *case.ended, *claims[mine:]) for want in claim.resources]
    holders: dict[str, list[Holder]] = {key_of(want): [] for want in wants}
    for claim in case.asked:
        for want in claim.resources:
            holders[key_of(want)].append(Holder(claim, want))
    ended: dict[str, list[FormerHolder]] = {}
    for claim in case.ended:
        for want in claim.resources:
            ended.setdefault(key_of(want), []).append(FormerHolder(claim.connection, want))
    follow = {want.link.name for want in wants if isinstance(want, Device) and want.follow}
    up = {device_of(want) for claim in case.asked if claim.kind == SA for want in claim.resources}
    sizes = [want for claim in case.asked for want in claim.resources if isinstance(want, Mtu)]
    inputs = PlanInput(
        holders,
        ended,
        {name: there.made.get(name) for name in holders},
        case.new,
        Liveness(frozenset(follow - up), frozenset(there.silent), frozenset(there.silent - up)),
        {name: mtu.device_mtu(least(sizes, name, False), least(sizes, name, True)) for name in map(device_of, wants)},
        frozenset(there.used),
        only_ends=bool(case.ended) and not case.new,
    )
    return make_plan(inputs, observed(there, wants))


def observed(there: There, wants: list[Resource]) -> Observed:
    """What the kernel answers where it is asked for `wants`."""
    devices = list(dict.fromkeys(map(device_of, wants)))
    standing = {route_key(route): route for route in there.routes}
    slots = [want for want in wants if isinstance(want, Route)]
    slots += [front for want in slots for front in in_front(want)]
    slots += [host_route(want.peer)._replace(table=want.table) for want in wants if isinstance(want, PeerRoute)]
    local = [  # a tunnel's device has it for itself alone, with which it goes
        one
        for one in there.addresses
        if getattr(there.links.get(one.device), "kind", "") not in TUNNELS
        or (
            SourceAddress(one.device, host(one.address)) in wants
            and as_address(SourceAddress(one.device, host(one.address))) != one
        )
    ]
    files = [(path, want) for want in wants if isinstance(want, Sysctl) for path in sysctls.paths_read(want)]
    files += [(sysctls.default_path(want), want) for _, want in files]
    return Observed(
        links={name: there.links.get(name) for name in devices},
        addresses={name: tuple(one for one in there.addresses if one.device == name) for name in devices},
        routes={route_key(slot): standing.get(route_key(slot)) for slot in slots},
        paths={
            **{want.source: None for want in wants if isinstance(want, Route) and want.source},
            **{host(one.address): Path(one.device, local=True) for one in local},
            **there.ways,
        },
        others={name: tuple(one for one in there.routes if name in one.devices and is_others(one)) for name in devices},
        things={
            "sysctl": {path: sysctl_value(path, want, there) for path, want in files},
            "rule": frozenset(
                have._replace(device=want.device)
                for want in wants
                if isinstance(want, Rule)
                for have in there.rules
                if have._replace(device=want.device, protocol=want.protocol) == want
            ),
            "firewall": {want.device: there.clamps.get(want.device) for want in wants if isinstance(want, Clamp)},
        },
    )


def sysctl_value(path: str, want: Sysctl, there: There) -> str | None:
    """What a file holds that is read for `want`; None where there is none, as for IPv6 on a device too small for it."""
    kernels = KERNEL_SYSCTLS.get(path.rsplit("/", 1)[1], "0")
    if path != want.path:  # of all or default
        return there.sysctls.get(path, kernels)
    has = there.links.get(want.device)
    if has is None or (has.mtu < mtu.IPV6_LEAST and path.startswith("net/ipv6/")):
        return None
    return there.sysctls.get(path, there.sysctls.get(sysctls.default_path(want), kernels))


def is_others(route: Route) -> bool:
    """Whether it is an IPv4 route that neither we nor the kernel made."""
    return family(route.destination) == 4 and route.protocol not in (OUR_PROTOCOL, PROTOCOLS["kernel"])


def planned(case: Case) -> Outcome:
    """The plan of a case as text."""
    try:
        plan = make(case)
    except Conflict as error:
        return Outcome(error=(error.text, error.hint))
    return Outcome(tuple(command(operation) for operation in plan.operations), plan.warnings)


def applied(case: Case) -> Case:
    """The same event once more, with its plan done to what is there."""
    there = case.there
    for operation in make(case).operations:
        subject, action = operation.subject, operation.action
        if isinstance(subject, Link):
            change_link(there, action, subject)
        elif isinstance(subject, Address):
            there.addresses = [one for one in there.addresses if one != subject]
            if action == "address add":
                there.addresses.append(subject)
            elif family(subject.address) == 4:
                take_along(there, subject)
        elif isinstance(subject, Route):
            there.routes = [one for one in there.routes if route_key(one) != route_key(subject)]
            there.routes += [] if action == "route delete" else [subject]
        elif isinstance(subject, Rule):
            there.rules = [one for one in there.rules if one != subject] + ([subject] if action == "rule add" else [])
        elif isinstance(subject, Sysctl):
            there.sysctls[subject.path] = subject.value
        elif action == "firewall delete":
            del there.clamps[subject.device]
        else:
            there.clamps[subject.device] = subject
    return case._replace(ended=())


def change_link(there: There, action: str, wanted: Link) -> None:
    """A device is made, changed or deleted; with it, or with its being set down, its routes go."""
    name = wanted.name
    had = there.links.pop(name, None)
    if action in ("link delete", "link down"):
        there.routes = [one for one in there.routes if name not in one.devices]
    if action == "link delete":
        there.addresses = [one for one in there.addresses if one.device != name]
        there.sysctls = {path: value for path, value in there.sysctls.items() if f"/{name}/" not in path}
    elif action == "link multicast" and had:
        there.links[name] = had._replace(multicast=wanted.multicast)
    elif action == "link state" and had:
        there.links[name] = had._replace(dormant=wanted.dormant)
    else:
        index = had.ifindex if had else 50 + len(there.links)
        there.links[name] = wanted._replace(ifindex=index, mtu=wanted.mtu or KERNEL_MTU)


def take_along(there: There, gone: Address) -> None:
    """What the kernel takes along with an IPv4 address: its subnet's others, their routes, and after the last one all."""
    along = [gone, *(one for one in there.addresses if one.device == gone.device and same_subnet(one, gone))]
    there.addresses = [one for one in there.addresses if one not in along]
    last = not any(one.device == gone.device and family(one.address) == 4 for one in there.addresses)
    lost = {host(one.address) for one in along}
    there.routes = [
        one
        for one in there.routes
        if one.source not in lost and not (last and gone.device in one.devices and family(one.destination) == 4)
    ]


# -- the text


def parse(text: str) -> Case:
    """A case; raises ValueError that names the line."""
    reader = Reader()
    for number, line in joined(text):
        try:
            reader.read(line)
        except (ValueError, KeyError, IndexError) as error:
            raise ValueError(f"line {number}: {line.strip()}: {error!r}") from error
    if "plan" not in reader.sections and "error" not in reader.sections:
        raise ValueError("neither plan nor error")
    told = reader.told
    return Case(
        tuple(reader.claims["asked"]),
        reader.new,
        tuple(reader.claims["ended"]),
        reader.there,
        Outcome(tuple(told["plan"]), tuple(told["warnings"]), tuple(told["error"])),
    )


def joined(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; without comments and empty ones, and with those that go on as one."""
    begun = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            begun = f"{begun} {line.strip()}" if begun else line.rstrip()
            if not begun.endswith("\\"):
                yield number, begun
                begun = ""
            begun = begun.rstrip("\\").rstrip()


class Reader:
    """A file while it is read, line by line."""

    def __init__(self) -> None:
        self.sections: list[str] = []
        self.claims: dict[str, list[Claim]] = {"asked": [], "ended": []}
        self.told: dict[str, list[str]] = {"plan": [], "warnings": [], "error": []}
        self.there = There()
        self.new = ""
        self.devices: dict[str, Device] = {}

    def read(self, line: str) -> None:
        """Take one line into its section."""
        if not line.startswith(" "):
            self.sections.append(line)
            return
        section, text = self.sections[-1], line.strip()
        if section in self.told:
            self.told[section].append(text)
        elif section == "there":
            self.stands(text)
        elif line.startswith("    "):
            claims = self.claims[section]
            claims[-1] = with_resources(claims[-1], self.wants(text, claims[-1]))
        else:
            self.claims[section].append(self.claim(text))

    def claim(self, text: str) -> Claim:
        """`t, new, trap`."""
        name, *words = text.split(", ")
        order = len(self.claims["asked"]) + len(self.claims["ended"])
        one = Claim(f"{order} {name}", SA, name, name, name, "", DeletionRule(False, True), order=order)
        sa = NO_SA._replace(daemon="libreswan")
        for word in words:
            key, _, value = word.partition(" ")
            if word == "new":
                self.new = one.key
            elif word in ("trap", "revive", "made"):
                one = one._replace(kind=word)
                sa = sa._replace(daemon="make") if word == "made" else sa
            elif word == "strongswan":
                sa = sa._replace(daemon=word)
            elif key == "between":
                one = one._replace(group=value)
            else:
                changed: dict[str, Any] = {WORDS[key]: int(value) if key == "ike" else value}
                sa = sa._replace(**changed)
        return one._replace(sa=sa)

    def wants(self, text: str, claim: Claim) -> list[Resource]:
        """A line below a claim."""
        head, *notes = text.split(", ")
        kind, *words = head.split()
        if kind == "dev":
            name = words[0]
            if len(words) == 1 and name in self.devices:
                return [device(self.devices[name].link, notes) if notes else self.devices[name]]
            made = device(link(name, words[1:]), notes)
            self.devices.setdefault(name, made)
            return [made]
        on = next(want for want in reversed(claim.resources) if isinstance(want, Device)).link
        if kind == "route":
            shared = notes == ["multipath"]
            halves = [half for whole in HALVES.values() for half in whole] if words[0] == "default" else words[:1]
            return [route([half, *words[1:]], on.name, 160)._replace(joins=shared) for half in halves]
        if kind == "address":
            given = Address(on.name, " ".join(words))
            generated = sysctls.address_sysctls([given]) if any(isinstance(one, Sysctl) for one in claim.resources) else ()
            return [given, *generated]
        if kind == "source":
            return [SourceAddress(on.name, words[0])]
        if kind == "peer":
            told = pairs(words[1:])
            return [PeerRoute(words[0], on.name, "", told.get("from", on.local), int(told.get("table", MAIN_TABLE)))]
        if kind == "rule":
            return [rule(words, on.name, 160)]
        if kind == "mtu":
            return [Mtu(on.name, int(words[0]), words[1:] == ["with", "IPv6", "inside"])]
        if text == "mss clamp":
            return [Clamp(on.name, slave=bool(on.vrf))]
        if kind != "sysctls":
            raise ValueError(f"no {kind} can be asked for")
        said = [one.partition(" = ") for one in text.partition(" ")[2].split(", ") if one]
        settings = Settings()._replace(**{key: KEYS[key](value) for key, _, value in said})
        follow = any(isinstance(want, Device) and want.follow for want in claim.resources)
        return list(sysctls.device_sysctls(settings._replace(link="follow" if follow else "keep"), on.name, on.kind))

    def stands(self, text: str) -> None:
        """A line of what is there."""
        there = self.there
        head, *notes = text.split(", ")
        kind, *words = head.split()
        if kind == "dev":
            name = words[0]
            asked = words[1:3] == ["as", "asked"]
            known = self.devices[name].link if asked else Link(name)
            found = link(name, words[3:] if asked else words[1:], known._replace(mtu=KERNEL_MTU, up=True))
            index = found.ifindex or 7 + len(there.links)
            for note in notes:
                if note == "used by other tunnels":
                    there.used.add(f"device {name}")
                    continue
                marked, made = WHOSE[note]
                found = found._replace(alias=OUR_ALIAS) if marked else found
                there.made[f"device {name}"] = made * index if made in (1, -1) else made
            there.links[name] = found._replace(ifindex=index)
        elif kind == "address":
            device_name = words.pop()
            address = Address(device_name, " ".join(words[:-1]))
            there.addresses.append(address)
            if notes == ["ours"]:
                there.made.update({key_of(address): 0, f"source {device_name} {host(address.address)}": 0})
        elif kind == "route":
            there.routes.append(route(words, "", PROTOCOLS["boot"]))
        elif kind == "rule":
            there.rules.append(rule(words, "", PROTOCOLS["boot"]))
        elif kind == "way":
            said = pairs(words[2:])
            there.ways[words[1]] = Path(said["dev"], said.get("via", ""), mtu=int(said.get("mtu", 0)))
        elif kind == "sysctl":
            there.sysctls[words[0].replace(".", "/")] = words[2]
        elif kind == "mss":
            said = pairs(words[1:])
            there.clamps[said["dev"]] = Clamp(said["dev"], int(said.get("mtu", 0)), notes == ["in a VRF"])
        elif text.startswith("far end of "):
            there.silent.add(words[2])
        else:
            raise ValueError("nothing known")


def pairs(words: list[str]) -> dict[str, str]:
    """Words as iproute2 has them: each a name before its value."""
    if len(words) % 2:
        raise ValueError("a word without its value")
    return dict(zip(words[::2], words[1::2]))


def link(name: str, words: list[str], known: Link | None = None) -> Link:
    """`type vti local A remote A key N`, and the like."""
    flags = {"up": ("up", True), "down": ("up", False), "dormant": ("dormant", True), "external": ("external", True)}
    flags["multicast"] = ("multicast", True)
    changes: dict[str, Any] = dict(flags[word] for word in words if word in flags)
    for key, value in pairs([word for word in words if word not in flags]).items():
        names = {"type": "kind", "index": "ifindex", "master": "vrf"}
        for one in ("ikey", "okey") if key == "key" else (names.get(key, key),):
            changes[one] = int(value) if one in ("ikey", "okey", "if_id", "mtu", "ifindex") else value
    found = (known or Link(name))._replace(**changes)
    anywhere = "::" if found.kind == "vti6" else "0.0.0.0"
    local, remote = (anywhere if end == "any" else end for end in (found.local, found.remote))
    return found._replace(local=local, remote=remote)


def device(asked: Link, notes: list[str]) -> Device:
    """A device asked for; whether it goes with its last claim is as device_request.py reads it from `notes`."""
    own, follow = "the daemon's own" in notes, "follow" in notes
    said = dict(note.split(" = ") for note in notes if " = " in note)
    unknown = set(notes) - {"shared", "instance", "wished up", "follow", "the daemon's own", "multicast", "no multicast"}
    if unknown - {f"{key} = {value}" for key, value in said.items()}:
        raise ValueError(f"unknown: {unknown}")
    anywhere = Selector(Network("0.0.0.0/0", ("0.0.0.0/0",)))
    context = Context("libreswan", 5, Verb("up", ("up",), "", 0), "", "", "", anywhere, anywhere)
    context = context._replace(shared="shared" in notes, instance="instance" in notes, initiates="wished up" in notes)
    settings = Settings()._replace(**{key: KEYS[key](value) for key, value in said.items()})
    goes = deletion_rule(context, settings).with_last and not own
    groups = False if "no multicast" in notes else True if "multicast" in notes else None
    return Device(asked, shared="shared" in notes or own, with_last=goes, by_daemon=own, follow=follow, multicast=groups)


def route(words: list[str], on: str, protocol: int) -> Route:
    """`10.2.0.0/24 via A dev D table N proto 160 metric N mtu N src A nexthop dev D nexthop dev E`."""
    text = " ".join(words[1:]).replace("encap xfrm ", "")
    first, *hops = [part.split() for part in text.split("nexthop ")]
    said = pairs(first)
    devices = [pairs(hop)["dev"] for hop in hops] or [said.get("dev", on)]
    return Route(
        words[0],
        devices[0],
        said.get("via", ""),
        int(said.get("table", MAIN_TABLE)),
        int(said.get("metric", IPV6_DEFAULT_METRIC if family(words[0]) == 6 else 0)),
        int(said.get("mtu", 0)),
        said.get("src", ""),
        int(PROTOCOLS.get(said.get("proto", ""), said.get("proto", protocol))),
        int(said.get("if_id", 0)),
        tuple(devices[1:]),
    )


def rule(words: list[str], on: str, protocol: int) -> Rule:
    """`not priority N from NET to NET iif D fwmark N/MASK lookup N protocol 160`; -6 before it where nothing else tells."""
    six, inverted = words[0] == "-6", "not" in words
    said = pairs([word for word in (words[1:] if six else words) if word != "not"])
    value, _, mask = said.get("fwmark", "").partition("/")
    return Rule(
        6 if six or ":" in said.get("from", "") + said.get("to", "") else 4,
        on,
        int(said["lookup"]),
        int(said.get("priority", 1600)),
        said.get("from", ""),
        said.get("iif", ""),
        int(value or "0", 0),
        int(mask, 0) if mask else 0xFFFFFFFF if value else 0,
        int(PROTOCOLS.get(said.get("protocol", ""), said.get("protocol", protocol))),
        said.get("to", ""),
        inverted,
    )


def host_route(peer: str) -> Route:
    """Where the host route to a peer stands."""
    return route([as_address(SourceAddress("", peer)).address], "", 160)


def least(sizes: list[Mtu], name: str, six: bool) -> int:
    """The least MTU asked for on a device, by claims with or without IPv6 inside; 0 is none."""
    return min((one.size for one in sizes if one.device == name and one.six == six), default=0)


def with_resources(claim: Claim, wants: list[Resource]) -> Claim:
    """A claim that asks for these as well."""
    named = claim.device or next((want.link.name for want in wants if isinstance(want, Device)), "")
    goes = [DeletionRule(False, want.with_last) for want in wants if isinstance(want, Device)]
    return claim._replace(resources=(*claim.resources, *wants), device=named, deletion=(goes or [claim.deletion])[0])


def difference(file: File, wanted: Outcome, found: Outcome) -> str:
    """Both outcomes as the case's file has them, compared; empty where they are equal."""
    old, new = (
        [line for name, lines in zip(one._fields, one) if lines for line in (name, *(f"  {text}" for text in lines))]
        for one in (wanted, found)
    )
    return "\n".join(difflib.unified_diff(old, new, f"{file} says", "the planner says", lineterm="", n=99))
