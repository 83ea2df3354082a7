"""A plain oracle: design section 6 in its own words, for one call after another. It imports nothing of updown.

It keeps which claims are held, by whom and since when, and says from that which devices, routes and addresses there must be.
"""

from collections.abc import Iterable
from ipaddress import ip_network
from typing import NamedTuple

from tests.kit.machine import Tunnel

ANY = {4: "0.0.0.0", 6: "::"}
WISHES = {"UP", "KEEP", "ROUTE"}
Key = tuple[str, ...]

WITHIN = {"10.1.0.0/24": "10.1.0.1/32", "fd00:1::/64": "fd00:1::1/128"}
"""This machine's own address in each of the networks behind it; in others it has none."""


class Call(NamedTuple):
    """One call of libreswan's: of one connection, or instance, and one pair of its selectors; the fields of machine.call."""

    tunnel: Tunnel
    verb: str
    child: bool = True
    wishes: tuple[str, ...] = ()
    spi: int = 0
    sa_type: str = ""
    mobike: str = ""

    def __str__(self) -> str:
        one = self.tunnel
        words = [self.verb, one.connection, f"{one.mine}-{one.theirs}", f"reqid {one.reqid}", *self.wishes]
        words += [f"me {one.me}", f"peer {one.peer}"]
        words += [f"spi {self.spi:#x}"] if self.child else ["no child"]
        return " ".join([*words, self.sa_type, "mobike" if self.mobike else ""]).strip()


class Row(NamedTuple):
    """Where a tunnel stands in the table of section 6."""

    anyone: bool  # several peers: the device has no remote end
    goes: bool


class Hold(NamedTuple):
    """A claim: `since` when, and since when it asks for `routes` (0: not yet)."""

    kind: str
    tunnel: Tunnel
    row: Row
    since: int
    routes: int = 0


class Alive(NamedTuple):
    """A child SA that a daemon has: its pairs of selectors with the ends they have now. `unique_id` and `ids` are charon's."""

    pairs: tuple[Tunnel, ...]
    spi: int = 0
    unique_id: int = 0
    ids: tuple[str, str] = ("", "")


class Truth(NamedTuple):
    """What there is, whoever was told of it: children that are up, connections that the daemon keeps the way open for, its trap
    policies; and what the kernel has of children that no daemon knows any more."""

    up: tuple[Alive, ...] = ()
    open: frozenset[str] = frozenset()
    traps: tuple[Tunnel, ...] = ()
    relics: tuple[Alive, ...] = ()


class World(NamedTuple):
    """What somebody else made beforehand."""

    adopted: frozenset[str] = frozenset()  # devices that fit
    unfit: frozenset[str] = frozenset()  # devices that do not
    routes: frozenset[str] = frozenset()  # destinations


class Device(NamedTuple):
    """A tunnel device as it must be."""

    kind: str
    local: str
    remote: str
    ikey: int
    okey: int


class RouteSeen(NamedTuple):
    """A route of ours as it must be."""

    destination: str
    device: str
    metric: int = 0
    source: str = ""


