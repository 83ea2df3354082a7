"""Random sequences of events: made from a seed, sent through the library, compared after each event with the oracle, and made
short where one fails.

Each event may meet a mishap: the process is killed at any moment (and the event comes again, or another one does), the kernel
refuses one operation, the ledger's disk is full, or the daemon cannot call at all. `reconcile` runs in between, with what the
daemon has then (witnesses.py): where nothing happened behind our back it must find nothing to do, and else put all of it right.
"""

import os
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple, Optional, Union, cast

import pytest

from tests.kit.grammar_libreswan import OURS, Libreswan, Meddling, Reconcile
from tests.kit.grammar_strongswan import StrongSwan
from tests.kit.kernel_model import Kernel, Kill
from tests.kit.machine import WEST, SwiftMachine
from tests.kit.oracle import WITHIN, Call, Oracle, RouteSeen, World
from tests.kit.witnesses import facts
from updown.commands.reconcile import run
from updown.commands.reconcile.decide import GRACE, Evidence
from updown.commands.reconcile.report import Outcome
from updown.concerns.catalogue import derive_again
from updown.kernel.netlink.rtnetlink import Netlink
from updown.model.claims import Claim
from updown.model.errors import Conflict, UpdownError
from updown.model.objects import OUR_ALIAS, OUR_PROTOCOL, Link, Route

SEED = os.environ.get("VTI_UPDOWN_SEED", "1")
MISHAPS = ("dies", "dies and is gone", "refused", "lost")


class Mishap(NamedTuple):
    """What goes wrong at one call of a step, and at which moment of it."""

    kind: str
    call: int
    moment: int


class Step(NamedTuple):
    """Something happens to a connection; `again`: every call that succeeds is sent once more."""

    thing: str
    who: int
    initiator: bool = True
    again: bool = False
    mishap: Optional[Mishap] = None


Steps = tuple[Step, ...]
Room = Union[Kernel, Netlink]
Daemon = Union[type[Libreswan], type[StrongSwan]]


class Wrong(AssertionError):
    """What is there is not what must be there."""


def made_from(daemon: Daemon, seed: str, calm: bool = False) -> Steps:
    """The steps of a sequence: three to twelve things that happen to a few connections. `calm`: less, without mishaps."""
    chance = random.Random(seed)
    who = chance.sample(range(len(daemon.connections)), chance.randint(1, 3))
    if chance.random() < 0.6:
        who += chance.choice(daemon.together)
    steps: list[Step] = []
    for _ in range(chance.randint(3, 7 if calm else 12)):
        mishap = None
        if not calm and chance.random() < 0.3:
            mishap = Mishap(chance.choice(MISHAPS), chance.choice((0, 0, 1, 2, 3)), chance.randint(0, 18))
        steps.append(
            Step(chance.choice(daemon.things), chance.choice(who), chance.random() < 0.6, chance.random() < 0.2, mishap)
        )
    return tuple(steps)


def prepare_world(kernel: Room) -> None:
    """What the administrator made: addresses, a device that fits, two that do not, a route, and what hangs on the device."""
    for address in OURS:
        kernel.add_address(index_of(kernel, "eth0"), f"{address}/24")
    for address in WITHIN.values():
        kernel.add_address(index_of(kernel, "eth0"), address)
    for link in FOREIGN_LINKS:
        index = kernel.add_link(link).ifindex
        if link.name != "vti22":
            kernel.set_link(index, up=True)
    kernel.add_address(index_of(kernel, "vti21"), "10.77.0.1/24")
    kernel.add_route(Route("10.78.0.0/16", "vti21", protocol=4))
    kernel.add_route(Route("10.24.0.0/24", "eth0", "198.51.100.254", protocol=4))


def index_of(kernel: Room, name: str) -> int:
    """The index of a link that is there."""
    link = kernel.link(name)
    assert link is not None
    return link.ifindex


FOREIGN_LINKS = tuple(
    Link(f"vti{number}", "vti", local=WEST, remote=f"198.51.100.{100 + number}", ikey=key, okey=key)
    for number, key in ((21, 21), (22, 1022), (23, 1023))
)


