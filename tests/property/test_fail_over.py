"""Who lives has the way (docs/placement.md), in whatever order tunnels come, wait, fall silent and go.

Random sequences of libreswan's calls among tunnels whose prefixes cover one another, against the oracle; and others with traps,
silent far ends, metrics, tables and hops against what the claims themselves say."""

from __future__ import annotations

import random
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Any, NamedTuple

import pytest

from tests.kit.grammar_libreswan import NUMBERS, Libreswan
from tests.kit.machine import SwiftMachine, Tunnel, call
from tests.kit.oracle import Oracle, RouteSeen
from tests.kit.sequences import SEED, check, made_from
from updown.ledger.liveness import set_missed_probes
from updown.model.claims import REVIVE, SA, TRAP, Claim
from updown.model.objects import Route
from updown.transaction import Request, converge

SEQUENCES = 400
LOTS = 4
RIVALS = ("permanent", "rival", "rival-4", "backup", "wide", "all", "pairs", "six-in-four")
YIELDED: list[RouteSeen] = []


class Witness(Oracle):
    """Notes what yields, so that a run shows that it was tried."""

    def routes(self, more: Iterable[RouteSeen] = ()) -> set[RouteSeen]:
        found = super().routes(more)
        there = {(route.destination, route.metric) for route in found}
        YIELDED.extend(
            route for _, route in self.asked() if not self.is_crossed(route) and (route.destination, route.metric) not in there
        )
        return found


class Rivals(Libreswan):
    """libreswan with tunnels that cover one another, most of which are to be kept up."""

    oracle = Witness
    together = (tuple(NUMBERS[name] for name in RIVALS),)
    things = (
        *("establish",) * 10,
        *("peer_deletes",) * 6,
        *("ipsec_down", "ipsec_route", "delete", "replace", "fails_to_establish", "stray_down", "killed", "roams"),
        *("reconcile", "spoiled"),
    )  # type: ignore[assignment]


@pytest.mark.parametrize("lot", range(LOTS))
def test_random_sequences(lot: int) -> None:
    YIELDED.clear()
    for number in range(lot, SEQUENCES, LOTS):
        check(Rivals, made_from(Rivals, f"{SEED}/fail-over/{number}"), f"seed {SEED}, sequence {number}")
    assert len({route.destination for route in YIELDED}) > 1


# Without the oracle


class Slot(NamedTuple):
    """Where one route can stand."""

    destination: str
    table: int
    metric: int
    netns: str


def tunnel(number: int, theirs: str, **more: Any) -> Tunnel:
    mark = f"{number}/0xff"
    one = Tunnel(f"t{number}", theirs=theirs, device=f"vti{number}", mark_in=mark, mark_out=mark, reqid=16384 + 4 * number)
    return one._replace(peer=f"198.51.100.{100 + number}", **more)


TUNNELS = (
    tunnel(1, "10.2.0.0/24", metric="100"),
    tunnel(2, "10.2.0.0/24", metric="200"),
    tunnel(3, "10.2.0.0/24", metric="100"),
    tunnel(4, "10.2.0.0/16"),
    tunnel(5, "0.0.0.0/0"),
    tunnel(6, "10.2.0.0/24", metric="7"),
    tunnel(7, "10.2.0.0/24", metric="7"),
    tunnel(8, "fd00:2::/64", mine="fd00:1::/64"),
    tunnel(9, "fd00::/16", mine="fd00:1::/64", metric="3"),
    tunnel(10, "10.2.0.0/24"),
    tunnel(11, "10.0.0.0/8"),
)
SETTINGS = "[defaults]\nprobe = 10.9.9.9\n" + "".join(
    f"[connection {names}]\n{lines}\n"
    for names, lines in (("t[67]", "multipath = yes"), ("t1[01]", "table = 100"), ("t3", "route = 10.2.0.128/25, 10.7.0.0/16"))
)


def waits(claim: Claim, silent: set[str], up: set[str]) -> bool:
    """Whether nothing passes by a claim, and no traffic wakes it."""
    return claim.kind == REVIVE or (claim.device in silent and (claim.kind != TRAP or claim.device in up))


