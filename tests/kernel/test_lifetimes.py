"""Lifetimes on a real kernel: crowds of calls at once, clients that leave one after the other, calls that are killed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.kernel.calls import command, fork, ip, towards_peers
from tests.kit.charon import Child, charon_call, charon_calls
from tests.kit.machine import Environment, Tunnel, call, establish, withdraw
from tests.kit.recorded_tunnels import KINDS, SETTINGS, tunnel
from tests.kit.settings_text import parse
from updown import daemons, event
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger import clock
from updown.ledger.file import copy_ledger, open_ledger
from updown.model.objects import OUR_PROTOCOL

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("modules")]

WEST, EAST = "198.51.100.1", "198.51.100.2"
LAST = "[defaults]\ndelete = last\n"
KILLS = [1, pytest.param(8, marks=pytest.mark.slow)]  # of each event
SEED = 20261121
HOME = "link add lan0 type dummy\nlink set lan0 up\naddr add 10.1.0.1/24 dev lan0\naddr add 2001:db8:0:1::1/64 dev eth0 nodad\n"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A node with an address towards its peers; the hook's state directory."""
    with towards_peers():
        yield tmp_path / "state"


class Node(NamedTuple):
    """What is there: tunnel devices with keys and whether up, their addresses, and our routes."""

    devices: frozenset[tuple[str, str, str, bool]]
    addresses: frozenset[tuple[str, str]]
    routes: frozenset[tuple[str, str]]


NOTHING = Node(frozenset(), frozenset(), frozenset())


def node() -> Node:
    """What `ip` shows."""
    links: list[dict[str, Any]] = json.loads(ip("-j", "-d", "addr", "show"))
    tunnels = [link for link in links if link.get("linkinfo", {}).get("info_kind") in ("vti", "vti6") and _made(link)]
    routes: list[dict[str, Any]] = []
    for family in ("-4", "-6"):
        routes += json.loads(ip("-j", "-N", family, "route", "show", "table", "all", "proto", str(OUR_PROTOCOL)) or "[]")
    return Node(
        frozenset(
            (link["ifname"], link["linkinfo"]["info_kind"], link["linkinfo"]["info_data"]["ikey"], "UP" in link["flags"])
            for link in tunnels
        ),
        frozenset(
            (link["ifname"], f"{address['local']}/{address['prefixlen']}")
            for link in tunnels
            for address in link["addr_info"]
            if address["scope"] != "link"
        ),
        frozenset((route["dst"], route["dev"]) for route in routes),
    )


def _made(link: dict[str, Any]) -> bool:
    """Whether it is no fallback device of the kernel's."""
    data = link["linkinfo"]["info_data"]
    return data["local"] not in ("any", "0.0.0.0", "::") or data["remote"] not in ("any", "0.0.0.0", "::")


def send(state: Path, *environments: Environment, config: str = "") -> None:
    """One event after the other."""
    words = ["--config", config] if config else []
    for environment in environments:
        said = fork("--state-dir", str(state), *words, environment=environment)
        assert said.status == 0, said


def settings(tmp_path: Path, text: str) -> str:
    path = tmp_path / "vti-updown.conf"
    path.write_text(text)
    return str(path)


# -- crowds


def tunnels(count: int) -> list[Tunnel]:
    """Connections to several peers that share one device."""
    return [
        Tunnel(f"t{number}", peer=f"198.51.100.{100 + number}", theirs=f"10.{number}.0.0/24", shared="yes")._replace(
            reqid=16388 + 4 * number
        )
        for number in range(1, count + 1)
    ]


