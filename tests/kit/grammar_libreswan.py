"""What libreswan really calls, contracts/libreswan.md 3.3: release 5 is main, release 4 is 4.10.

Each method of `Libreswan` is one thing that happens to one connection; it yields the calls the daemon makes then, and gets
back whether the hook succeeded. A thing that cannot happen now yields nothing, so that any list of steps is a sequence.
"""

from collections.abc import Generator
from typing import Any, ClassVar, NamedTuple, Optional, Union

from tests.kit.machine import EAST6, GATEWAY, WEST, WEST6, Environment, Tunnel, call
from tests.kit.oracle import Alive, Call, Oracle, Truth, World

OURS = tuple(f"198.51.100.{number}" for number in (*range(21, 26), 27, 28))  # more addresses of ours
SECOND, THIRD_END, FOURTH_END, FIFTH_END, SIXTH_END, *CHARONS = OURS
ROAMED = "198.51.100.26"  # where SIXTH_END moves to, and back


class Meddling(NamedTuple):
    """Somebody, or the network, does something to the kernel."""

    what: str  # delete, set down, unroute, bare (addresses): what is on a device; roam: from one address of ours to another
    one: str
    other: str = ""


class Reconcile(NamedTuple):
    """Somebody runs `vti-updown reconcile`, and this is what there is then."""

    daemon: str
    truth: Truth

    def __str__(self) -> str:
        up = ", ".join(f"{one.pairs[0].connection} {one.unique_id or hex(one.spi)}" for one in self.truth.up)
        return f"reconcile: up are {up or 'none'}; open {', '.join(sorted(self.truth.open)) or 'none'}"


Doings = Generator[Union[Call, Meddling, Reconcile], bool, None]
SPOILS = ("delete", "set down", "unroute", "bare")


class Connection(NamedTuple):
    """A connection, or one instance of a template; several `pairs` of selectors are one child SA."""

    pairs: tuple[Tunnel, ...]
    joined: bool = False  # leftupdown-config=async
    shunt: bool = False  # failureshunt=drop
    keep: bool = False
    client: bool = False  # an instance that initiates
    mobile: bool = False
    sibling: str = ""  # the connection with the same remote selector, marks and local address


def tunnel(name: str, number: int, **more: Any) -> Tunnel:
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
    return own._replace(**more)


SAME: dict[str, Any] = {"me": SIXTH_END, "device": "vti3", "mark_in": "3/0xff", "mark_out": "3/0xff", "shared": "yes"}
ROAD: dict[str, Any] = {
    "me": THIRD_END,  # there is one device with remote any for each local address
    "device": "vti6",
    "mark_in": "6/0xff",
    "mark_out": "6/0xff",
    "kind": "CK_INSTANCE",
}
MANUAL = {**ROAD, "me": FOURTH_END, "device": "vti14", "reqid": 100, "release": 4}
OLD: dict[str, Any] = {"me": FIFTH_END, "release": 4, "shared": "yes"}
TWO = tunnel("pairs", 11, address="10.99.11.1/30")
PORTS = tunnel("ports", 18, protocol="6", metric="77")
SIX: dict[str, Any] = {"me": WEST6, "peer": EAST6, "mine": "fd00:1::/64"}