def meddle(kernel: Room, doing: Meddling) -> None:
    """Somebody does something behind our back."""
    link = kernel.link("eth0" if doing.what == "roam" else doing.one)
    if link is None:
        return
    if doing.what == "roam":
        kernel.delete_address(link.ifindex, f"{doing.one}/24")
        kernel.add_address(link.ifindex, f"{doing.other}/24")
    elif doing.what == "delete":
        kernel.delete_link(link.ifindex)
    elif doing.what == "set down":
        kernel.set_link(link.ifindex, up=False)
    elif doing.what == "bare":
        for address in kernel.addresses(link.ifindex):
            if not address.startswith("fe80:") and address in kernel.addresses(link.ifindex):
                kernel.delete_address(link.ifindex, address)
    else:
        for family in (4, 6):
            for seen in kernel.routes(family, oif=link.ifindex, protocol=OUR_PROTOCOL):
                route = Route(seen.destination, link.name, seen.gateway, seen.table, seen.metric)
                kernel.delete_route(route, link.ifindex)


class Run:
    """One sequence on one machine."""

    def __init__(self, daemon: Daemon, patch: pytest.MonkeyPatch) -> None:
        self.machine = self.new_machine(patch)
        self.machine.kernel.files.update(daemon.files)
        prepare_world(self.machine.kernel)
        self.machine.settings(daemon.settings + "[defaults]\nmss = clamp\n")
        self.daemon = daemon()
        self.oracles: list[Oracle] = [daemon.oracle(daemon.world)]
        self.foreign = foreign(self.machine.kernel, daemon.world)
        self.log: list[str] = []
        self.deleted: set[str] = set()  # by somebody, since the last call
        self.since = self.machine.now  # when the daemon was started
        self.runs = 0  # of `reconcile`
        self.no_sa = 0  # those for which there was nothing to do

    def new_machine(self, patch: pytest.MonkeyPatch) -> SwiftMachine:
        """What it runs on."""
        return SwiftMachine(patch)

    def perform(self, steps: Steps) -> None:
        """All steps, compared after every call; raises Wrong."""
        for step in steps:
            self.log.append(f"-- {step.thing} {step.who}" + (" (initiator)" if step.initiator else ""))
            doings = self.daemon.thing(step.thing, step.who, step.initiator)
            done, number, meddled = True, 0, False
            try:
                doing = next(doings)
                while True:
                    mishap = step.mishap if step.mishap and step.mishap.call == number and not meddled else None
                    if isinstance(doing, Meddling):
                        self.meddle(doing)
                        meddled = doing.what != "roam"
                    elif isinstance(doing, Reconcile):
                        self.reconcile(doing, mishap)
                    else:
                        self.deleted.clear()
                        done = self.deliver(doing, mishap, step.again)
                        number += 1
                    doing = doings.send(done)
            except StopIteration:
                continue

    def meddle(self, doing: Meddling) -> None:
        """Somebody takes something away; nothing is compared before the next call."""
        self.log.append(f"   {doing.what} {doing.one}")
        meddle(self.machine.kernel, doing)
        if doing.what == "restart":
            self.machine.now += 1
            self.since = self.machine.now
            for oracle in self.oracles:
                oracle.restarts()
        if doing.what == "delete":
            self.deleted.add(doing.one)
        if doing.what == "roam":
            self.foreign = foreign(self.machine.kernel, self.daemon.world)
            for oracle in self.oracles:
                oracle.roams(doing.one, doing.other)

    def deliver(self, call: Call, mishap: Optional[Mishap], again: bool) -> bool:
        """One call reaches the hook; whether it succeeded."""
        self.log.append(f"   {call}" + (f"  !! {mishap.kind} at {mishap.moment}" if mishap else ""))
        if mishap and mishap.kind == "lost":
            return True
        if mishap and mishap.kind.startswith("dies") and self.dies(call, mishap.moment):
            self.check_foreign()
            if mishap.kind == "dies and is gone":
                self.oracles += [told(oracle, call) for oracle in self.oracles if not oracle.refuses(call)]
                return False
        refusal = mishap.moment if mishap and mishap.kind == "refused" else None
        if not self.succeeds(call, refusal):
            return False
        if again:
            report = self.machine.send(self.daemon.environment(call))
            if report.operations:
                raise Wrong(f"sent again, it does {[operation.action for operation in report.operations]}")
        return True

    def dies(self, call: Call, at: int) -> bool:
        """The process is killed; False where it was over before."""
        try:
            dead = self.machine.dies(self.daemon.environment(call), at)
        except Conflict:
            return False  # it comes again, and is looked at then
        if dead:
            self.log[-1] += f" ({self.machine.moments[at]})"
        return dead

    def succeeds(self, call: Call, refusal: Optional[int], unsure: bool = False) -> bool:
        """Send it, and compare. One that fails leaves everything as it was, unless we are `unsure` what that is."""
        kernel, machine, environment = self.machine.kernel, self.machine, self.daemon.environment(call)
        unsure = unsure or len(self.oracles) > 1 or bool(machine.unfinished())
        before = None if unsure else (kernel.picture(indexes=False), machine.claims())
        try:
            report = machine.send(environment) if refusal is None else machine.refused(environment, refusal)
        except (UpdownError, sqlite3.Error) as error:
            hit = self.hit(refusal)
            self.log[-1] += f" -> {type(error).__name__} {error} {hit}"
            if not hit and not (isinstance(error, Conflict) and any(one.refuses(call) for one in self.oracles)):
                raise Wrong(f"it failed: {error}") from error
            self.check_foreign()
            after = (kernel.picture(indexes=False), machine.claims())
            if before and after != before:
                raise Wrong(f"it failed, and left {changes(before, after)}") from error
            for oracle in self.oracles:
                oracle.fails(call)
            return False
        hit = self.hit(refusal)
        if hit:
            self.log[-1] += f" {hit}"
            if not report.warnings:
                raise Wrong("something was refused, and nobody was told")
            machine.send(environment)  # the next event mends it: here it is the same again
        if any(oracle.refuses(call) for oracle in self.oracles):
            raise Wrong("it succeeded with a device that is not ours")
        for oracle in self.oracles:
            oracle.happens(call)
        self.compare()
        return True

    def hit(self, refusal: Optional[int]) -> str:
        """What was refused."""
        moments = self.machine.moments
        if refusal is None or refusal >= len(moments) or moments[refusal] == "after a commit":
            return ""
        return f"({moments[refusal]})"

    # -- reconcile

    def reconcile(self, doing: Reconcile, mishap: Optional[Mishap]) -> None:
        """It ends as the oracle says, and has nothing to do where that is what there was. A second one never has."""
        self.log.append(f"   {doing}" + (f"  !! {mishap.kind} at {mishap.moment}" if mishap else ""))
        told_all = [oracle.copy() for oracle in self.oracles]
        for oracle in told_all:
            oracle.learns(doing.truth)
            for device in self.deleted:
                oracle.loses(device)
        self.deleted.clear()
        machine = self.machine
        calm = len(told_all) == 1 and told_all[0].same(self.oracles[0]) and not machine.unfinished()
        calm = calm and not differences(machine.kernel, told_all[0])
        before = machine.claims()
        calm = calm and Counter(ends_of(before)) == Counter(
            (hold.tunnel.connection, hold.tunnel.me, hold.tunnel.peer) for hold in told_all[0].held.values()
        )
        self.oracles = told_all
        if mishap and mishap.kind.startswith("dies"):
            machine.interrupted(lambda: self.reconciled(doing), mishap.moment)
            self.check_foreign()
        elif mishap and mishap.kind == "refused":
            machine.refuses_at = mishap.moment
            try:
                report = self.reconciled(doing).report
                if self.hit(mishap.moment) and not report.warnings:
                    raise Wrong("something was refused, and nobody was told")
            except sqlite3.Error:  # `vti-updown reconcile` says so, and ends with status 1
                self.machine.base.rollback()
            finally:
                machine.refuses_at = None
        first = self.reconciled(doing)
        self.runs += 1
        self.no_sa += calm
        if calm and (first.report.operations or machine.claims() != before or told_of(first)):
            raise Wrong(
                f"nothing had happened, and reconcile did {told_of(first)} {changes(((), before), ((), machine.claims()))}"
            )
        self.compare()
        claims = Counter((claim.kind, claim.connection, claim.device) for claim in machine.claims())
        fit = [one for one in self.oracles if claims == Counter(kinds_of(one))]
        if not fit:
            raise Wrong(f"claims {[claim.key for claim in machine.claims()]}, wanted {list(self.oracles[0].held)}")
        self.oracles = fit
        again = self.reconciled(doing)
        if again.report.operations or told_of(again):
            raise Wrong(f"a second reconcile did {told_of(again)}")

    def reconciled(self, doing: Reconcile) -> Outcome:
        """`vti-updown reconcile`, told the truth."""
        machine = self.machine
        machine.moments = []
        witnesses = self.witnesses(doing)
        with machine.ledger() as ledger:
            kernel = cast(Netlink, machine.kernel)
            return run.reconcile_ledger(ledger, kernel, lambda _: machine.lines, witnesses, machine.now + GRACE)

    def witnesses(self, doing: Reconcile) -> Evidence:
        """What its daemon and the kernel say."""
        return facts(doing.daemon, doing.truth, self.since)

    # -- comparing

    def compare(self) -> None:
        """What is there is what (one of) the oracles say; those that were wrong are forgotten."""
        self.check_foreign()
        found = [(oracle, differences(self.machine.kernel, oracle)) for oracle in self.oracles]
        right = [oracle for oracle, wrong in found if not wrong]
        if not right:
            raise Wrong("; ".join(found[0][1]))
        self.oracles = right[:1] if len({str(sorted(oracle.held)) for oracle in right}) == 1 else right
        if self.machine.unfinished():
            raise Wrong(f"unfinished: {self.machine.unfinished()}")
        for claim in self.machine.claims():
            again = derive_again(claim, self.machine.lines, self.machine.kernel.vrf_table)
            if again != claim:
                raise Wrong(f"stored is not what is derived: {set(again.resources) ^ set(claim.resources)}")

    def check_foreign(self) -> None:
        """Promise P3, at any time."""
        now = foreign(self.machine.kernel, self.daemon.world)
        if now != self.foreign:
            raise Wrong(f"what others made changed: {now ^ self.foreign}")