class Oracle:
    """Who holds what, since when; and what must be there."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = 0
        self.held: dict[Key, Hold] = {}
        self.stands: dict[str, Device] = {}  # devices of ours, as the last making call wanted them
        self.taken: set[int] = set()

    def copy(self) -> "Oracle":
        """Another one that knows the same."""
        other = type(self)(self.world)
        other.clock = self.clock
        other.held, other.stands, other.taken = dict(self.held), dict(self.stands), set(self.taken)
        return other

    def same(self, other: "Oracle") -> bool:
        """Whether another one says the same."""
        return (self.held, self.stands) == (other.held, other.stands)

    # -- what a call does

    def refuses(self, call: Call) -> bool:
        """Whether the call must fail: it needs a device in whose place stands somebody else's."""
        return makes(call.verb) and call.tunnel.device in self.world.unfit

    def happens(self, call: Call) -> None:
        """libreswan calls."""
        self.clock += 1
        if makes(call.verb):
            if "-" not in call.verb or call.spi not in self.taken:
                self.make(call)
            return
        if call.child:
            self.taken.add(call.spi)
        before = dict(self.held)
        if call.verb == "down":
            self.down(call)
        else:
            self.unroute(call)
        self.clear(before)

    def fails(self, call: Call) -> None:
        """The call was refused: section 6 knows no such claim."""

    def make(self, call: Call) -> None:
        """prepare, route, up: a claim, new or renewed."""
        one = call.tunnel
        kind = "sa" if call.child else "trap"
        key = key_of(one, kind)
        before = self.held.get(key)
        mates = [hold for hold in self.held.values() if same_tunnel(hold.tunnel, one)]
        mates += sorted(
            (hold for hold in self.held.values() if on_the_same(hold.tunnel, one) and not self.dead(hold, call)),
            key=lambda hold: hold.since,
        )
        row = mates[0].row if mates else self.row(one, "UP" in call.wishes)
        routes = before.routes if before else 0
        for old, hold in list(self.held.items()):
            if self.dead(hold, call):
                del self.held[old]
                before, routes = before or hold, routes or hold.routes
        if not routes and "route" in call.verb.split("-") + (["route"] if "up" in call.verb.split("-") else []):
            routes = self.clock
        self.held[key] = Hold(kind, one, row, before.since if before else self.clock, routes)
        self.stand(self.held[key])

    def row(self, one: Tunnel, initiates: bool) -> Row:
        """Where a tunnel stands."""
        return row_of(one, initiates)

    def dead(self, hold: Hold, call: Call) -> bool:
        """Whether a claim is a killed daemon's: no two instances have all of that at once."""
        one, old = call.tunnel, hold.tunnel
        moved = "UP" in call.wishes and not hold.row.anyone  # an initiator has one peer, which may have moved
        ends = (old.me, old.peer) if moved else (one.me, one.peer)
        alike = one.kind != "CK_PERMANENT" and old == one._replace(reqid=old.reqid, me=ends[0], peer=ends[1])
        return call.child and alike and not same_tunnel(hold.tunnel, one)

    def stand(self, hold: Hold) -> None:
        """A device is as this claim wants it."""
        one = hold.tunnel
        if one.device not in self.world.adopted:
            six = family(one.me)
            remote = ANY[six] if hold.row.anyone else one.peer
            keys = [int(mark.split("/")[0]) for mark in (one.mark_in, one.mark_out)]
            if is_xfrm(one.device):  # it has no ends, and stands for its if_id
                self.stands[one.device] = Device("xfrm", "", "", *keys)
                return
            self.stands[one.device] = Device("vti6" if six == 6 else "vti", one.me, remote, *keys)

    def down(self, call: Call) -> None:
        """The child is gone: its claim waits for it to come back, or ends."""
        key = key_of(call.tunnel, "sa")
        hold = self.held.get(key)
        if WISHES & set(call.wishes) or any(wish.startswith("failure") for wish in call.wishes):
            if hold:
                self.held[key] = hold._replace(kind="revive")
            return
        self.held.pop(key, None)
        for other, one in list(self.held.items()):
            if one.kind == "revive" and same_tunnel(one.tunnel, call.tunnel):
                del self.held[other]  # another pair of selectors, which was not brought back
        if call.tunnel.release == 5:
            self.held.pop(key_of(call.tunnel, "trap"), None)

    def unroute(self, call: Call) -> None:
        """The end of everything for this remote selector, of whatever connection, unless the tunnel only moves."""
        one = call.tunnel
        if call.mobike or (one.release == 5 and "MOBIKE" in call.wishes):  # it is in the grammar's moves alone
            return
        failed = not call.child and "UP" in call.wishes  # an attempt: nobody else's living child goes with it
        for key, hold in list(self.held.items()):
            own = same_tunnel(hold.tunnel, one) and remote_selector(hold.tunnel) == remote_selector(one)
            if own or (group(hold.tunnel) == group(one) and not (failed and hold.kind == "sa")):
                del self.held[key]

    def clear(self, before: dict[Key, Hold]) -> None:
        """Devices that were held, and now are not, go if the row of those who left says so."""
        left = [hold for key, hold in before.items() if key not in self.held]
        for name in {hold.tunnel.device for hold in left} - {hold.tunnel.device for hold in self.held.values()}:
            if all(hold.row.goes for hold in left if hold.tunnel.device == name):
                self.stands.pop(name, None)

    def learns(self, truth: Truth) -> None:
        """`reconcile` asks what there is: a claim without a child ends, or waits; the others have the ends of their child."""
        self.clock += 1
        before = dict(self.held)
        for key, hold in before.items():
            one = hold.tunnel
            key_now = key_of(one, hold.kind)
            pair = next((pair for alive in truth.up for pair in alive.pairs if key_of(pair, hold.kind) == key_now), None)
            if pair:
                self.follow(key, pair)
            elif one.connection not in truth.open or (hold.kind == "sa" and one.kind != "CK_PERMANENT"):
                del self.held[key]
            elif hold.kind == "sa":
                self.held[key] = hold._replace(kind="revive")
        self.clear(before)
        for key in self.held:
            self.waits(key, truth)

    def waits(self, key: Key, truth: Truth) -> None:
        """A connection that is not up: its daemon tells from where it will come back. Where another one is up, that one has the
        device."""
        one, kind = self.held[key].tunnel, self.held[key].kind
        said = next((pair for pair in truth.traps if key_of(pair, kind) == key_of(one, kind)), None)
        if kind == "sa" or said is None or one.kind != "CK_PERMANENT":
            return
        if not any(hold.kind == "sa" and hold.tunnel.device == one.device for hold in self.held.values()):
            self.follow(key, said._replace(peer=one.peer, theirs=one.theirs))
            device = self.stands.get(one.device)
            if device and device.local:
                self.stands[one.device] = device._replace(local=said.me)

    def follow(self, key: Key, now: Tunnel) -> None:
        """A claim's tunnel has other ends; a selector that is the end itself moves with it."""
        one = self.held[key].tunnel
        if (one.me, one.peer) != (now.me, now.peer):
            mine = host(now.me) if one.mine == host(one.me) else one.mine
            theirs = host(now.peer) if one.theirs == host(one.peer) else one.theirs
            there = one._replace(me=now.me, peer=now.peer, mine=mine, theirs=theirs)
            self.held[key] = self.held[key]._replace(tunnel=there)
            self.stand(self.held[key])

    def loses(self, device: str) -> None:
        """Somebody deleted a device that nobody holds: nobody makes it again."""
        if device not in {hold.tunnel.device for hold in self.held.values()}:
            self.stands.pop(device, None)

    def restarts(self) -> None:
        """The daemon died without a word: nothing that section 6 tells of."""

    def roams(self, old: str, new: str) -> None:
        """This machine has another address: whoever waits will come back from there."""
        for key, hold in self.held.items():
            if hold.tunnel.me == old:
                self.held[key] = hold._replace(tunnel=hold.tunnel._replace(me=new))

    # -- what must be there

    def holders(self) -> list[Hold]:
        """All claims, first come first."""
        return sorted(self.held.values(), key=lambda hold: hold.since)

    def devices(self) -> dict[str, Device]:
        """Devices of ours."""
        return self.stands

    def is_up(self, device: str) -> bool:  # noqa: ARG002
        """Whether a device of ours is to be up."""
        return True

    def addresses(self, device: str) -> set[str]:
        """What we put on a device: the addresses of the connections that hold it, and their source addresses."""
        there = [hold.tunnel for hold in self.held.values() if hold.tunnel.device == device]
        return {one.address for one in there if one.address} | {
            host(one.source) for one in there if one.source and one.source != one.address.split("/")[0]
        }

    def routes(self, more: Iterable[RouteSeen] = ()) -> set[RouteSeen]:
        """One for each remote selector and metric, through the device of the first to ask for it; who waits asks for
        nothing that somebody who lives has a way to, by this daemon or another one (`more`). Where a route of somebody else's
        is to the same prefix, at no metric, two halves go before that, and no wider way leads there."""
        ways = [*self.living_ways(), *more]
        found: dict[tuple[str, int], RouteSeen] = {}
        for hold, route in self.asked():
            waits = hold.kind == "revive" and route.device == hold.tunnel.device
            near = [way for way in ways if way.destination == route.destination or not self.is_crossed(route)]
            if not waits or not any(covers(way, route) for way in near):
                found.setdefault((route.destination, route.metric), route)
        crossed = [route for route in found.values() if self.is_crossed(route)]
        whole = {route for route in found.values() if route not in crossed or route.metric}
        return whole | {half for route in crossed for half in halved(route)}

    def living_ways(self) -> list[RouteSeen]:
        """The routes into devices of tunnels that are up and ask for them, where nobody who waits is counted."""
        first: dict[tuple[str, int], RouteSeen] = {}
        up: set[tuple[str, int, str]] = set()
        for hold, route in self.asked():
            if hold.kind != "revive" and route.device == hold.tunnel.device:
                first.setdefault((route.destination, route.metric), route)
            if hold.kind == "sa":
                up.add((route.destination, route.metric, route.device))
        return [route for (destination, metric), route in first.items() if (destination, metric, route.device) in up]

    def asked(self) -> Iterable[tuple[Hold, RouteSeen]]:
        """Every route that somebody asks for and that could be there, first come first."""
        for hold in sorted((hold for hold in self.held.values() if hold.routes), key=lambda hold: hold.routes):
            for route in routes_of(hold.tunnel):
                if self.leads(route.device):
                    yield hold, route

    def is_crossed(self, route: RouteSeen) -> bool:
        """Whether somebody else's route is to the same prefix; those of these sequences have no metric."""
        return route.destination in self.world.routes

    def sources(self, seen: RouteSeen) -> set[str]:
        """Where a route may prefer to come from: as any of those that ask for it there. Which of a tunnel's pairs came first
        nobody promises, after a death."""
        asked = [route for hold in self.held.values() if hold.routes for route in routes_of(hold.tunnel)]
        return {route.source for route in asked for one in (route, *halved(route)) if one[:3] == seen[:3]}

    def leads(self, device: str) -> bool:
        """Whether something can be routed into a device; the way to a peer is none of ours."""
        return device not in self.stands or self.is_up(device)