CONNECTIONS: tuple[Connection, ...] = (
    Connection((tunnel("permanent", 1, address="10.99.1.1/30", source="10.98.0.1"),), mobile=True),
    Connection((tunnel("old", 2, release=4, address="10.99.2.1/30", source="10.98.0.1"),)),
    Connection((tunnel("shared-1", 3, **SAME, address="10.99.3.1/24"),), sibling="sibling"),
    Connection((tunnel("shared-2", 4, **SAME, address="10.99.3.1/24"),)),
    Connection((tunnel("sibling", 5, **SAME, theirs="10.3.0.0/24", mine="10.1.1.0/24"),), sibling="shared-1"),
    Connection((tunnel("road", 6, **ROAD, theirs="10.61.0.0/24", reqid=17000),)),
    Connection((tunnel("road", 7, **ROAD, theirs="10.62.0.0/24", reqid=18000),)),
    Connection((tunnel("six", 8, **SIX, theirs="fd00:8::/64", address="fd00:99::1/64", source="fd00:98::1"),)),
    Connection((tunnel("rival", 9, theirs="10.1.0.0/24"),), mobile=True),
    Connection((tunnel("all", 10, theirs="0.0.0.0/0", peer="203.0.113.9", next_hop=GATEWAY, release=4),)),
    Connection(
        tuple(
            TWO._replace(mine=mine, theirs=theirs)
            for mine in ("10.1.0.0/24", "10.1.1.0/24")
            for theirs in ("10.11.0.0/24", "10.11.1.0/24")
        ),
        mobile=True,
    ),
    Connection((tunnel("six-in-four", 12, mine="fd00:1::/64", theirs="fd00:11::/64"),), joined=True, mobile=True),
    Connection((tunnel("road-6", 13, **{**ROAD, "release": 4}, theirs="10.63.0.0/24", reqid=19000),)),
    Connection((tunnel("manual", 14, **MANUAL, theirs="10.64.0.0/24"),)),
    Connection((tunnel("manual", 15, **MANUAL, theirs="10.65.0.0/24"),)),
    Connection((tunnel("client", 16, kind="CK_INSTANCE", source="10.97.0.1", mine="10.97.0.1/32"),), client=True),
    Connection((tunnel("shunted", 17),), shunt=True),
    Connection(
        (
            PORTS._replace(peer_port="443"),
            PORTS._replace(peer_port="80"),
            PORTS._replace(mine="fd00:1::/64", theirs="fd00:18::/64"),
        ),
        joined=True,
    ),
    Connection((tunnel("host", 19, mine=f"{WEST}/32", theirs="198.51.100.119/32", address="10.99.19.1/30"),), mobile=True),
    Connection((tunnel("kept", 20, address="10.99.20.1/30"),), keep=True),
    Connection((tunnel("adopting", 21, address="10.77.0.1/24", source="10.99.21.1"),)),
    Connection((tunnel("unfit", 22),)),
    Connection((tunnel("unfit-4", 23, release=4),)),
    Connection((tunnel("blocked", 24),)),
    Connection((tunnel("old-1", 25, **OLD),), sibling="old-1/2"),
    Connection((tunnel("old-1/2", 25, **OLD, mine="10.1.1.0/24", reqid=16600),), sibling="old-1"),
    Connection((tunnel("rival-4", 27, release=4, theirs="10.1.0.0/24"),)),
    Connection((tunnel("backup", 28, theirs="10.1.0.0/24", metric="200"),)),
    Connection((tunnel("wide", 29, theirs="10.0.0.0/9", metric="9"),)),
)
NUMBERS = {one.pairs[0].connection: number for number, one in enumerate(CONNECTIONS)}
TOGETHER: tuple[tuple[str, ...], ...] = (
    ("shared-1", "shared-2", "sibling"),
    ("road", "road-6"),
    ("manual",),
    ("old-1", "old-1/2"),
    ("permanent", "rival", "rival-4"),
    ("permanent", "backup"),
    ("rival", "wide", "pairs"),
    ("pairs", "ports"),
    ("host", "client"),
)
"""Connections that share a device, or ask for the same; they are drawn together more often."""

FOREIGN = World(adopted=frozenset({"vti21"}), unfit=frozenset({"vti22", "vti23"}), routes=frozenset({"10.24.0.0/24"}))


class Now(NamedTuple):
    """A connection as the daemon sees it: idle, up, waiting (for revival, or since it could not be installed), routed (on
    demand), or prospective (4.10)."""

    pairs: tuple[Tunnel, ...]
    state: str = "idle"
    wished: bool = False  # the daemon was told to bring it up
    on_demand: bool = False  # the user said `ipsec route`
    refused: bool = False  # the hook failed: an IKE SA is there without a child
    spi: int = 0
    pending: Optional[Call] = None  # a joined call that has not had its turn