def ends_of(claims: list[Claim]) -> Iterator[tuple[str, str, str]]:
    """Connection and both ends of each claim."""
    return ((claim.connection, claim.sa.me, claim.sa.peer) for claim in claims)


def kinds_of(oracle: Oracle) -> Iterator[tuple[str, str, str]]:
    """Kind, connection and device of what is held."""
    return ((hold.kind, hold.tunnel.connection, hold.tunnel.device) for hold in oracle.held.values())


def told_of(outcome: Outcome) -> list[object]:
    """What a reconcile did."""
    decision = outcome.decision
    actions = [f"{one.action} {one.reason}" for one in outcome.report.operations]
    return [*actions, *decision.ended, *decision.moved, *decision.to_revive]


def told(oracle: Oracle, call: Call) -> Oracle:
    """What would be, had the call counted."""
    other = oracle.copy()
    other.happens(call)
    return other


def differences(kernel: Kernel, oracle: Oracle) -> list[str]:
    """What is there, and should not be, and the other way round."""
    names = {index: link.name for index, link in kernel.by_index.items()}
    wanted = oracle.devices()
    ours = {link.name: link for link in kernel.by_index.values() if link.alias == OUR_ALIAS}
    found: list[str] = []
    if ours.keys() != wanted.keys():
        found.append(f"devices {sorted(ours)}, wanted {sorted(wanted)}")
    for name in ours.keys() & wanted.keys():
        link = ours[name]
        held = any(hold.tunnel.device == name for hold in oracle.held.values())
        keys = (link.if_id, link.if_id) if link.kind == "xfrm" else (link.ikey, link.okey)
        if (link.kind, link.local, link.remote, *keys) != wanted[name]:
            found.append(f"{link}, wanted {wanted[name]}")
        if link.up != oracle.is_up(name) and (held or link.up):  # nobody sets up what nobody holds
            found.append(f"{name} is {'up' if link.up else 'down'}")
    for name in wanted.keys() & ours.keys() | oracle.world.adopted:
        there = set(kernel.addressed[kernel.named(name).ifindex])
        if there - FOREIGN_ADDRESSES != oracle.addresses(name) - FOREIGN_ADDRESSES:
            found.append(f"{name} has {sorted(there)}, wanted {sorted(oracle.addresses(name))}")
    routes = {
        RouteSeen(entry.route.destination, names[entry.oif], entry.route.metric, entry.route.source)
        for entry in kernel.table
        if entry.route.protocol == OUR_PROTOCOL
    }
    clamped = {hold.tunnel.device for hold in oracle.held.values()}
    if kernel.tables.keys() != clamped:
        found.append(f"nftables tables for {sorted(kernel.tables)}, wanted {sorted(clamped)}")
    bare = [{route._replace(source="") for route in each} for each in (routes, oracle.routes())]
    if bare[0] != bare[1] or not all(route.source in oracle.sources(route) for route in routes):
        found.append(f"routes {sorted(routes)}, wanted {sorted(oracle.routes())}")
    return found