class Follower(Oracle):
    """Mixed into another: every device of ours follows its tunnels, and is up exactly while one of them has an SA."""

    def is_up(self, device: str) -> bool:
        return any(hold.kind == "sa" and hold.tunnel.device == device for hold in self.held.values())


def halved(route: RouteSeen) -> tuple[RouteSeen, ...]:
    """A route to an IPv4 prefix of 24 bits in two, at a metric of its own; others are not divided here."""
    address, length = route.destination.split("/")
    if length != "24":
        return ()
    both = f"{address}/25", f"{address.removesuffix('.0')}.128/25"
    return tuple(route._replace(destination=half, metric=160_000 + route.metric) for half in both)


def is_xfrm(device: str) -> bool:
    """Whether a device of these sequences is an XFRM interface."""
    return device.startswith("ipsec")


def makes(verb: str) -> bool:
    """Whether something must be there after this verb."""
    return verb not in ("down", "unroute")


def family(address: str) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4


def host(address: str) -> str:
    """A single address in interface notation."""
    return f"{address}/{128 if family(address) == 6 else 32}"


def row_of(one: Tunnel, initiates: bool) -> Row:
    """The table of section 6. An instance that wishes to be up is an initiator with a fixed gateway."""
    stays = one.shared == "yes" or (one.kind != "CK_PERMANENT" and not initiates)
    return Row(anyone=stays, goes=not stays)


