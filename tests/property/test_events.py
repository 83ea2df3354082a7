"""Random sequences of what libreswan really calls, with repeats and deaths, against a plain oracle.

The grammar is contracts/libreswan.md 3.3 (release 5: main, release 4: 4.10). The oracle is design section 6 in its own words:
it keeps, for each tunnel, which claims it holds and since when, and says from that which devices, routes and addresses there
must be. It shares no code with updown.
"""

import tempfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.property.machine import (
    EAST6,
    GATEWAY,
    THIRD,
    WEST,
    WEST6,
    Environment,
    Machine,
    Tunnel,
    call,
)

UP, ROUTE = ("UP",), ("ROUTE",)
SECOND = "198.51.100.21"  # another address of ours, to move to
SHARED_ADDRESS = "10.99.3.1/24"


def tunnel(name: str, number: int, **more: object) -> Tunnel:
    """A tunnel with its own device and mark."""
    mark = f"{number}/0xffffffff"
    own = Tunnel(
        connection=name,
        peer=f"198.51.100.{100 + number}",
        theirs=f"10.{number}.0.0/24",
        device=f"vti{number}",
        mark_in=mark,
        mark_out=mark,
        reqid=16384 + 4 * number,
    )
    return own._replace(**more)  # type: ignore[arg-type]


SAME: Dict[str, object] = {"device": "vti3", "mark_in": "3/0xff", "mark_out": "3/0xff", "shared": "yes"}
THIRD_END = "198.51.100.22"  # the road warriors' server: there is one device with remote any for each local address
ROAD: Dict[str, object] = {
    "me": THIRD_END,
    "device": "vti6",
    "mark_in": "6/0xff",
    "mark_out": "6/0xff",
    "kind": "CK_INSTANCE",
}

TUNNELS: Tuple[Tunnel, ...] = (
    tunnel("permanent", 1, address="10.99.1.1/30", source="10.98.0.1"),
    tunnel("old", 2, release=4, address="10.99.2.1/30"),
    tunnel("shared-1", 3, **SAME, address=SHARED_ADDRESS),
    tunnel("shared-2", 4, **SAME, address=SHARED_ADDRESS),
    tunnel(
        "sibling", 5, **SAME, theirs="10.3.0.0/24", mine="10.1.1.0/24", peer="198.51.100.103", address="10.99.5.1/30"
    ),
    tunnel("road", 6, **ROAD, theirs="10.61.0.0/24", reqid=17000),
    tunnel("road", 7, **ROAD, theirs="10.62.0.0/24", reqid=18000),
    tunnel("six", 8, me=WEST6, peer=EAST6, mine="fd00:1::/64", theirs="fd00:8::/64", address="fd00:99::1/64"),
    tunnel("rival", 9, theirs="10.1.0.0/24", peer=THIRD),
    tunnel("all", 10, theirs="0.0.0.0/0", peer="203.0.113.9", next_hop=GATEWAY, release=4),
    tunnel("six-in-four", 11, mine="fd00:1::/64", theirs="fd00:11::/64"),
)
GROUPS = {2: 4, 4: 2}
"""Siblings: one remote selector, marks and local address. Who comes second is only called `up`, who goes first only `down`."""

STAYS = ("vti3", "vti6")
"""Devices that are shared, or of instances: made once, they stay."""


class Now(NamedTuple):
    """One tunnel as the daemon sees it: idle, up, waiting (for revival), routed (on demand), or prospective (4.10)."""

    state: str = "idle"
    wished: bool = False  # the daemon was told to bring it up
    on_demand: bool = False  # the user said `ipsec route`
    spi: int = 0
    tunnel: Tunnel = TUNNELS[0]
    late: Optional[Environment] = None  # a joined call whose SA is gone