def send_at_once(state: Path, environments: list[Environment], config: str) -> None:
    """All of them as processes that run at the same time."""
    words = command("--state-dir", str(state), "--config", config)
    running = [
        subprocess.Popen(words, env=one, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for one in environments
    ]
    for process in running:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output.decode()


def test_the_events_of_eight_tunnels_at_once_through_one_device(state: Path, tmp_path: Path) -> None:
    """All eight routes, then none, then no device; under emulation the machine is slow, so each may wait for long."""
    config = settings(tmp_path, LAST + "lock_wait = 60\n")
    eight = tunnels(8)
    send_at_once(state, [call(tunnel, "up") for tunnel in eight], config)
    assert node().routes == {(f"10.{number}.0.0/24", "vti5") for number in range(1, 9)}
    assert node().devices == {("vti5", "vti", "0.0.0.5", True)}
    send_at_once(state, [call(tunnel, "down") for tunnel in eight[:7]], config)
    assert node().routes == {("10.8.0.0/24", "vti5")}
    assert node().devices == {("vti5", "vti", "0.0.0.5", True)}
    send_at_once(state, [call(eight[7], "down"), call(eight[7], "unroute"), call(eight[0], "unroute")], config)
    assert node() == NOTHING


def test_events_that_cannot_wait_are_kept_and_served(state: Path, tmp_path: Path) -> None:
    """With a wait of 0 seconds each of eight calls either does its work, or leaves it to the one that is at it."""
    config = settings(tmp_path, LAST + "lock_wait = 0\n")
    words = command("--state-dir", str(state), "--config", config)
    for verb, routes in (("up", {(f"10.{number}.0.0/24", "vti5") for number in range(1, 9)}), ("down", set())):
        running = [
            subprocess.Popen(words, env=call(one, verb), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            for one in tunnels(8)
        ]
        assert {process.wait(120) for process in running} == {0}
        assert node().routes == routes
    assert node() == NOTHING


# -- many


@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=pytest.mark.slow)])
def test_many_recorded_tunnels_up_and_down(state: Path, count: int) -> None:
    """Both daemons' calls, eleven sequences in turn. Nothing is left, and the last events ask the kernel no more than the early
    ones."""
    ip(batch=HOME)
    before = node(), ip("-j", "route", "show", "table", "all"), ip("-j", "-6", "route", "show", "table", "all")
    lines = tuple(parse(SETTINGS, "vti-updown.conf"))
    asked: dict[tuple[str, int], list[int]] = {}
    with Netlink() as netlink, open_ledger(str(state), "1") as ledger:

        def send(number: int, what: str, calls: list[Environment]) -> None:
            for one in calls:
                start = netlink._sequence
                event.run(daemons.read(one), lines, ledger, netlink, clock.now(), False)
                asked.setdefault((what, number), []).append(netlink._sequence - start)

        many = {number: tunnel(number) for number in range(1, count + 1)}
        for number, one in many.items():
            send(number, "comes", one.comes)
        there = {link["ifname"] for link in json.loads(ip("-j", "link", "show"))}
        assert {one.device for one in many.values()} <= there
        assert node().routes == {(network, one.device) for one in many.values() for network in one.networks}
        for number in reversed(many):
            send(number, "goes", many[number].with_last)
    for late in range(count - len(KINDS) + 1, count + 1):
        early = 13 + (late - 13) % len(KINDS)  # the second of its sequence: the first one that shares makes the device
        for what in ("comes", "goes"):
            assert asked[what, late] == asked[what, early]
            assert sum(asked[what, late]) > 0
    assert (node(), ip("-j", "route", "show", "table", "all"), ip("-j", "-6", "route", "show", "table", "all")) == before


# -- clients that come and go

ROADS = [
    Tunnel("rw", peer=f"198.51.100.{10 + number}", theirs=f"10.1{number}.0.0/24", kind="CK_INSTANCE", reqid=16400 + 4 * number)
    for number in (1, 2, 3)
]
ALL = {("10.11.0.0/24", "vti5"), ("10.12.0.0/24", "vti5"), ("10.13.0.0/24", "vti5")}


@pytest.mark.parametrize("rule", ["rule", "last"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)], ids=str)
def test_three_instances_with_staggered_downs(state: Path, tmp_path: Path, rule: str, order: tuple[int, ...]) -> None:
    """After each event exactly the live routes; the device stays by libreswan's rule, and goes with delete = last."""
    config = settings(tmp_path, f"[defaults]\ndelete = {rule}\n")
    live: set[tuple[str, str]] = set()
    for number in order:
        send(state, *establish(ROADS[number]), config=config)
        live.add((ROADS[number].theirs, "vti5"))
        assert node().routes == live
    assert live == ALL
    for left, number in enumerate(reversed(order)):
        send(state, call(ROADS[number], "down"), config=config)
        live.discard((ROADS[number].theirs, "vti5"))
        assert node().routes == live
        send(state, call(ROADS[number], "unroute", child=False), config=config)
        assert node().routes == live
        assert bool(node().devices) == (rule == "rule" or left < 2)
    assert live == set()