def slots(claims: list[Claim]) -> dict[Slot, list[tuple[Claim, Route]]]:
    """Who asks for which route, first come first."""
    found: dict[Slot, list[tuple[Claim, Route]]] = {}
    for claim in sorted(claims, key=lambda one: one.order):
        for want in claim.resources:
            if isinstance(want, Route):
                slot = Slot(want.destination, want.table, want.metric, want.device.partition("@")[2])
                found.setdefault(slot, []).append((claim, want))
    return found


def hops(asking: list[tuple[Claim, Route]]) -> set[str]:
    """The devices of a route that these ask for."""
    first = asking[0][1]
    return {want.device for _, want in asking if want.joins} if first.joins else {first.device}


def wanted(claims: list[Claim], silent: set[str]) -> set[tuple[Slot, str]]:
    """Which routes must lead into which devices."""
    up = {claim.device for claim in claims if claim.kind == SA}
    lively = {slot: [one for one in asking if not waits(one[0], silent, up)] for slot, asking in slots(claims).items()}
    ways = [
        slot
        for slot, asking in lively.items()
        if asking and any(claim.kind == SA and want.device in hops(asking) for claim, want in asking)
    ]
    found: set[tuple[Slot, str]] = set()
    for slot, asking in slots(claims).items():
        covered = any(
            way[1::2] == slot[1::2]
            and ip_network(way.destination).version == ip_network(slot.destination).version
            and ip_network(slot.destination).subnet_of(ip_network(way.destination))  # type: ignore[arg-type]
            for way in ways
        )
        counting = lively[slot] if covered else asking
        found |= {(slot, device) for device in (hops(counting) if counting else ())}
    return found


def standing(machine: SwiftMachine) -> set[tuple[Slot, str]]:
    """Our routes into tunnel devices."""
    names = {index: link.name for index, link in machine.kernel.by_index.items() if link.kind}
    return {
        (Slot(entry.route.destination, entry.route.table, entry.route.metric, ""), names[index])
        for entry in machine.kernel.table
        if entry.route.protocol == 160
        for index in (entry.oif, *entry.more)
        if index in names
    }


DOINGS = ("up", "up", "up", "trap", "revive", "revive", "revive", "down", "silent", "silent", "answers")
WISHES: dict[str, tuple[str, ...]] = {"revive": ("UP",)}


@pytest.mark.parametrize("lot", range(LOTS))
def test_the_claims_themselves_say_who_has_the_way(lot: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(f"{SEED}/way/{lot}")
    machine = SwiftMachine(monkeypatch)
    machine.settings(SETTINGS)
    silent: set[str] = set()
    yielded = 0
    for _ in range(200):
        one, doing = chance.choice(TUNNELS), chance.choice(DOINGS)
        if doing in ("silent", "answers"):
            if doing == "silent" and not any(claim.device == one.device and claim.kind == SA for claim in machine.claims()):
                continue
            (silent.add if doing == "silent" else silent.discard)(one.device)
            probed(machine, one.device, 3 if doing == "silent" else 0)
        else:
            verb = {"trap": "route", "revive": "down"}.get(doing, doing)
            machine.send(call(one, verb, child=doing != "trap", wishes=WISHES.get(doing, ())))
        claims = machine.claims()
        # a far end that was silent is so while a tunnel waits for it, and none for traffic (docs/settings.md, probe)
        kinds: dict[str, set[str]] = {}
        for claim in claims:
            kinds.setdefault(claim.device, set()).add(claim.kind)
        silent &= {device for device, held in kinds.items() if SA in held or held == {REVIVE}}
        told = [(claim.connection, claim.kind, claim.device in silent) for claim in claims]
        assert standing(machine) == wanted(claims, silent), f"{doing} {one.connection}: {told}"
        yielded += len(slots(claims)) > len({slot for slot, _ in wanted(claims, silent)})
        assert machine.unfinished() == []
    assert yielded > 20


def probed(machine: SwiftMachine, device: str, missed: int) -> None:
    """What `vti-updown probe` does where a far end begins to be silent, or answers again."""
    with machine.ledger() as ledger:

        def note(_: object) -> None:
            set_missed_probes(ledger, device, missed, machine.now)

        converge(Request(also=ledger.keys_on(device), note=note), ledger, machine.kernel, dry=False)  # type: ignore[arg-type]
