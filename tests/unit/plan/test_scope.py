"""How much an event looks at: what hangs on a device only where the device is made, set up or loses an address (promise P9)."""

from pathlib import Path
from typing import cast

import pytest

from tests.kit import machine as machines
from tests.kit.machine import Environment, Machine, Tunnel, call, establish
from tests.kit.many_tunnels import Costs, LargeKernel, Meter
from updown import daemons, event
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger.store import Ledger
from updown.model.claims import REVIVE, SA
from updown.model.errors import UpdownError
from updown.model.objects import Link, Route

MANY = (20, 200, 2000)
DAEMONS_OWN = {"VTI_IFACE": "", "PLUTO_VIRT_INTERFACE": "ipsec1", "PLUTO_XFRMI_ROUTE": "yes"}
NOISE = 100  # steps of SQLite by which the depth of an index makes a difference; a claim that is read takes more


def of(number: int, own: bool) -> Tunnel:
    """One of many tunnels on a device."""
    made = Tunnel(f"t{number}", theirs=f"10.{number >> 8}.{number & 255}.0/24", shared="yes")
    return made._replace(device="", mark_in="", mark_out="") if own else made


def calls(number: int, verb: str, own: bool) -> Environment:
    return {**call(of(number, own), verb), **(DAEMONS_OWN if own else {})}


def missing(machine: Machine) -> None:
    """The daemon's own device is in another namespace."""


def other(machine: Machine) -> None:
    """A device of that name has another if_id."""
    machine.kernel.add_link(Link("ipsec1", "xfrm", if_id=77))


def in_the_way(machine: Machine) -> None:
    """Somebody's VTI has the name, and another key."""
    machine.kernel.add_link(Link("vti5", "vti", local="198.51.100.1", remote="198.51.100.9", ikey=77, okey=77))


CASES = {
    "the daemon's own device is not here": (missing, True, "up"),
    "the daemon's own device is another": (other, True, "up"),
    "the daemon's own device is not here, and one leaves": (missing, True, "down"),
    "somebody's device is in the way": (in_the_way, False, "up"),
    "somebody's device is in the way, and one leaves": (in_the_way, False, "down"),
}


def copies(ledger: Ledger, claims: int) -> None:
    """As many claims as that on the device, all but the first as copies of it with routes of their own."""
    (first,) = ledger.claims()
    with ledger.transaction():
        for number in range(2, claims + 1):
            theirs = of(number, False).theirs
            routes = tuple(one._replace(destination=theirs) if isinstance(one, Route) else one for one in first.resources)
            key = first.key.replace('"t1"', f'"t{number}"').replace("10.0.1.0/24", theirs)
            tunnel = first.tunnel.replace('"t1"', f'"t{number}"')
            ledger.put(first._replace(key=key, connection=f"t{number}", tunnel=tunnel, resources=routes, order=0))


def cost(folder: Path, case: str, claims: int) -> Costs:
    """What one event costs with so many claims on the device."""
    prepare, own, verb = CASES[case]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machines, "Kernel", LargeKernel)
        machine = Machine(folder / str(claims), patch)
        machine.kernel.fault = None
        machine.send(calls(1, "up", own))
        if not own:
            machine.kernel.remove(machine.kernel.named("vti5").ifindex)
        prepare(machine)
        with machine.ledger() as ledger:
            copies(ledger, claims)
            context = daemons.read(calls(claims, verb, own))
            with Meter(machine.kernel, ledger) as meter:
                try:
                    event.run(context, machine.lines, ledger, cast(Netlink, machine.kernel), machine.now, False)
                except UpdownError as error:
                    assert "vti5 is not ours" in error.text
            return meter.costs


@pytest.mark.parametrize("case", CASES)
def test_an_event_on_a_device_that_cannot_be_used_costs_the_same_however_many_claims_are_on_it(
    tmp_path: Path, case: str
) -> None:
    few, some, many = (cost(tmp_path, case, claims) for claims in MANY)
    assert few.questions > 0
    assert few[1:] == some[1:] == many[1:]
    assert max(abs(few.steps - other.steps) for other in (some, many)) < NOISE


FAILS_OVER = Tunnel("first", theirs="10.2.0.0/24")
WIDE = Tunnel("wide", theirs="10.0.0.0/8", peer="198.51.100.3", device="vti6", mark_in="6/0xff", mark_out="6/0xff", reqid=16392)


def crowd(ledger: Ledger, number: int) -> None:
    """So many claims that live within the wide tunnel's prefix, as many that wait outside of it, and as many for
    one route in it."""
    (wide,) = (claim for claim in ledger.claims() if claim.connection == "wide")
    with ledger.transaction():
        for one in range(number):
            place = f"{100 + (one >> 8)}.{one & 255}.0/24"
            for name, kind, theirs in (
                ("lives", SA, f"10.{place}"),
                ("waits", REVIVE, f"11.{place}"),
                ("same", REVIVE, "10.9.0.0/24"),
            ):
                key, device = f"{name} {one}", "vti99" if name == "same" else f"vti{100 + one}"
                claim = wide._replace(key=key, kind=kind, connection=key, tunnel=key, group=key, device=device, order=0)
                ledger.put(claim._replace(resources=(Route(theirs, device),)))


def costs_of_fail_over(folder: Path, number: int) -> list[Costs]:
    """What each event costs by which a route yields, comes back, or loses what it yielded to."""
    found: list[Costs] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machines, "Kernel", LargeKernel)
        machine = Machine(folder / f"crowd {number}", patch)
        machine.kernel.fault = None
        machine.send_all(establish(FAILS_OVER) + establish(WIDE))
        with machine.ledger() as ledger:
            crowd(ledger, number)
            for one, verb, wishes in (
                (FAILS_OVER, "down", ("UP",)),
                (FAILS_OVER, "up", ()),
                (FAILS_OVER, "down", ("UP",)),
                (WIDE, "down", ("UP",)),
                (WIDE, "up", ()),
                (WIDE, "down", ()),
            ):
                context = daemons.read(call(one, verb, wishes=wishes))
                with Meter(machine.kernel, ledger) as meter:
                    event.run(context, machine.lines, ledger, cast(Netlink, machine.kernel), machine.now, False)
                found.append(meter.costs)
    return found


def test_who_has_the_way_is_found_at_the_same_cost_however_many_tunnels_live_or_wait(tmp_path: Path) -> None:
    few, some, many = (costs_of_fail_over(tmp_path, number) for number in MANY)
    assert [one.changes for one in few] == [1, 1, 1, 1, 1, 2]
    for early, *late in zip(few, some, many):
        assert all(early[1:] == other[1:] and abs(early.steps - other.steps) < NOISE for other in late), (early, late)