# -- calls that are killed

FULL = Tunnel(theirs="0.0.0.0/0", peer="203.0.113.9", address="10.99.0.1/30", source="10.1.0.1", next_hop="198.51.100.254")
FULL_UP = Node(
    frozenset({("vti5", "vti", "0.0.0.5", True)}),
    frozenset({("vti5", "10.99.0.1/30"), ("vti5", "10.1.0.1/32")}),
    frozenset({("0.0.0.0/1", "vti5"), ("128.0.0.0/1", "vti5"), ("203.0.113.9", "eth0")}),
)
FULL_MADE = FULL_UP._replace(routes=frozenset())
SIX = Tunnel(me="2001:db8:0:1::1", peer="2001:db8:0:1::2", mine="fd00:1::/64", theirs="fd00:2::/64", address="fd00:99::1/64")
SIX_UP = Node(
    frozenset({("vti5", "vti6", "0.0.0.5", True)}), frozenset({("vti5", "fd00:99::1/64")}), frozenset({("fd00:2::/64", "vti5")})
)
TRAP = [call(FULL, verb, child=False, wishes=("ROUTE",)) for verb in ("prepare", "route")]
JOINED = 0x5000  # an SPI that no `down` here has: a joined call for an SA that was taken down does nothing
CHARON = "[defaults]\ninterface = vti5\nrouting = yes\naddress = 10.99.0.1/30\n"
NET = Child(pairs=(("10.1.0.0/24", "10.2.0.0/24"), ("10.1.0.0/24", "10.3.0.0/24")))
NET_UP = Node(
    frozenset({("vti5", "vti", "0.0.0.5", True)}),
    frozenset({("vti5", "10.99.0.1/30")}),
    frozenset({("10.2.0.0/24", "vti5"), ("10.3.0.0/24", "vti5")}),
)
HALF_UP = NET_UP._replace(routes=frozenset({("10.3.0.0/24", "vti5")}))
MARKED = NET._replace(mark_in="9/0xffffffff", mark_out="9/0xffffffff")


class Case(NamedTuple):
    """What was before, the event that is killed, what must be there in the end, and the kinds of the claims."""

    before: list[Environment]
    event: Environment
    wanted: Node
    kinds: str = "sa"
    settings: str = ""


EVENTS = {
    "prepare": Case([], call(FULL, "prepare"), FULL_MADE),
    "route": Case([call(FULL, "prepare")], call(FULL, "route"), FULL_UP),
    "up alone": Case([], call(FULL, "up"), FULL_UP),
    "up over IPv6": Case([], call(SIX, "up"), SIX_UP),
    "down": Case(establish(FULL), call(FULL, "down"), NOTHING, ""),
    "unroute": Case([*establish(FULL)], call(FULL, "unroute", child=False), NOTHING, ""),
    "another key": Case(
        establish(FULL),
        call(FULL._replace(mark_in="7/0xff", mark_out="7/0xff"), "up"),
        FULL_UP._replace(devices=frozenset({("vti5", "vti", "0.0.0.7", True)})),
    ),
    "another family": Case(
        establish(Tunnel(address="fd00:99::1/64", mine="fd00:1::/64", theirs="fd00:2::/64")), call(SIX, "up"), SIX_UP
    ),
    "joined": Case([], call(FULL, "prepare-route-up", spi=JOINED), FULL_UP),
    "joined, of an on-demand connection": Case(TRAP, call(FULL, "prepare-up", spi=JOINED), FULL_UP, "sa trap"),
    "joined, after its down": Case([call(FULL, "down", spi=JOINED)], call(FULL, "prepare-route-up", spi=JOINED), NOTHING, ""),
    "a down that revives": Case(establish(FULL), call(FULL, "down", wishes=("UP",)), FULL_UP, "revive"),
    "an up that was waited for": Case([*establish(FULL), call(FULL, "down", wishes=("UP",))], call(FULL, "up"), FULL_UP),
    "charon's up": Case([charon_call(NET, "up")], charon_call(NET, "up", pair=1), NET_UP, "sa sa", CHARON),
    "charon's down": Case(charon_calls(NET, "up"), charon_call(NET, "down"), HALF_UP, "sa", CHARON),
    "charon's last down": Case(
        [*charon_calls(NET, "up"), charon_call(NET, "down")], charon_call(NET, "down", pair=1), NOTHING, "", CHARON
    ),
    "charon's down of the old SA": Case(
        [*charon_calls(NET, "up"), *charon_calls(NET, "up", 2), charon_call(NET, "down")],
        charon_call(NET, "down", pair=1),
        NET_UP,
        "sa sa",
        CHARON,
    ),
    "charon's up with another mark": Case(
        charon_calls(NET, "up"),
        charon_call(MARKED, "up", 2),
        NET_UP._replace(devices=frozenset({("vti5", "vti", "0.0.0.9", True)})),
        "sa sa sa",
        CHARON,
    ),
}
END = [
    *withdraw(FULL),
    *withdraw(SIX),
    *(one for child in (NET, MARKED) for number in (1, 2) for one in charon_calls(child, "down", number)),
]