FOREIGN_ADDRESSES = {"10.77.0.1/24"}


def foreign(kernel: Kernel, world: World) -> frozenset[tuple[object, ...]]:
    """What is not ours: links but for being up, addresses, routes, sysctls."""
    found: set[tuple[object, ...]] = set()
    names = {index: link.name for index, link in kernel.by_index.items()}
    others = {"lo", "eth0"} | world.adopted | world.unfit
    for index, link in kernel.by_index.items():
        if link.name in others:
            found.add(("link", link._replace(up=link.up or link.name in world.adopted)))
            claimed = FOREIGN_ADDRESSES if link.name in world.adopted else kernel.addressed[index]
            found |= {("address", link.name, text) for text in kernel.addressed[index] if text in claimed}
    for route, oif, _ in kernel.table:
        if route.protocol != OUR_PROTOCOL:
            found.add(("route", route, names.get(oif)))
    found |= {item for item in kernel.files.items() if item[0].split("/")[3] in others}
    return frozenset(found)


def changes(before: tuple[Any, ...], after: tuple[Any, ...]) -> str:
    """Where two pictures differ."""
    said: list[str] = []
    for was, now in zip((*before[0], before[1]), (*after[0], after[1])):
        old, new = (list(part.items()) if isinstance(part, dict) else part for part in (was, now))
        said += [f"- {one}" for one in old if one not in new] + [f"+ {one}" for one in new if one not in old]
    return "\n".join(["", *said])


