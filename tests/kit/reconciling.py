"""`reconcile` on a test's machine: what pluto and the kernel's XFRM database say, and what is done about it."""

from __future__ import annotations

from typing import Any, cast

from tests.kit.machine import NOW, THIRD, WEST, Machine, Tunnel
from updown.commands.reconcile.decide import GRACE, Evidence
from updown.commands.reconcile.report import Outcome
from updown.commands.reconcile.run import reconcile_ledger
from updown.daemons.answer import ANSWERED, ChildSa, DaemonAnswer
from updown.kernel.netlink.rtnetlink import Netlink
from updown.model.ipsec import Database, Key, Policy, Sa, State
from updown.model.objects import OUR_ALIAS, Link, Route

LATER = NOW + GRACE


def child(tunnel: Tunnel, **more: Any) -> ChildSa:
    """What pluto tells of a tunnel that is up."""
    return ChildSa("libreswan", tunnel.connection, tunnel.me, tunnel.peer, tunnel.reqid, wants_device=True)._replace(**more)


def said(*children: ChildSa, held: tuple[str, ...] = ()) -> DaemonAnswer:
    """What pluto answers: it has these children, and these connections are held by it."""
    return DaemonAnswer(ANSWERED, since=1, children=children, held=held)


def database(*tunnels: Tunnel) -> Database:
    """What the kernel has of these tunnels."""
    return Database(
        tuple(
            Policy("out", one.mine, one.theirs, reqids=(one.reqid + 1,), key=Key(int(one.mark_out.split("/")[0]), 0xFF))
            for one in tunnels
        ),
        tuple(State(one.peer, one.me, one.reqid, one.reqid + 1, Sa(50, 1, 4)) for one in tunnels),
    )


def reconcile(
    machine: Machine, word: DaemonAnswer, xfrm: Database | None = None, now: int = LATER, dry: bool = False, **more: Any
) -> Outcome:
    """With pluto's answer and this database."""
    facts = Evidence({"libreswan": word}, Database() if xfrm is None else xfrm)
    return reconcile_with(machine, facts, now, dry, **more)


def reconcile_with(machine: Machine, facts: Evidence, now: int = LATER, dry: bool = False, **more: Any) -> Outcome:
    """With this evidence, under the lock."""
    with machine.ledger() as ledger:
        return reconcile_ledger(ledger, cast(Netlink, machine.kernel), lambda _: machine.lines, facts, now, dry, **more)


def settled(machine: Machine, word: DaemonAnswer, xfrm: Database | None = None) -> None:
    """A second reconcile finds nothing to do."""
    again = reconcile(machine, word, xfrm)
    assert again.report.operations == ()
    assert again.decision.ended == ()
    assert machine.unfinished() == []


def foreign(machine: Machine, name: str = "vti8", remote: str = THIRD, alias: str = OUR_ALIAS) -> Link:
    """A device with a route of ours that no claim asks for; with another alias it is somebody else's."""
    made = machine.kernel.add_link(Link(name, "vti", local=WEST, remote=remote, ikey=8, okey=8, up=True))
    machine.kernel.set_link(made.ifindex, alias=alias)
    machine.kernel.add_route(Route("10.8.0.0/24", name), made.ifindex)
    return machine.kernel.named(name)