def covers(way: RouteSeen, route: RouteSeen) -> bool:
    """Whether all that a route is for may go this way too."""
    one, other = (ip_network(each.destination) for each in (way, route))
    return one.version == other.version and other.network_address in one and other.broadcast_address in one


def same_tunnel(one: Tunnel, other: Tunnel) -> bool:
    """The connection; of instances also the base reqid, or, with a configured one, which all share, the peer."""
    return tunnel_name(one) == tunnel_name(other)


def on_the_same(one: Tunnel, other: Tunnel) -> bool:
    """Whether these are of one connection, and on one device, which cannot be two things at once."""
    return (one.connection, one.device) == (other.connection, other.device)


def tunnel_name(one: Tunnel) -> Key:
    """What tells a tunnel from another."""
    if one.kind == "CK_PERMANENT":
        return (one.connection,)
    return (one.connection, str(one.reqid) if one.reqid > 16383 else one.peer)


def selector(network: str, end: str, end_name: str) -> str:
    """A selector; one that is the tunnel's end itself moves with it."""
    return end_name if network == host(end) else network


def remote_selector(one: Tunnel) -> Key:
    """The remote side."""
    return (selector(one.theirs, one.peer, "peer"), one.protocol, one.peer_port)


def key_of(one: Tunnel, kind: str) -> Key:
    """One claim for each of these; `sa` and `revive` are one in two states."""
    reqid = str(one.reqid) if one.reqid > 16383 and one.kind != "CK_PERMANENT" else ""
    mine = (selector(one.mine, one.me, "me"), one.my_port)
    return ("trap" if kind == "trap" else "sa", one.connection, reqid, *mine, *remote_selector(one))


def group(one: Tunnel) -> Key:
    """Whose `unroute` comes once for all."""
    return (one.theirs, one.protocol, one.peer_port, one.mark_in, one.mark_out, one.me)


def routes_of(one: Tunnel) -> Iterable[RouteSeen]:
    """What a tunnel asks for, if it asks for routes: its remote selector, a default route in halves, and, where the peer
    itself lies in there, a way to it outside."""
    if one.routing != "yes" or one.theirs == host(one.peer):
        return []
    metric = int(one.metric or 0) or (1024 if family(one.theirs) == 6 else 0)
    told = one.source and family(one.source) == family(one.theirs)
    source = one.source if told else WITHIN.get(one.mine, "").split("/")[0]
    if one.theirs == "0.0.0.0/0":
        halves = [RouteSeen(half, one.device, metric, source) for half in ("0.0.0.0/1", "128.0.0.0/1")]
        return [*halves, RouteSeen(host(one.peer), one.underlay)]
    return [RouteSeen(one.theirs, one.device, metric, source)]