# -- failing


def trial(daemon: Daemon, steps: Steps, kind: type[Run] = Run) -> tuple[Optional[BaseException], list[str]]:
    """Run the steps on a machine of their own: what was wrong, and what was called until then."""
    patch = pytest.MonkeyPatch()
    run = kind(daemon, patch)
    try:
        run.perform(steps)
    except (Exception, Kill) as problem:
        return problem, run.log
    finally:
        run.machine.base.close()
        patch.undo()
    return None, run.log


def shortened(steps: Steps, fails: Callable[[Steps], bool]) -> Steps:
    """Fewer and simpler steps that fail too."""
    changed = True
    while changed:
        changed = False
        for number in reversed(range(len(steps))):
            simpler = [steps[:number] + steps[number + 1 :]]
            one = steps[number]
            easier: dict[str, Any] = {"mishap": None, "again": False, "initiator": True}
            for name, value in easier.items():
                if getattr(one, name) != value:
                    simpler.append((*steps[:number], one._replace(**{name: value}), *steps[number + 1 :]))
            for fewer in simpler:
                if fewer != steps and fails(fewer):
                    steps, changed = fewer, True
                    break
    return steps


def check(daemon: Daemon, steps: Steps, origin: str = "", run: type[Run] = Run) -> None:
    """The sequence must be right; else say the shortest one that is wrong."""
    problem, _ = trial(daemon, steps, run)
    if problem is None:
        return
    kind = type(problem)
    short = shortened(steps, lambda fewer: type(trial(daemon, fewer, run)[0]) is kind)
    problem, log = trial(daemon, short, run)
    lines = "".join(f"    {step},\n" for step in short)
    text = "\n".join(log)
    more = "" if run is Run else f", run={run.__name__}"
    raise Wrong(f"{origin}\n{text}\n{problem!r}\n\ncheck({daemon.__name__}, (\n{lines}){more})") from problem
