"""How much an event looks at: what hangs on a device only where the device is made, set up or loses an address (promise P9)."""

from pathlib import Path
from typing import cast

import pytest

from tests.kit import machine as machines
from tests.kit.machine import Environment, Machine, Tunnel, call
from tests.kit.many_tunnels import Costs, LargeKernel, Meter
from updown import daemons, event
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger.store import Ledger
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