class Libreswan:
    """One pluto and its connections."""

    oracle = Oracle
    connections = CONNECTIONS
    together = tuple(
        tuple(number for number, one in enumerate(CONNECTIONS) if one.pairs[0].connection in names) for names in TOGETHER
    )
    world = FOREIGN
    files: ClassVar[dict[str, str]] = {}
    """Sysctls that the kernel model shows beside its own."""
    settings = ""
    things = (
        *("establish",) * 8,
        *("ipsec_route", "ipsec_down", "peer_deletes", "delete", "pending") * 2,
        *("replace", "moves", "rekey", "fails_to_establish", "stray_down", "peer_moves", "meddled", "killed"),
        *("roams",) * 2,
        *("reconcile", "spoiled") * 2,
    )
    """What may happen, as often as it is named."""

    def __init__(self) -> None:
        self.now = [Now(one.pairs) for one in CONNECTIONS]
        self.spi = 0x1000
        self.reqid = 20000
        self.spoils = 0

    @staticmethod
    def environment(said: Call) -> Environment:
        """The variables of a call."""
        return call(*said)

    def thing(self, what: str, who: int, initiator: bool) -> Doings:
        """Something happens to a connection."""
        doings: Doings = getattr(self, what)(who, initiator)
        return doings

    # -- what happens

    def establish(self, who: int, initiator: bool) -> Doings:
        """A tunnel comes up: from nothing, from its trap, or again. Where it is up, another SA replaces this one silently."""
        now, one = self.now[who], CONNECTIONS[who]
        if now.state == "up":
            return
        template = now.pairs[0].kind == "CK_INSTANCE"
        if now.state == "idle" and template and now.pairs[0].reqid > 16383:
            self.reqid += 4  # a road warrior that comes back is a new instance
            now = now._replace(pairs=tuple(pair._replace(reqid=self.reqid) for pair in now.pairs))
        self.spi += 16
        wished = now.wished or (initiator and (one.client or not template))
        now = now._replace(wished=wished, spi=self.spi, refused=False)
        verbs = self.verbs(who, now)
        self.now[who] = now._replace(state="up")
        wishes = self.wishes(who)
        if one.joined:
            joined = "prepare-route-up" if now.state == "idle" else "prepare-up"
            self.now[who] = self.now[who]._replace(pending=Call(now.pairs[0], joined, True, wishes, now.spi))
            if not initiator:  # else something else may have its turn first
                yield from self.pending(who, initiator)
            return
        for verb in verbs:
            for pair in now.pairs:
                if verb == "prepare" and now.state != "idle" and not alone(pair, now.pairs):
                    continue
                done = yield Call(pair, verb, True, wishes, now.spi)
                if not done and verb != "prepare":
                    yield from self.abort(who)
                    return

    def verbs(self, who: int, now: Now) -> list[str]:
        """In which order the steps come."""
        if now.state == "idle" and self.sibling_is_there(who):
            return ["up"]
        if now.pairs[0].release == 4:
            return ["up", "prepare", "route"] if now.state == "idle" else ["up"]
        return ["prepare", "route", "up"] if now.state == "idle" else ["prepare", "up"]

    def abort(self, who: int) -> Doings:
        """The hook failed: main calls `down` twice, and `unroute` where there is no wish; 4.10 calls `down`."""
        now = self.now[who]
        yield from self.each(who, "down")
        if now.pairs[0].release == 4:
            after = "waiting" if now.wished else "routed" if now.on_demand else "prospective"
            self.now[who] = now._replace(state=after)
            return
        yield from self.each(who, "down")
        if now.wished or now.on_demand or CONNECTIONS[who].keep:
            self.now[who] = now._replace(state="waiting", refused=True)
            return
        yield from self.unroutes(who, True)
        self.now[who] = now._replace(state="idle")

    def pending(self, who: int, _: bool) -> Doings:
        """An async call has its turn, whatever happened meanwhile; its status is ignored."""
        said = self.now[who].pending
        if said:
            self.now[who] = self.now[who]._replace(pending=None)
            yield said

    def ipsec_route(self, who: int, _: bool) -> Doings:
        """`ipsec route` of a tunnel that is down; else main calls nothing and remembers the wish, and 4.10 refuses."""
        now = self.now[who]
        if now.pairs[0].kind == "CK_INSTANCE" or CONNECTIONS[who].sibling:
            return
        if now.state != "idle":
            if now.pairs[0].release == 5 and now.state != "routed":
                self.now[who] = now._replace(on_demand=True)
            return
        for verb in ("prepare", "route"):
            for pair in now.pairs:
                wishes = ("ROUTE",) if pair.release == 5 else ()
                done = yield Call(pair, verb, False, (*wishes, *self.config(who)))
                if verb == "route" and not done:
                    if pair.release == 4:
                        yield Call(pair, "down", False)
                    return
        self.now[who] = now._replace(state="routed", on_demand=True)

    def ipsec_down(self, who: int, _: bool) -> Doings:
        """`ipsec down`: it clears the wish to be up, not the wish to be routed."""
        self.now[who] = now = self.now[who]._replace(wished=False)
        lasting = bool(self.wishes(who))
        if now.state == "up":
            yield from self.each(who, "down")
            if now.pairs[0].release == 4:
                self.now[who] = now._replace(state="routed" if now.on_demand else "prospective")
            elif lasting:
                self.now[who] = now._replace(state="waiting")
            else:
                yield from self.unroutes(who, True)
                self.now[who] = now._replace(state="idle")
        elif now.state == "waiting" and not lasting and not now.refused and now.pairs[0].release == 5:
            yield from self.unroutes(who, False)
            self.now[who] = now._replace(state="idle")

    def peer_deletes(self, who: int, initiator: bool) -> Doings:
        """The peer deletes the child, or is silent: a tunnel that is wished up waits for its revival."""
        now = self.now[who]
        if now.state != "up" or not now.wished:
            if now.state == "up":
                yield from self.ipsec_down(who, initiator)
            return
        yield from self.each(who, "down")
        self.now[who] = now._replace(state="waiting")

    def delete(self, who: int, _: bool) -> Doings:
        """`ipsec delete`, `ipsec unroute`, or shutdown: every wish is cleared first."""
        now = self.now[who]
        self.now[who] = now = now._replace(wished=False, on_demand=False)
        child = now.state == "up"
        if child:
            yield from self.each(who, "down", config=CONNECTIONS[who].shunt)
        if now.state != "idle":
            yield from self.unroutes(who, child)
        self.now[who] = Now(now.pairs, spi=now.spi, pending=now.pending)

    def replace(self, who: int, initiator: bool) -> Doings:
        """`ipsec add` of a connection that exists."""
        yield from self.delete(who, initiator)
        yield from self.establish(who, initiator)

    def rekey(self, who: int, initiator: bool) -> Doings:
        """Nothing is called; the calls that follow have other SPIs. So it is with `ipsec up`, but for the wish."""
        now = self.now[who]
        if now.state == "up" and not now.pending:
            self.spi += 16
            wished = initiator and (CONNECTIONS[who].client or now.pairs[0].kind == "CK_PERMANENT")
            self.now[who] = now._replace(spi=self.spi, wished=now.wished or wished)
        yield from ()

    def fails_to_establish(self, who: int, initiator: bool) -> Doings:
        """A bare negotiation that fails: `unroute` without anything before it."""
        now = self.now[who]
        if now.state == "idle" and not self.sibling_is_there(who) and now.pairs[0].kind != "CK_INSTANCE":
            kind = "unknown?" if initiator else "none"
            yield Call(now.pairs[0], "unroute", False, ("UP",), sa_type=kind)

    def stray_down(self, who: int, _: bool) -> Doings:
        """A half-open responder: `down` without `up`. Or one `up` and two `down`s."""
        if self.now[who].state == "idle":
            self.spi += 16
            yield Call(self.now[who].pairs[0], "down", True, self.wishes(who), self.spi)

    def peer_moves(self, who: int, _: bool) -> Doings:
        """MOBIKE at the responder, or another NAT mapping: no call, but those that follow have another PLUTO_PEER."""
        now = self.now[who]
        known = now.pairs[0].device in FOREIGN.adopted | FOREIGN.unfit  # they would no longer fit
        if now.state == "up" and not now.pending and not known:
            self.now[who] = now._replace(pairs=tuple(moved(pair, peer=other(pair.peer)) for pair in now.pairs))
        yield from ()

    def moves(self, who: int, initiator: bool) -> Doings:
        """MOBIKE at the initiator: it has another local address. In between the establishment may be lost."""
        now = self.now[who]
        if now.state != "up" or not CONNECTIONS[who].mobile:
            return
        self.now[who] = now = now._replace(wished=True)
        wishes = self.wishes(who)
        for verb in ("down", "unroute"):
            for pair in now.pairs:
                yes = "yes" if verb == "unroute" else ""
                yield Call(pair, verb, True, wishes, now.spi, mobike=yes)
        there = tuple(moved(pair, me=SECOND if pair.me == WEST else WEST) for pair in now.pairs)
        self.now[who] = now._replace(pairs=there)
        if not initiator:
            self.now[who] = self.now[who]._replace(state="waiting")
            return
        for verb in ("route", "up"):
            for pair in there:
                yield Call(pair, verb, True, wishes, now.spi)

    def roams(self, who: int, initiator: bool) -> Doings:
        """This machine loses an address and has another one. Every connection that is up moves, one after the other; for the
        rest nothing is called, and they go on from there."""
        old = self.now[who].pairs[0].me
        if old not in (SIXTH_END, ROAMED):
            return
        new = ROAMED if old == SIXTH_END else SIXTH_END
        yield Meddling("roam", old, new)
        there = [one for one, now in enumerate(self.now) if now.pairs[0].me == old]
        moving = [one for one in there if self.now[one].state == "up"]
        for one in moving:
            self.now[one] = self.now[one]._replace(wished=True)
            yield from self.each(one, "down")
            if not self.sibling_is_there(one):
                wishes = (*self.wishes(one), "MOBIKE")  # which alone tells it where there is no source address
                yield from (Call(pair, "unroute", True, wishes, self.now[one].spi) for pair in self.now[one].pairs)
        for one in there:
            now = self.now[one]
            self.now[one] = now._replace(pairs=tuple(moved(pair, me=new) for pair in now.pairs))
        for one in moving if initiator else reversed(moving):
            for verb in ("route", "up"):
                yield from self.each(one, verb)

    def meddled(self, who: int, initiator: bool) -> Doings:
        """Somebody takes away what we made; the next `up` of a tunnel brings it back."""
        now = self.now[who]
        device = now.pairs[0].device
        unknown = now.pairs[0].reqid == 100 and now.pairs[0].peer != CONNECTIONS[who].pairs[0].peer  # as after a rekeying
        if now.state == "up" and not now.pending and device not in FOREIGN.adopted | FOREIGN.unfit and not unknown:
            alone = len(now.pairs) == 1 and now.pairs[0].shared == "no" and now.pairs[0].kind == "CK_PERMANENT"
            yield Meddling("delete" if initiator else "unroute" if alone else "set down", device)
            for pair in now.pairs:
                yield Call(pair, "up", True, self.wishes(who), now.spi)

    def spoiled(self, who: int, initiator: bool) -> Doings:
        """Somebody takes away what is on a device, whoever uses it, and it is `reconcile` that brings it back."""
        device = CONNECTIONS[who].pairs[0].device
        if device not in FOREIGN.adopted | FOREIGN.unfit:
            self.spoils += 1
            yield Meddling(SPOILS[self.spoils % len(SPOILS)], device)
            if initiator:
                yield Meddling(SPOILS[self.spoils // 2 % len(SPOILS)], device)
        yield from self.reconcile()

    def reconcile(self, *_: object) -> Doings:
        """The timer of contrib/systemd."""
        yield Reconcile("libreswan", self.truth())

    def truth(self) -> Truth:
        """What `whack --status` and the kernel's XFRM database say."""
        up = tuple(Alive(one.pairs, one.spi) for one in self.now if one.state == "up")
        names = [now for number, now in enumerate(self.now) if self.is_open(number)]
        traps = tuple(pair for now in names if now.state != "up" for pair in now.pairs)
        return Truth(up, frozenset(now.pairs[0].connection for now in names), traps)

    def is_open(self, who: int) -> bool:
        """Whether the daemon keeps the way open: the connection is routed, or wished up."""
        now = self.now[who]
        return bool(now.wished or CONNECTIONS[who].keep or (now.state != "idle" and not now.refused))

    def killed(self, *_: object) -> Doings:
        """SIGKILL, or --leave-state: nothing is called. The next pluto counts reqids of instances from the beginning."""
        here = self.now[NUMBERS["shared-1"]].pairs[0].me
        self.now = [
            Now(tuple(pair._replace(me=here) if pair.me == SIXTH_END else pair for pair in one.pairs)) for one in CONNECTIONS
        ]
        self.reqid = 20000
        yield Meddling("restart", "pluto")

    # -- parts of it

    def config(self, who: int) -> tuple[str, ...]:
        """What the policy always has."""
        one = CONNECTIONS[who]
        return (("KEEP",) if one.keep else ()) + (("failureDROP",) if one.shunt else ())

    def wishes(self, who: int) -> tuple[str, ...]:
        """What the policy has now; 4.10 does not show ROUTE."""
        now = self.now[who]
        up = ("UP",) if now.wished else ()
        route = ("ROUTE",) if now.on_demand and now.pairs[0].release == 5 else ()
        return up + route + self.config(who)

    def each(self, who: int, verb: str, config: Optional[bool] = None) -> Doings:
        """A call for every pair of selectors."""
        now = self.now[who]
        wishes = self.wishes(who) if config is None else ("failureDROP",) * config
        for pair in now.pairs:
            going = "CK_GOING_AWAY" if pair.release == 4 and pair.kind == "CK_INSTANCE" else pair.kind
            yield Call(pair._replace(kind=going), verb, True, wishes, now.spi)

    def unroutes(self, who: int, child: bool) -> Doings:
        """`unroute` for every pair, but those that see another one's route: a sibling's, or another pair's."""
        now = self.now[who]
        if self.sibling_is_there(who):
            return
        for pair in now.pairs:
            if alone(pair, now.pairs):
                yield Call(pair, "unroute", child, ("failureDROP",) * CONNECTIONS[who].shunt, now.spi)

    def sibling_is_there(self, who: int) -> bool:
        """Whether another connection has the same route."""
        sibling = CONNECTIONS[who].sibling
        return bool(sibling) and self.now[NUMBERS[sibling]].state != "idle"


def alone(pair: Tunnel, pairs: tuple[Tunnel, ...]) -> bool:
    """Whether no other pair of the child has this remote selector."""
    return sum((one.theirs, one.peer_port) == (pair.theirs, pair.peer_port) for one in pairs) == 1


def other(peer: str) -> str:
    """Where a peer moves to, and back."""
    return peer.replace(".100.", ".101.") if ".100." in peer else peer.replace(".101.", ".100.")


def moved(pair: Tunnel, me: str = "", peer: str = "") -> Tunnel:
    """A pair with another end; a selector that is the end itself moves with it."""
    me, peer = me or pair.me, peer or pair.peer
    mine = pair.mine.replace(f"{pair.me}/", f"{me}/")
    theirs = pair.theirs.replace(f"{pair.peer}/", f"{peer}/")
    return pair._replace(me=me, peer=peer, mine=mine, theirs=theirs)