class Oracle:
    """Who holds what, since when; and what must be there."""

    def __init__(self) -> None:
        self.clock = 0
        self.held: Dict[Tuple[int, str], int] = {}
        self.ever: Set[str] = set()

    def holds(self, who: int, kind: str) -> None:
        """A claim begins, or goes on."""
        self.clock += 1
        self.held.setdefault((who, kind), self.clock)
        self.ever.add(TUNNELS[who].device)

    def ends(self, who: int, *kinds: str) -> None:
        """Claims end."""
        for kind in kinds:
            self.held.pop((who, kind), None)

    def holders(self) -> List[int]:
        """Tunnels that hold anything, first come first."""
        order = sorted(self.held, key=lambda claim: self.held[claim])
        return list(dict.fromkeys(who for who, _ in order))

    def devices(self) -> Set[str]:
        """Those held, and those that stay."""
        return {TUNNELS[who].device for who in self.holders()} | {name for name in STAYS if name in self.ever}

    def routes(self) -> Set[Tuple[str, str]]:
        """One for each remote selector, through the device of the first to hold it."""
        found: Dict[str, str] = {}
        for who in self.holders():
            if TUNNELS[who].theirs == "0.0.0.0/0":
                found.update({"0.0.0.0/1": "vti10", "128.0.0.0/1": "vti10", "203.0.113.9/32": "eth0"})
            else:
                found.setdefault(TUNNELS[who].theirs, TUNNELS[who].device)
        return set(found.items())

    def addresses(self, device: str) -> Set[str]:
        """Those of the connections that hold the device."""
        there = [TUNNELS[who] for who in self.holders() if TUNNELS[who].device == device]
        sources = {f"{one.source}/32" for one in there if one.source}
        return {one.address for one in there if one.address} | sources


