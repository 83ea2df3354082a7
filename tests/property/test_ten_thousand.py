"""Ten thousand tunnels up and down: nothing is left, and the last event is as cheap as the tenth (promise P9)."""

from pathlib import Path
from typing import Callable, cast

import pytest

from tests.property import machine as machines
from tests.property.charon import Child, charon_call
from tests.property.machine import NOW, WEST, Environment, Machine, Tunnel, call
from tests.property.many import Costs, LargeKernel, Meter
from updown import daemons, event
from updown.kernel.netlink import Netlink
from updown.ledger import Ledger
from updown.ledger_file import open_ledger


def own(number: int) -> Tunnel:
    """A tunnel with a device, a mark and an address of its own."""
    mark = f"{number + 100}/0xffffffff"
    return Tunnel(
        f"own{number}",
        peer=f"203.{number >> 14}.{number >> 7 & 127}.{number & 127}",
        theirs=f"10.{number >> 8}.{number & 255}.0/24",
        device=f"o{number}",
        mark_in=mark,
        mark_out=mark,
        address=f"172.16.{number >> 8}.{number & 255}/32",
        reqid=20000 + 4 * number,
    )


def shared(number: int) -> Tunnel:
    """One of many on a device, with its one address."""
    return own(number)._replace(
        connection=f"shared{number}",
        device="vti5",
        mark_in="5/0xff",
        mark_out="5/0xff",
        shared="yes",
        address="10.99.0.1/24",
    )


def addressed(number: int) -> Tunnel:
    """One of many on a device, with an address of its own there."""
    return shared(number)._replace(connection=f"addressed{number}", address=f"172.16.{number >> 8}.{number & 255}/32")


def mixed(number: int) -> Tunnel:
    """Every other one has a device of its own."""
    return own(number) if number % 2 else shared(number)


def pluto(of: Callable[[int], Tunnel]) -> Callable[[int, str], Environment]:
    """libreswan calls for a tunnel."""
    return lambda number, verb: call(of(number), verb)


def charon(name: str, unique: bool) -> Callable[[int, str], Environment]:
    """strongSwan calls for a client of a child; all clients have one identity, and each its own marks and if_ids or all the
    same ones."""

    def calls(number: int, verb: str) -> Environment:
        key = str(number + 100) if unique else "5"
        mark, if_id = ("", key) if name == "xfrm" else (f"{key}/0xffffffff", "")
        one = own(number)
        pairs = ((one.mine, one.theirs),)
        child = Child(name, WEST, one.peer, "west", "everyone", pairs, mark, mark, if_id, if_id)
        return charon_call(child, verb, number)

    return calls


KINDS: dict[str, Callable[[int, str], Environment]] = {
    "own": pluto(own),
    "shared": pluto(shared),
    "addressed": pluto(addressed),
    "one identity, one VTI": charon("vti", False),
    "one identity, a VTI each": charon("each", True),
    "one identity, one XFRM interface": charon("xfrm", False),
    "one identity, an XFRM interface each": charon("xfrm", True),
}
SETTINGS = """
[defaults]
delete = last
[connection vti]
interface = vti5
shared = yes
routing = yes
[connection each]
interface = v{mark}
routing = yes
[connection xfrm]
interface = x{if_id}
routing = yes
"""
NOISE = 200  # steps: a claim more is read. An event takes some thousands, a look at each of many tunnels thousands more


class Many:
    """A ledger that stays open, the large kernel, and `delete = last`."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(machines, "Kernel", LargeKernel)
        self.machine = Machine(folder, patch)
        self.machine.settings(SETTINGS)
        self.kernel = cast(LargeKernel, self.machine.kernel)
        self.kernel.fault = None
        self.ledger: Ledger = open_ledger(str(folder / "state"), "1")
        self.ledger.base.execute("PRAGMA journal_mode = MEMORY")  # the test's own time; no process dies here

    def send(self, environment: Environment) -> None:
        """One event."""
        context = daemons.read(environment)
        event.run(context, self.machine.lines, self.ledger, cast(Netlink, self.kernel), NOW, False)

    def costs(self, environments: list[Environment]) -> list[Costs]:
        """What each of these events costs."""
        found: list[Costs] = []
        for environment in environments:
            with Meter(self.kernel, self.ledger) as meter:
                self.send(environment)
            found.append(meter.costs)
        return found


def alike(these: list[Costs], those: list[Costs], many_addresses: bool = False) -> None:
    """The same questions and changes, and but for the shape of a tree as many steps. With `many_addresses` on one device the
    kernel's answer to what they are is as long as they are many: it cannot be asked for one of them."""
    for this, that in zip(these, those):
        assert abs(this.steps - that.steps) < NOISE
        assert (this.questions, this.changes) == (that.questions, that.changes)
        assert this.rows == that.rows or many_addresses


def round_trip(kind: str, number: int) -> list[Environment]:
    """Everything that the daemon calls for a tunnel, from nothing to nothing."""
    verbs = ("up", "down") if "identity" in kind else ("prepare", "route", "up", "down", "unroute")
    return [KINDS[kind](number, verb) for verb in verbs]


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_costs_the_same_beside_ten_and_beside_five_hundred_tunnels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    many = Many(tmp_path, monkeypatch)
    for number in range(1, 11):
        many.send(KINDS[kind](number, "up"))
    few = many.costs(round_trip(kind, 3000))
    for number in range(11, 501):
        many.send(KINDS[kind](number, "up"))
    alike(many.costs(round_trip(kind, 3000)), few, kind == "addressed")


def test_ten_thousand_tunnels_up_and_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = Many(tmp_path, monkeypatch)
    kept = "".join(f"{key} = keep\n" for key in ("forwarding", "disable_policy", "rp_filter", "accept_ra"))
    many.machine.settings(f"[defaults]\ndelete = last\n{kept}")
    before = many.kernel.everything()
    last = 10_000
    came: dict[int, list[Costs]] = {}
    for number in range(1, last + 1):
        if number in (9, 10, last - 1, last):
            came[number] = many.costs([call(mixed(number), verb) for verb in ("prepare", "route", "up")])
        else:
            many.send(call(mixed(number), "up"))
    alike(came[last], came[10])
    alike(came[last - 1], came[9])
    assert len(list(many.ledger.all_made())) > last // 2
    went: dict[int, list[Costs]] = {}
    for number in range(last, 2, -1):
        if number in (9, 10, last - 1, last):
            went[number] = many.costs([call(mixed(number), verb) for verb in ("down", "unroute")])
        else:
            many.send(call(mixed(number), "down"))
    alike(went[last], went[10])
    alike(went[last - 1], went[9])
    assert many.kernel.dumped == [], "an event read a whole table of the kernel"
    for number in (2, 1):
        many.send(call(mixed(number), "down"))
    assert many.kernel.everything() == before
    assert list(many.ledger.claims()) == []
    assert many.ledger.all_made() == {}
    assert many.ledger.unfinished() == {}