def kinds(state: Path) -> str:
    """The kinds of all claims."""
    (place,) = state.glob("net-*")
    with copy_ledger(str(state), place.name.replace("net-", "")) as ledger:
        return " ".join(sorted(claim.kind for claim in ledger.claims()))


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("case", EVENTS)
def test_killed_at_a_random_moment_and_sent_again(state: Path, tmp_path: Path, case: str, kills: int) -> None:
    """The same event, or a later one, ends in the right state, and nothing stays unfinished."""
    before, event, wanted, claims, text = EVENTS[case]
    config = settings(tmp_path, text)
    moments = random.Random(f"{SEED} {case} {kills}")
    words = ("--state-dir", str(state), "--config", config)
    takes = 0.0
    killed = 0
    for attempt in range(40):
        send(state, *before, config=config)
        if not attempt:  # how long it takes when it is left alone
            began = time.monotonic()
            send(state, event, config=config)
            takes = time.monotonic() - began
        else:
            lives = moments.uniform(0.05, 1) * takes
            said = fork(*words, environment=event, lives=lives)
            killed += said.status == -14
            assert said.status in (0, -14), said
            send(state, event, config=config)
        assert (node(), kinds(state)) == (wanted, claims), f"{case}: attempt {attempt}"
        send(state, *END, config=config)
        assert (node(), kinds(state)) == (NOTHING, ""), f"{case}: left over"
        if killed == kills:
            break
    assert killed == kills, f"only {killed} calls were killed before they were over"


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("case", ["up alone", "joined", "charon's up"])
def test_killed_at_a_random_moment_another_tunnels_event_mends_it(state: Path, tmp_path: Path, case: str, kills: int) -> None:
    """The daemon may never send the killed event again."""
    other = Tunnel("u", peer="198.51.100.77", theirs="10.7.0.0/24", device="vti7", mark_in="7/0xff", mark_out="7/0xff")
    other = other._replace(reqid=16500)
    config = settings(tmp_path, EVENTS[case].settings)
    moments = random.Random(SEED)
    send(state, EVENTS[case].event, config=config)
    mended, held = node(), kinds(state)
    send(state, *END, config=config)
    killed = 0
    while killed < kills:
        words = ("--state-dir", str(state), "--config", config)
        said = fork(*words, environment=EVENTS[case].event, lives=moments.uniform(0.001, 0.1))
        killed += said.status == -14
        send(state, *establish(other), config=config)
        send(state, *withdraw(other), config=config)
        assert (node(), kinds(state)) in ((NOTHING, ""), (mended, held)), "half of the killed event is left"
        send(state, *END, config=config)
        assert (node(), kinds(state)) == (NOTHING, "")


def test_one_who_died_with_the_lock_holds_up_nobody(state: Path) -> None:
    """The lock ends with the process that had it."""
    send(state, call(FULL, "prepare"))
    (lock,) = state.glob("net-*/lock")
    holder = os.fork()
    if not holder:
        import fcntl

        descriptor = os.open(lock, os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.kill(os.getpid(), 9)
    os.waitpid(holder, 0)
    send(state, call(FULL, "up"))
    assert node() == FULL_UP
