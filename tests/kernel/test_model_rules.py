"""What the kernel model refuses and what it takes, against the real kernel: identities, the kernel's own devices, changes, what
a link down and the last address take along, and devices that were moved to another namespace.

The same steps go to both; the answers are written down by hand.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, Union

import pytest

from tests.kernel.calls import ip, private_namespace
from tests.kit.kernel_model import Kernel
from tests.kit.machine import EAST, EAST6, THIRD, WEST, WEST6
from updown.kernel.netlink.rtnetlink import Netlink
from updown.model.errors import KernelError
from updown.model.objects import Link, Route

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("modules")]

Room = Union[Netlink, Kernel]
Step = tuple[str, Callable[[Room], object], int]
"""What is done, in words; how; and the error it has to end with, 0 for none."""

VTI = Link("a", "vti", local=WEST, remote=EAST, ikey=5, okey=5)
VTI6 = Link("f", "vti6", local=WEST6, remote=EAST6, ikey=5, okey=5)
XFRM = Link("x", "xfrm", if_id=7)


def add(text: str, link: Link, number: int = 0) -> Step:
    return f"add {text}", lambda room: room.add_link(link), number


def change(text: str, name: str, number: int = 0, **fields: Any) -> Step:
    def change_it(room: Room) -> object:
        have = room.link(name)
        assert have is not None
        return room.change_link(have._replace(**fields))

    return f"change {text}", change_it, number


IDENTITIES: tuple[Step, ...] = (
    add("a VTI", VTI),
    add("its name again", VTI._replace(remote=THIRD), errno.EEXIST),
    add("its ends again, with another key", VTI._replace(name="b", ikey=6, okey=6), errno.EEXIST),
    add("another remote end", VTI._replace(name="b", remote=THIRD)),
    add("remote any", VTI._replace(name="c", remote="0.0.0.0")),
    add("remote any again, with another key", VTI._replace(name="d", remote="0.0.0.0", ikey=6, okey=6), errno.EEXIST),
    add("a VTI6", VTI6),
    add("its ends again", VTI6._replace(name="g", ikey=6), errno.EEXIST),
    add("VTI6, remote any", VTI6._replace(name="g", remote="::")),
    add("an XFRM interface", XFRM),
    add("its if_id again", XFRM._replace(name="y"), errno.EEXIST),
    add("another if_id", XFRM._replace(name="y", if_id=8)),
    change("a VTI's keys", "a", ikey=9, okey=10),
    change("a VTI's remote end", "b", remote="198.51.100.77"),
    change("one VTI's ends to another's", "b", errno.EEXIST, remote=EAST),
    change("a VTI6's remote end to another's", "f", errno.EEXIST, remote="::"),
    change("a VTI6's keys", "f", ikey=9, okey=10),
)


def run(steps: tuple[Step, ...], room: Room) -> list[tuple[str, int]]:
    """What each step ended with."""
    found: list[tuple[str, int]] = []
    for text, do, _ in steps:
        try:
            do(room)
            found.append((text, 0))
        except KernelError as error:
            found.append((text, error.errno or -1))
    return found


def links(room: Room) -> list[tuple[object, ...]]:
    """The tunnel devices, by what identifies them."""
    found = (room.link(name) for name in "abcdfgxy")
    return [(link.name, link.kind, link.local, link.remote, link.ikey, link.okey, link.if_id) for link in found if link]


def test_identities_and_changes() -> None:
    wanted = [(text, number) for text, _, number in IDENTITIES]
    model = Kernel()
    with private_namespace(), Netlink() as real:
        assert run(IDENTITIES, real) == wanted
        assert run(IDENTITIES, model) == wanted
        assert links(real) == links(model)


@pytest.mark.parametrize(("name", "kind", "anywhere"), [("ip_vti0", "vti", "0.0.0.0"), ("ip6_vti0", "vti6", "::")])
def test_the_kernels_own_device_has_both_ends_any(name: str, kind: str, anywhere: str) -> None:
    """It comes with the module, takes that identity, and cannot be changed or deleted."""
    model = Kernel()
    model.fallback(name, kind)
    ours = Link("a", kind, local=anywhere, remote=anywhere, ikey=5, okey=5)

    def delete(room: Room) -> None:
        link = room.link(name)
        assert link is not None
        room.delete_link(link.ifindex)
        still = room.link(name)
        assert still is not None

    steps = (add("both ends any", ours, errno.EEXIST), change("it", name, errno.EINVAL, ikey=7, okey=7))
    with private_namespace(), Netlink() as real:
        there = real.link(name)
        assert there is not None, f"the module gives no {name}"
        assert (there.kind, there.local, there.remote) == (kind, anywhere, anywhere)
        assert run(steps, real) == [(text, number) for text, _, number in steps]
        assert run(steps, model) == [(text, number) for text, _, number in steps]
        results = [run((("delete it", delete, 0),), room) for room in (real, model)]
        assert results[0] == results[1]


def test_a_device_that_was_moved_away_keeps_its_identity_taken() -> None:
    """Where it was born; its name is free there."""
    model = Kernel()
    again = (
        add("the VTI's ends again", VTI._replace(name="b"), errno.EEXIST),
        add("the if_id again", XFRM._replace(name="y"), errno.EEXIST),
        add("the VTI's name, with other ends", VTI._replace(remote=THIRD)),
        add("the interface's name, with another if_id", XFRM._replace(if_id=9)),
    )
    wanted = [(text, number) for text, _, number in again]
    with private_namespace(), Netlink() as real:
        for room in (real, model):
            for link in (VTI, XFRM):
                room.add_link(link)
        ip("netns", "add", "model-rules")
        try:
            for name in ("a", "x"):
                ip("link", "set", "dev", name, "netns", "model-rules")
                model.move_away(name)
            assert run(again, real) == wanted
            assert run(again, model) == wanted
            assert links(real) == links(model)
        finally:
            ip("netns", "del", "model-rules")


@pytest.mark.parametrize("destination", ["10.2.0.0/24", "fd00:2::/64"])
def test_a_route_put_beside_another_one_leads_on_when_the_others_device_goes(destination: str) -> None:
    """At no moment does nothing lead there; beside a route of its own device it is refused."""
    model = Kernel()
    inside = destination.split("/")[0] + ("2" if ":" in destination else "")
    with private_namespace(), Netlink() as real:
        for room in (real, model):
            old, new = (room.add_link(link).ifindex for link in (XFRM, XFRM._replace(name="y", if_id=8)))
            for index in (old, new):
                room.set_link(index, up=True)
            room.add_route(Route(destination, "x"), old)
            with pytest.raises(KernelError) as refused:
                room.add_route(Route(destination, "y"), new)
            assert refused.value.errno == errno.EEXIST
            room.add_route(Route(destination, "y"), new, beside=True)
            with pytest.raises(KernelError) as refused:
                room.add_route(Route(destination, "y"), new, beside=True)
            assert refused.value.errno == errno.EEXIST
            found = room.match(inside).route
            assert found is not None
            assert found.oif == (old if ":" in destination else new)
            assert {seen.oif for seen in room.routes(6 if ":" in destination else 4) if seen.destination == destination} == {
                old,
                new,
            }
            room.delete_link(old)
            found = room.match(inside).route
            assert found is not None
            assert found.oif == new


def test_what_a_link_down_and_the_last_address_take_along() -> None:
    """IPv4: routes, and addresses stay; the last address takes all routes of the device."""
    model = Kernel()
    destinations = {"10.2.0.0/24", "10.3.0.0/24"}

    def left(room: Room, index: int) -> tuple[set[str], set[str]]:
        routes = {seen.destination for seen in room.routes(4) if seen.oif == index and seen.protocol == 4}
        return routes, {text for text in room.addresses(index) if ":" not in text}

    with private_namespace(), Netlink() as real:
        for room in (real, model):
            index = room.add_link(VTI).ifindex
            room.set_link(index, up=True)
            for address in ("10.99.0.1/30", "10.99.1.1/30"):
                room.add_address(index, address)
            for destination in sorted(destinations):
                room.add_route(Route(destination, "a", protocol=4), index)
            assert left(room, index) == (destinations, {"10.99.0.1/30", "10.99.1.1/30"})
            room.delete_address(index, "10.99.1.1/30")
            assert left(room, index) == (destinations, {"10.99.0.1/30"})
            room.set_link(index, up=False)
            assert left(room, index) == (set(), {"10.99.0.1/30"})
            room.set_link(index, up=True)
            for destination in sorted(destinations):
                room.add_route(Route(destination, "a", protocol=4), index)
            room.delete_address(index, "10.99.0.1/30")
            assert left(room, index) == (set(), set())
