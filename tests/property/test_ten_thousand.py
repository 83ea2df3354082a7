"""Ten thousand tunnels up and down: nothing is left, and the last event is as cheap as the tenth (promise P9)."""

from pathlib import Path
from typing import Callable, cast

import pytest

from tests.kit import machine as machines
from tests.kit.charon import Child, charon_call
from tests.kit.machine import NOW, WEST, Environment, Machine, Tunnel, call
from tests.kit.many_tunnels import Costs, LargeKernel, Meter
from tests.kit.recorded_tunnels import SETTINGS as REPLAYED_SETTINGS
from tests.kit.recorded_tunnels import tunnel
from updown import daemons, event
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger.file import open_ledger
from updown.ledger.store import Ledger
from updown.model.objects import OUR_PROTOCOL


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
        connection=f"shared{number}", device="vti5", mark_in="5/0xff", mark_out="5/0xff", shared="yes", address="10.99.0.1/24"
    )


def addressed(number: int) -> Tunnel:
    """One of many on a device, with an address of its own there."""
    return shared(number)._replace(connection=f"addressed{number}", address=f"172.16.{number >> 8}.{number & 255}/32")


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
        # the networks behind: where it had no address there, an event would look through all
        self.kernel.physical("lan0", "10.1.0.1/24", "10.1.1.1/24", "fd00:1::1/64")
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


def test_ten_thousand_recorded_tunnels_up_and_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both daemons' calls, eleven sequences in turn, each for tunnels with names, ends, networks and marks of their own; one of
    each is measured early, and one late."""
    many = Many(tmp_path, monkeypatch)
    kept = "".join(
        f"{key} = keep\n"
        for key in ("forwarding", "disable_policy", "rp_filter", "accept_ra", "send_redirects", "accept_redirects")
    )
    many.machine.settings(REPLAYED_SETTINGS.replace("[defaults]\n", f"[defaults]\n{kept}"))
    before, names = many.kernel.everything(), set(many.kernel.names)
    last = 10_000
    few, crowd = range(13, 24), range(last - 10, last + 1)  # of each sequence one, and the same ones
    routes: set[str] = set()
    devices: set[str] = set()
    came: dict[int, list[Costs]] = {}
    for number in range(1, last + 1):
        one = tunnel(number)
        routes |= one.networks
        devices.add(one.device)
        if number in few or number in crowd:
            came[number] = many.costs(one.comes)
        else:
            for environment in one.comes:
                many.send(environment)
    for early, late in zip(few, crowd):
        alike(came[late], came[early])
    assert set(many.kernel.names) - names == devices
    there = [route for slot in many.kernel.prefixes.values() for route, _, _ in slot]
    assert {route.destination for route in there if route.protocol == OUR_PROTOCOL} == routes
    went: dict[int, list[Costs]] = {}
    for number in range(last, 0, -1):
        one = tunnel(number)
        if number in few or number in crowd:
            went[number] = many.costs(one.with_last)
        else:
            for environment in one.with_last:
                many.send(environment)
    for early, late in zip(few, crowd):
        alike(went[late], went[early])
    assert many.kernel.dumped == [], "an event read a whole table of the kernel"
    assert many.kernel.everything() == before
    assert list(many.ledger.claims()) == []
    assert many.ledger.all_made() == {}
    assert many.ledger.unfinished() == {}
