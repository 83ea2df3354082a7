"""Every recorded call of the daemons' hooks, on a real kernel: what is there afterwards is what the tables beside this say.

Each sequence has a network namespace and a state directory of its own.  Each call is sent, then once more, when nothing
may change, not even the index of a device.  What others made is looked at, too.  All differences of a sequence are shown
together, each with its line of the table and what the hook said.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.kernel import expectations
from tests.kernel.calls import Said, fork, ip, listening, private_namespace, process
from tests.kernel.expectations import Device, Made, Node, Route, Sequence, Step
from updown.ledger.file import open_ledger
from updown.model.objects import OUR_ALIAS, OUR_PROTOCOL

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("modules")]

MIRRORS = ("east", "third", "rw2")  # what happens there happens to west, hub or rw1 as well, with other addresses
TUNNELS = ("vti", "vti6", "xfrm")
REAL = ("vti-basic", "ipv6-in-ipv4")  # scenarios whose every call is a process each time
LINE = 120  # bytes; what the daemons log whole
SHOW = "addr show\nroute show table all\nrule show\n"
DEFAULT_METRIC = {4: 0, 6: 1024}

Fact = tuple[str, ...]


class Snapshot(NamedTuple):
    """What a node holds: of ours (or pluto's devices), everything else, and all of it in detail."""

    tunnels: frozenset[Device]
    routes: frozenset[Route]
    others: frozenset[Fact]
    details: frozenset[Fact]
    faults: tuple[str, ...]

    def __str__(self) -> str:
        tunnels = ", ".join(map(str, sorted(self.tunnels, key=str))) or "no device"
        return f"{tunnels} | {' '.join(map(str, sorted(self.routes))) or 'no route'}"


def build(node: Node, made: Made | None) -> None:
    """The node as it is before the first call."""
    lines = ["link set lo up"]
    for device, addresses in node.addresses.items():
        lines += [f"link add {device} type dummy", f"link set {device} up"]
        lines += [f"addr add {address} dev {device}" + (" nodad" if ":" in address else "") for address in addresses]
    lines += [f"route add default via {gateway}" for gateway in node.gateways]
    if made:
        name, _, parent = made.name.partition("@")
        lines += [f"link add {name} type xfrm" + (f" dev {parent}" if parent else "") + f" if_id {made.if_id}"]
        lines += [f"link set {name} up", *(f"addr add {address} dev {name}" for address in made.addresses)]
    ip(batch="\n".join(lines) + "\n")


def snapshot(plutos: str = "") -> Snapshot:
    """Everything that `ip` shows, by one process; `plutos`: a device that is not ours."""
    text = ip("-j", "-d", "-N", batch=SHOW).strip()
    decoder = json.JSONDecoder()
    documents: list[Any] = []
    while text:
        document, end = decoder.raw_decode(text)
        documents.append(document)
        text = text[end:].lstrip()
    links, routes, rules = documents
    names = {link["ifname"] for link in links if _tunnel(link)}
    ours = [route for route in routes if str(route.get("protocol")) == str(OUR_PROTOCOL)]
    our_rules = [rule for rule in rules if str(rule.get("protocol")) == str(OUR_PROTOCOL)]
    others: set[Fact] = {("rule", json.dumps(rule, sort_keys=True)) for rule in rules if rule not in our_rules}
    others |= {_route_fact(route) for route in routes if route not in ours and route.get("dev") not in names}
    details = {_route_fact(route) for route in routes}
    faults: list[str] = []
    tunnels = set()
    for link in links:
        facts = _link_facts(link)
        details |= facts
        if link["ifname"] in names:
            tunnels.add(_device(link))
            faults += _faults(link, link["ifname"] == plutos)
        else:
            others |= facts
    return Snapshot(
        frozenset(tunnels),
        frozenset([*map(_route, ours), *map(_rule, our_rules)]),
        frozenset(others),
        frozenset(details | others),
        tuple(faults),
    )


def _tunnel(link: Mapping[str, Any]) -> bool:
    """Whether it is a device that somebody made, and not the kernel's own fallback one."""
    info = link.get("linkinfo", {})
    if info.get("info_kind") not in TUNNELS:
        return False
    data = info.get("info_data", {})
    return info["info_kind"] == "xfrm" or not (_any(data["local"]) and _any(data["remote"]))


def _any(address: str) -> bool:
    return address in ("any", "0.0.0.0", "::")


def _device(link: Mapping[str, Any]) -> Device:
    kind = link["linkinfo"]["info_kind"]
    data = link["linkinfo"]["info_data"]
    addresses = frozenset(
        f"{address['local']}/{address['prefixlen']}" for address in link["addr_info"] if not _linklocal(address)
    )
    if kind == "xfrm":
        return Device(link["ifname"], kind, if_id=int(str(data["if_id"]), 0), addresses=addresses)
    remote = "any" if _any(data["remote"]) else data["remote"]
    return Device(link["ifname"], kind, data["local"], remote, _key(data["ikey"]), _key(data["okey"]), addresses=addresses)


def _linklocal(address: Mapping[str, Any]) -> bool:
    return str(address["local"]).startswith("fe80:")


def _key(text: str) -> int:
    """A key, which `ip` shows like an address."""
    return int.from_bytes(bytes(map(int, text.split("."))), "big") if "." in text else int(text, 0)


def _faults(link: Mapping[str, Any], plutos: bool) -> list[str]:
    """What is wrong with a tunnel device whatever its purpose. A VTI has checked the policy by its keys; an XFRM interface
    leaves the check to the kernel's usual place."""
    name = link["ifname"]
    faults = [] if "UP" in link["flags"] else [f"{name} is not up"]
    if plutos:
        return faults + ([f"{name} has the alias {link['ifalias']}"] if "ifalias" in link else [])
    if link.get("ifalias") != OUR_ALIAS:
        faults.append(f"{name} has the alias {link.get('ifalias')}")
    wanted = {"forwarding": 1, "disable_policy": int(link["linkinfo"]["info_kind"] != "xfrm")}
    for family in ("ipv4", "ipv6"):
        for sysctl, value in wanted.items():
            if _sysctl(family, name, sysctl) != value:
                faults.append(f"{family} {sysctl} of {name} is not {value}")
    if max(_sysctl("ipv4", "all", "rp_filter"), _sysctl("ipv4", name, "rp_filter")) == 1:
        faults.append(f"rp_filter of {name} is strict")
    if _sysctl("ipv4", name, "disable_xfrm"):
        faults.append(f"disable_xfrm of {name} is set")
    return faults


def _sysctl(family: str, device: str, name: str) -> int:
    return int(Path(f"/proc/sys/net/{family}/conf/{device}/{name}").read_text())


def _route(route: Mapping[str, Any]) -> Route:
    destination = {"default": "0.0.0.0/0"}.get(route["dst"], route["dst"])
    if "/" not in destination:
        destination += "/128" if ":" in destination else "/32"
    if route.get("table", "main") not in ("main", "254"):
        destination += f" in table {route['table']}"
    if route.get("type", "unicast") not in ("unicast", "1"):
        destination = f"{route['type']} {destination}"
    metric = route.get("metric", 0)
    metric = 0 if metric == DEFAULT_METRIC[6 if ":" in destination else 4] else metric
    device = route.get("dev", "")
    source = route.get("prefsrc", "") if device != expectations.OUTSIDE else ""  # our own address there is as good
    return Route(destination, device, source, metric, route.get("gateway", ""))


def _rule(rule: Mapping[str, Any]) -> Route:
    to = rule.get("dst", "all")
    length = rule.get("dstlen", 128 if ":" in to else 32)
    return Route(f"{to}/{length}", f"rule,{rule['priority']},{rule.get('fwmark')},{rule['table']}")


def _route_fact(route: Mapping[str, Any]) -> Fact:
    return ("route", json.dumps(route, sort_keys=True))


def _link_facts(link: Mapping[str, Any]) -> frozenset[Fact]:
    """A link and its addresses, without what changes by itself."""
    kept = ("ifindex", "ifname", "mtu", "ifalias", "address", "master", "link", "linkinfo")
    facts: set[Fact] = {("link", json.dumps({name: link.get(name) for name in kept} | {"up": "UP" in link["flags"]}))}
    facts |= {
        ("address", link["ifname"], f"{address['local']}/{address['prefixlen']}", str(address["scope"]))
        for address in link["addr_info"]
    }
    return frozenset(facts)


def claims(state: Path) -> Mapping[str, int]:
    """How many claims of which kind the ledger has."""
    (place,) = state.glob("net-*")
    with open_ledger(str(state), place.name.partition("-")[2]) as ledger:
        return Counter(claim.kind for claim in ledger.claims())


def differences(step: Step, verb: str, said: Said, before: Snapshot, after: Snapshot) -> list[str]:
    """What is not as the table says after a call was sent once."""
    found = list(after.faults)
    if after.tunnels != step.state.devices or after.routes != step.state.routes:
        found.append(f"expected {step.state}\n        found    {after}")
    if said.status != step.status:
        found.append(f"expected status {step.status}, got {said.status}")
    if step.says and not any(step.says in line for line in said.lines):
        found.append(f"no line says {step.says}")
    if said.lines and said.status == 0 and verb.startswith("prepare-") and not verb.endswith(("client", "host", "v6")):
        found.append("a joined verb printed something")
    found += [f"a line of more than {LINE} bytes" for line in said.lines if len(line.encode()) > LINE]
    if after.others != before.others:
        found.append("changed what others made:" + _changes(before.others, after.others))
    return found


def claim_differences(step: Step, state: Path) -> list[str]:
    """What the ledger holds otherwise than the table says."""
    if step.state.claims is None:
        return []
    held = claims(state)
    return [] if held == step.state.claims else [f"expected claims {dict(step.state.claims)}, found {dict(held)}"]


def _changes(before: frozenset[Fact], after: frozenset[Fact]) -> str:
    gone = [f"\n        - {' '.join(fact)}" for fact in sorted(before - after)]
    return "".join(gone + [f"\n        + {' '.join(fact)}" for fact in sorted(after - before)])


def cases() -> list[Any]:
    """Every sequence; as a process of its own the hook runs in a few of 4.10's, in the others only when there is time. So it is
    with mirrors: what happens there happens at the other end too, and unit tests run them dry each time."""
    found = []
    for sequence in expectations.sequences():
        mirror = sequence.recording.node in MIRRORS
        chosen = sequence.recording.version == "libreswan-4.10" and not mirror and sequence.recording.scenario in REAL
        if not chosen:
            found.append(pytest.param(sequence, False, id=str(sequence), marks=[pytest.mark.slow] if mirror else []))
        marks = [] if chosen else [pytest.mark.slow]
        found.append(pytest.param(sequence, True, id=f"{sequence}-process", marks=marks))
    return found


@pytest.mark.parametrize(("sequence", "real"), cases())
def test_what_each_call_leaves(sequence: Sequence, real: bool, tmp_path: Path) -> None:
    """After each call, and after the same call again, the node holds what the table says, and the ledger the claims."""
    calls = {call.number: call for call in sequence.recording.calls()}
    words = ["--state-dir", str(tmp_path)]
    if sequence.settings:
        (tmp_path / "settings.conf").write_text(sequence.settings)
        words += ["--config", str(tmp_path / "settings.conf")]
    look = partial(snapshot, sequence.made.name.partition("@")[0] if sequence.made else "")
    found: list[str] = []
    with private_namespace():
        build(sequence.node, sequence.made)
        before = look()
        for step in sequence.steps:
            if step.command:
                ip(*step.command.split())
                before = look()
                continue
            call = calls[step.number]
            environment = sequence.environment(call)
            again = partial(fork, *words, environment=environment)
            said = process(environment, *words) if real else again()
            after = look()
            problems = differences(step, call.verb, said, before, after)
            problems += claim_differences(step, tmp_path)
            with listening() as changed:
                second = again()
                last = look() if changed() else after
            if second.status != said.status:
                problems.append(f"sent again, status {second.status}")
            if last.details != after.details:
                problems.append("sent again, it changes" + _changes(after.details, last.details) + str(second))
            if problems:
                where = f"line {step.line}, after {call.name}"
                found.append(f"    {where}: " + "\n      ".join(problems) + str(said))
            before = last
    assert not found, f"{sequence}:\n" + "\n".join(found)