class Events(RuleBasedStateMachine):
    """Each rule is one thing that happens to one tunnel, as the calls that the daemon makes then."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.folder = tempfile.TemporaryDirectory()
        self.machine = Machine(Path(self.folder.name), self.patch)
        eth0 = self.machine.kernel.named("eth0").ifindex
        for address in (SECOND, THIRD_END):
            self.machine.kernel.add_address(eth0, f"{address}/24")
        self.world = self.machine.kernel.picture()
        self.oracle = Oracle()
        self.now = [Now(tunnel=one) for one in TUNNELS]
        self.spi = 0x1000

    def teardown(self) -> None:
        self.patch.undo()
        self.folder.cleanup()

    def goes(self, calls: List[Environment], dies: Optional[Tuple[int, int]], twice: bool) -> None:
        """The daemon makes these calls; one of them may be killed and then made again, all may come twice."""
        for number, environment in enumerate(calls):
            if dies and dies[0] % len(calls) == number:
                self.machine.dies(environment, dies[1])
            report = self.machine.send(environment)
            assert not [warning for warning in report.warnings if "ours waits" not in warning], report.warnings
            if twice:
                assert self.machine.send(environment).operations == ()

    def unrouted(self, who: int) -> None:
        """An `unroute` is the end for the whole group, also for what waited while a sibling was there."""
        for one in (who, *([GROUPS[who]] if who in GROUPS else [])):
            self.oracle.ends(one, "sa", "trap")

    def sibling_is_there(self, who: int) -> bool:
        """Whether another connection has the same route."""
        return who in GROUPS and self.now[GROUPS[who]].state != "idle"

    who = st.integers(0, len(TUNNELS) - 1)
    dies = st.one_of(st.none(), st.tuples(st.integers(0, 3), st.integers(0, 20)))
    twice = st.booleans()

    @rule(who=who, initiator=st.booleans(), joined=st.booleans(), dies=dies, twice=twice)
    def establish(self, who: int, initiator: bool, joined: bool, dies: Optional[Tuple[int, int]], twice: bool) -> None:
        """A tunnel comes up: from nothing, from its trap, or again."""
        now = self.now[who]
        if now.state == "up":
            return
        one = now.tunnel
        if now.state == "idle" and one.kind == "CK_INSTANCE":
            one = one._replace(reqid=one.reqid + 4)  # a road warrior that comes back is a new instance
            initiator = False
        self.spi += 16
        wished = initiator or now.wished
        wishes = (UP if wished else ()) + (ROUTE if now.on_demand and one.release == 5 else ())
        if now.state == "idle" and self.sibling_is_there(who):
            verbs = ["up"]
        elif one.release == 4:
            verbs = ["up", "prepare", "route"] if now.state == "idle" else ["up"]
        elif joined:
            verbs = ["prepare-route-up" if now.state == "idle" else "prepare-up"]
        else:
            verbs = ["prepare", "route", "up"] if now.state == "idle" else ["prepare", "up"]
        calls = [call(one, verb, wishes=wishes, spi=self.spi) for verb in verbs]
        self.goes(calls, dies, twice)
        self.oracle.holds(who, "sa")
        late = calls[0] if "-" in verbs[0] else None
        self.now[who] = now._replace(state="up", wished=wished, spi=self.spi, tunnel=one, late=late)

    @rule(who=who, dies=dies, twice=twice)
    def ipsec_route(self, who: int, dies: Optional[Tuple[int, int]], twice: bool) -> None:
        """`ipsec route` of a tunnel that is down; where it is up, pluto calls nothing and remembers the wish."""
        now = self.now[who]
        if now.tunnel.kind == "CK_INSTANCE" or who in GROUPS:
            return
        if now.state == "up" and now.tunnel.release == 5:
            self.now[who] = now._replace(on_demand=True)
        if now.state != "idle":
            return
        self.goes([call(now.tunnel, verb, child=False, wishes=ROUTE) for verb in ("prepare", "route")], dies, twice)
        self.oracle.holds(who, "trap")
        self.now[who] = now._replace(state="routed", on_demand=True)

    @rule(who=who, dies=dies, twice=twice)
    def ipsec_down(self, who: int, dies: Optional[Tuple[int, int]], twice: bool) -> None:
        """`ipsec down`: it clears the wish to be up, not the wish to be routed."""
        now = self.now[who]
        one = now.tunnel
        if now.state == "up":
            stays = now.on_demand and one.release == 5
            calls = [call(one, "down", wishes=ROUTE if stays else (), spi=now.spi)]
            unrouted = one.release == 5 and not stays and not self.sibling_is_there(who)
            calls += [call(one, "unroute", spi=now.spi)] if unrouted else []
            self.goes(calls, dies, twice)
            if not stays:
                self.oracle.ends(who, "sa", *(("trap",) if one.release == 5 else ()))
            if unrouted:
                self.unrouted(who)
            after = "idle" if one.release == 5 else "routed" if now.on_demand else "prospective"
            self.now[who] = now._replace(state="waiting" if stays else after, wished=False)
        elif now.state == "waiting" and not now.on_demand:
            # with a sibling there pluto calls nothing, and the claim goes with the sibling's `unroute`
            if not self.sibling_is_there(who):
                self.goes([call(one, "unroute", child=False)], dies, twice)
                self.unrouted(who)
            self.now[who] = now._replace(state="idle", wished=False)

    @rule(who=who, dies=dies, twice=twice)
    def peer_deletes(self, who: int, dies: Optional[Tuple[int, int]], twice: bool) -> None:
        """The peer deletes the child, or is silent: a tunnel that is wished up waits for its revival."""
        now = self.now[who]
        if now.state != "up":
            return
        if not now.wished:
            self.ipsec_down(who, dies, twice)
            return
        self.goes([call(now.tunnel, "down", wishes=UP, spi=now.spi)], dies, twice)
        self.now[who] = now._replace(state="waiting")

    @rule(who=who, dies=dies, twice=twice)
    def delete(self, who: int, dies: Optional[Tuple[int, int]], twice: bool) -> None:
        """`ipsec delete` or shutdown: every wish is cleared first."""
        now = self.now[who]
        one = now.tunnel
        if now.state == "idle":
            return
        child = now.state == "up"
        calls = [call(one, "down", spi=now.spi)] if child else []
        if not self.sibling_is_there(who):
            calls.append(call(one, "unroute", child=child, spi=now.spi))
        if calls:
            self.goes(calls, dies, twice)
        if child:
            self.oracle.ends(who, "sa", "trap")
        if not self.sibling_is_there(who):
            self.unrouted(who)
        self.now[who] = Now(tunnel=one, late=now.late, spi=now.spi)

    @rule(who=st.sampled_from(sorted(GROUPS)), dies=dies, twice=twice)
    def a_sibling_gives_up(self, who: int, dies: Optional[Tuple[int, int]], twice: bool) -> None:
        """It waits for its revival, is taken down without a call since the other is there, and goes with the other."""
        for one in (who, GROUPS[who]):
            self.establish(one, True, False, dies, twice)
        self.peer_deletes(who, dies, twice)
        self.ipsec_down(who, dies, twice)
        self.delete(GROUPS[who], dies, twice)

    @rule(who=who)
    def rekey(self, who: int) -> None:
        """Nothing is called; the calls that follow have other SPIs."""
        if self.now[who].state == "up":
            self.spi += 16
            self.now[who] = self.now[who]._replace(spi=self.spi, late=None)

    @rule(who=who, dies=dies)
    def fails_to_establish(self, who: int, dies: Optional[Tuple[int, int]]) -> None:
        """A bare negotiation that fails: `unroute` without anything before it."""
        now = self.now[who]
        if now.state == "idle" and not self.sibling_is_there(who):
            self.goes([call(now.tunnel, "unroute", child=False, wishes=UP, sa_type="unknown?")], dies, True)
            self.unrouted(who)

    @rule(dies=dies, twice=twice)
    def moves(self, dies: Optional[Tuple[int, int]], twice: bool) -> None:
        """MOBIKE: the permanent tunnel of release 5 has another local address."""
        now = self.now[0]
        if now.state != "up":
            return
        there = now.tunnel._replace(me=SECOND if now.tunnel.me == WEST else WEST)
        wishes = UP + (ROUTE if now.on_demand else ())
        calls = [call(now.tunnel, verb, wishes=wishes, spi=now.spi) for verb in ("down", "unroute")]
        calls += [call(there, verb, wishes=wishes, spi=now.spi) for verb in ("route", "up")]
        self.goes(calls, dies, twice)
        self.now[0] = now._replace(tunnel=there, wished=True)

    @rule(who=who)
    def joined_call_comes_late(self, who: int) -> None:
        """An async call that gets the lock last finds its SA taken down."""
        late, now = self.now[who].late, self.now[who]
        if late and now.state == "idle":
            report = self.machine.send(late)
            assert report.operations == ()

    @rule()
    def someone_deletes_a_device(self) -> None:
        """Our device vti1 vanishes; the tunnel's next `up` brings everything back."""
        link = self.machine.kernel.link("vti1")
        now = self.now[0]
        if link and now.state == "up":
            self.machine.kernel.remove(link.ifindex)
            self.machine.send(call(now.tunnel, "up", spi=now.spi, wishes=UP if now.wished else ()))

    @invariant()
    def devices_are_those_of_the_oracle(self) -> None:
        assert self.machine.devices() == self.oracle.devices()

    @invariant()
    def routes_are_those_of_the_oracle(self) -> None:
        assert self.machine.routes() == self.oracle.routes()

    @invariant()
    def addresses_are_those_of_the_oracle(self) -> None:
        for device in self.oracle.devices():
            assert set(self.machine.addresses(device)) == self.oracle.addresses(device)

    @invariant()
    def devices_are_up_ours_and_where_they_belong(self) -> None:
        for who in self.oracle.holders():
            one = self.now[who].tunnel
            link = self.machine.kernel.named(one.device)
            assert (link.up, link.alias) == (True, "vti-updown")
            anyone = one.shared == "yes" or one.kind == "CK_INSTANCE"
            assert link.local == one.me
            assert link.remote == ("0.0.0.0" if anyone else one.peer)

    @invariant()
    def nothing_is_unfinished(self) -> None:
        assert self.machine.unfinished() == []

    @invariant()
    def without_holders_the_world_is_as_before(self) -> None:
        if not self.oracle.holders():
            assert self.machine.claims() == []
            for name in self.machine.devices():
                assert name in STAYS
            if not self.machine.devices():
                assert self.machine.kernel.picture() == self.world


TestEvents = pytest.mark.filterwarnings("ignore")(Events.TestCase)
TestEvents.settings = settings(
    max_examples=100,
    stateful_step_count=20,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
