"""The kernel model of the property tests against the real kernel: the same random sequences of events, on both.

After every call both hold the same devices, addresses and routes, ours and others'. First the whole sequence goes through the
model, then through the real kernel in a namespace of its own; the ledger is in memory both times.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Callable, Union, cast

import pytest

from tests.kernel.calls import private_namespace as namespace
from tests.kit.grammar_libreswan import Libreswan, Meddling, Reconcile
from tests.kit.grammar_strongswan import EACH, StrongSwan
from tests.kit.interfaces import Interfaces
from tests.kit.machine import GATEWAY, NOW, WEST, WEST6, SwiftMachine
from tests.kit.oracle import Call
from tests.kit.sequences import Daemon, Room, Steps, index_of, made_from, meddle, prepare_world
from tests.kit.settings_text import parse
from tests.kit.witnesses import facts
from updown import daemons, event
from updown.commands.reconcile import run
from updown.commands.reconcile.decide import GRACE
from updown.kernel.netlink.route_messages import UNICAST
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger.file import connect, prepare_tables
from updown.ledger.store import Ledger
from updown.model.errors import UpdownError
from updown.model.objects import MAIN_TABLE, Link, Route

pytestmark = pytest.mark.kernel

SEQUENCES = 210
LOTS = 7
Picture = tuple[tuple[object, ...], ...]
Send = Callable[[Union[Call, Reconcile]], bool]


def picture(kernel: Room, names: list[str]) -> Picture:
    """Links, addresses and routes, without indexes and what is link-local."""
    found: list[tuple[object, ...]] = []
    known = {}
    for name in names:
        link = kernel.link(name)
        if link is None:
            continue
        known[link.ifindex] = name
        addresses = sorted(text for text in kernel.addresses(link.ifindex) if not text.startswith("fe80:"))
        kind = link.kind if name != "eth0" else ""  # a dummy has to do for it
        found.append((*link._replace(kind=kind, ifindex=0, parent=0), *addresses))
    for family in (4, 6):
        for seen in kernel.routes(family):
            local = seen.destination.startswith(("fe80:", "ff00:"))
            if seen.table == MAIN_TABLE and seen.type == UNICAST and not local:
                found.append(("route", known.get(seen.oif, "?"), *seen._replace(oif=0)))
    return tuple(sorted(found, key=str))


def story(daemon: Daemon, steps: Steps, kernel: Room, send: Send, names: list[str]) -> Iterator[tuple[str, Picture]]:
    """Each call, and what is there after it."""
    pluto = daemon()
    for step in steps:
        doings = pluto.thing(step.thing, step.who, step.initiator)
        answer: object = None
        with contextlib.suppress(StopIteration):
            while True:
                doing = doings.send(answer)  # type: ignore[arg-type]
                answer = True
                if isinstance(doing, Meddling):
                    meddle(kernel, doing)
                else:
                    answer = send(doing)
                yield f"{doing} -> {answer}", picture(kernel, names)


def on_the_model(daemon: Daemon, steps: Steps, names: list[str]) -> list[tuple[str, Picture]]:
    """The sequence in memory."""
    with pytest.MonkeyPatch.context() as patch:
        machine = SwiftMachine(patch)
        machine.settings(daemon.settings)
        prepare_world(machine.kernel)

        def send(call: Call | Reconcile) -> bool:
            with contextlib.suppress(UpdownError):
                if isinstance(call, Reconcile):
                    with machine.ledger() as ledger:
                        reconciled(call, daemon, ledger, cast(Netlink, machine.kernel))
                else:
                    machine.send(daemon.environment(call))
                return True
            return False

        return list(story(daemon, steps, machine.kernel, send, names))


def on_the_real_kernel(daemon: Daemon, steps: Steps, names: list[str]) -> Iterator[tuple[str, Picture]]:
    """The sequence in the present namespace."""
    base = connect(":memory:")
    prepare_tables(base)
    lines = tuple(parse(daemon.settings, "settings"))
    with Netlink() as netlink:
        build(netlink)
        prepare_world(netlink)

        def send(call: Call | Reconcile) -> bool:
            with contextlib.suppress(UpdownError):
                if isinstance(call, Reconcile):
                    reconciled(call, daemon, Ledger(base), netlink)
                    return True
                event.run(daemons.read(daemon.environment(call)), lines, Ledger(base), netlink, NOW, False)
                return True
            return False

        yield from story(daemon, steps, netlink, send, names)
    base.close()


def reconciled(doing: Reconcile, daemon: Daemon, ledger: Ledger, netlink: Netlink) -> None:
    """`vti-updown reconcile`, told the truth."""
    lines = tuple(parse(daemon.settings, "settings"))
    run.reconcile_ledger(ledger, netlink, lambda _: lines, facts(doing.daemon, doing.truth, 0), NOW + GRACE)


def build(netlink: Netlink) -> None:
    """What Machine has before anything happens."""
    netlink.set_link(index_of(netlink, "lo"), up=True)
    eth0 = netlink.add_link(Link("eth0", "dummy")).ifindex
    netlink.set_link(eth0, up=True)
    for address in (f"{WEST}/24", f"{WEST6}/64"):
        netlink.add_address(eth0, address)
    netlink.add_route(Route("0.0.0.0/0", "eth0", GATEWAY, protocol=3), eth0)
    netlink.add_route(Route("::/0", "eth0", "2001:db8:0:1::fe", protocol=3), eth0)


@pytest.mark.parametrize("lot", range(LOTS))
def test_the_model_does_what_the_kernel_does(lot: int) -> None:
    daemon: Daemon = {0: StrongSwan, 1: Interfaces}.get(lot, Libreswan)
    for number in range(lot, SEQUENCES, LOTS):
        steps = made_from(daemon, f"model/{number}", calm=True)
        devices = {pair.device for step in steps for pair in daemon.connections[step.who].pairs}
        each = {device.replace(EACH, str(number)) for device in devices for number in range(101, 116)}
        names = sorted({"lo", "eth0", "vti21", *each})
        wanted = on_the_model(daemon, steps, names)
        told: list[str] = []
        with namespace():
            for (said, model), (really, real) in zip(wanted, on_the_real_kernel(daemon, steps, names)):
                told.append(really)
                assert said == really, "\n".join(told)
                changed = [f"model {one}" for one in model if one not in real]
                changed += [f"real  {one}" for one in real if one not in model]
                assert not changed, "\n".join([f"sequence {number}", *told, *changed])
