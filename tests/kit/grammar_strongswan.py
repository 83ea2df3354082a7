"""What strongSwan really calls, contracts/strongswan.md 3: `up` and `down` for each pair of selectors, and often nothing.

Built as grammar_libreswan.py; the oracle's rules for its calls are design section 6's last paragraph.
"""

from collections.abc import Generator
from typing import Any, ClassVar, NamedTuple

from tests.kit.charon import Child, charon_call
from tests.kit.grammar_libreswan import CHARONS, FOREIGN, SPOILS, Doings, Meddling, Reconcile, tunnel
from tests.kit.machine import WEST, WEST6, Environment, Tunnel
from tests.kit.oracle import Alive, Hold, Key, Oracle, Truth, is_xfrm, row_of

UNIQUE = "%unique"
EACH = "{if_id}"  # in a device's name
SETTINGS = """
[defaults]
routing = yes
[connection net]
interface = vti31
address = 10.99.31.1/30
[connection other]
interface = vti32
[connection uniq]
interface = vti33
[connection pool]
interface = vti34
shared = yes
[connection last]
interface = vti35
shared = yes
delete = last
[connection six]
interface = vti38
[connection twin*]
interface = vti39
"""


class Ring(NamedTuple):
    """One call of charon's. `tunnel` is the pair, with what the settings say of it; `known`: charon still knows the child."""

    tunnel: Tunnel
    verb: str
    ids: tuple[str, str]
    unique_id: int
    known: bool = True

    def __str__(self) -> str:
        one = self.tunnel
        words = [self.verb, one.connection, f"{one.mine}-{one.theirs}", f"uniqueid {self.unique_id}", one.mark_out]
        return " ".join([*words, f"me {one.me}", f"peer {one.peer}", "" if self.known else "interface unknown"]).strip()


class Sketch(NamedTuple):
    """A child as it is configured; a `mark` of %unique is another one for each SA. Children with one peer that are `twins` come
    and go with one IKE SA."""

    pairs: tuple[Tunnel, ...]
    mark: str
    peer_id: str
    twins: bool = False


def sketch(name: str, number: int, device: str, mark: str, *theirs: str, **more: Any) -> Sketch:
    """A child, its peer and its device."""
    one = tunnel(name, number, device=device, **more)
    mine = {True: "fd00:1::/64", False: one.mine}
    return Sketch(tuple(one._replace(mine=mine[":" in each], theirs=each) for each in theirs), mark, f"peer{number}")


def pool(name: str, number: int, me: str, device: str, lease: int = 0) -> Sketch:
    """A road warrior with an address of ours, which another one may have had."""
    return sketch(name, number, device, "34", f"10.34.0.{lease or number}/32", me=me, shared="yes")


CHILDREN: tuple[Sketch, ...] = (
    sketch("net", 31, "vti31", "31", "10.31.0.0/24", "10.31.1.0/24", address="10.99.31.1/30"),
    sketch("other", 32, "vti32", "32", "10.31.0.0/24"),
    sketch("uniq", 33, "vti33", UNIQUE, "10.33.0.0/24", "10.33.1.0/24"),
    pool("pool", 34, CHARONS[0], "vti34"),
    pool("pool", 35, CHARONS[0], "vti34"),
    pool("last", 36, CHARONS[1], "vti35"),
    pool("last", 37, CHARONS[1], "vti35"),
    sketch("six", 38, "vti38", "38", "10.38.0.0/24", "fd00:38::/64"),
    sketch("twin", 39, "vti39", "39", "10.39.0.0/24", "fd00:39::/64")._replace(twins=True),
    sketch("twin2", 39, "vti39", "39", "10.39.1.0/24")._replace(twins=True),
    pool("pool", 40, CHARONS[0], "vti34", lease=34),
)


class Sa(NamedTuple):
    """An IKE SA with its child, as charon has it now."""

    who: int
    unique_id: int
    pairs: tuple[Tunnel, ...]


class StrongSwanOracle(Oracle):
    """Claims by up and down."""

    def __init__(self, *world: Any) -> None:
        super().__init__(*world)
        self.ended: set[Key] = set()

    def copy(self) -> "Oracle":
        """Another one that knows the same."""
        other = super().copy()
        assert isinstance(other, StrongSwanOracle)
        other.ended = set(self.ended)
        return other

    def learns(self, truth: Truth) -> None:
        """Of each child as many claims are right as there are IKE SAs with it: by number, since that may have changed the
        newest, and the oldest end."""
        self.clock += 1
        before = dict(self.held)
        for child in {key[:-1] for key in before}:
            mine = [key for key in sorted(before, key=lambda key: before[key].since) if key[:-1] == child]
            theirs = [
                alive for alive in truth.up if any((*named(alive), *marks(p), p.mine, p.theirs) == child for p in alive.pairs)
            ]
            numbers = {alive.unique_id for alive in theirs}
            known = [key for key in mine if int(key[-1]) in numbers]
            rest = [key for key in mine if key not in known]
            others = [alive for alive in theirs if str(alive.unique_id) not in {key[-1] for key in known}]
            others.sort(key=lambda alive: alive.unique_id)  # a rekeyed one is the newest
            for key in rest[: max(0, len(rest) - len(others))]:
                del self.held[key]
            left = rest[max(0, len(rest) - len(others)) :]
            for key, alive in [
                *zip(reversed(left), reversed(others)),
                *((k, a) for k in known for a in theirs if str(a.unique_id) == k[-1]),
            ]:
                self.follow(key, alive.pairs[0])
        self.clear(before)
        for three in {key[:3] for key in self.held}:
            self.stand(max((hold for key, hold in self.held.items() if key[:3] == three), key=lambda hold: hold.since))

    def refuses(self, call: Any) -> bool:  # noqa: ARG002
        """Nobody else's devices are asked for."""
        return False

    def fails(self, call: Any) -> None:
        """charon has the SA all the same: its end is no other's."""
        if call.verb == "up" and (*child_of(call), str(call.unique_id)) not in self.held:
            self.ended.add((*child_of(call), str(call.unique_id)))

    def happens(self, call: Any) -> None:
        """charon calls."""
        self.clock += 1
        one: Tunnel = call.tunnel
        child = child_of(call)
        key = (*child, str(call.unique_id))
        if call.verb == "up":
            row = row_of(one, True)
            since = self.held[key].since if key in self.held else self.clock
            mates = [(other, hold) for other, hold in self.held.items() if other[:3] == child[:3]]
            if any(hold.since > since and int(other[-1]) < call.unique_id for other, hold in mates):
                since = self.clock  # numbers that went back: a killed charon's was renewed, and is the latest now
            row = row._replace(goes=row.goes or one.connection == "last")
            self.held[key] = Hold("sa", one, row, since, since)
            self.ended -= {other for other in self.ended if other[:-1] == child and int(other[-1]) >= call.unique_id}
            self.stand(self.held[key])
        else:
            before = dict(self.held)
            oldest = sorted((hold.since, other) for other, hold in self.held.items() if other[:-1] == child)
            if key in self.held:
                del self.held[key]
            elif call.known and oldest and key not in self.ended:
                del self.held[oldest[0][1]]
            self.ended.add(key)
            self.clear(before)
            left = [hold for other, hold in self.held.items() if other[:3] == child[:3]]
            for hold in sorted(left, key=lambda hold: hold.since)[-1:]:
                self.stand(hold)


def child_of(call: Any) -> Key:
    """What stays the same of a child SA from its `up` to its `down`."""
    one: Tunnel = call.tunnel
    return (one.connection, *call.ids, one.mark_in, one.mark_out, one.mine, one.theirs)


def named(alive: Alive) -> Key:
    """A child's name and its two identities."""
    return (alive.pairs[0].connection, *alive.ids)


def marks(pair: Tunnel) -> Key:
    """Both marks."""
    return (pair.mark_in, pair.mark_out)


def keys_of(one: Tunnel) -> dict[str, Any]:
    """Its marks; or, where its device is an XFRM interface, the same numbers as if_ids."""
    if is_xfrm(one.device):
        number = one.mark_out.split("/")[0]
        return {"mark_in": "", "mark_out": "", "if_id_in": number, "if_id_out": number}
    return {"mark_in": one.mark_in, "mark_out": one.mark_out}


class StrongSwan:
    """One charon and its children."""

    oracle = StrongSwanOracle
    connections: ClassVar[tuple[Sketch, ...]] = CHILDREN
    together: ClassVar[tuple[tuple[int, int], ...]] = ((0, 1), (3, 4), (5, 6), (8, 9), (3, 10))
    world = FOREIGN
    files: ClassVar[dict[str, str]] = {}
    """Sysctls that the kernel model shows beside its own."""
    settings = SETTINGS
    things = (
        *("initiate",) * 6,
        *("terminate",) * 3,
        *("rekey", "reauthenticate", "reauthenticate_first", "moves") * 2,
        *("one_down_more", "one_down_late", "gone_without_a_word", "killed"),
        *("child_ends", "child_comes"),
        *("reconcile", "spoiled") * 2,
    )

    def __init__(self) -> None:
        self.numbers = 0
        self.marks = 100
        self.spoils = 0
        self.up: list[Sa] = []
        self.relics: list[Sa] = []
        self.gone: list[Sa] = []

    @staticmethod
    def environment(said: Any) -> Environment:
        """The variables of a call."""
        one: Tunnel = said.tunnel
        child = Child(
            name=one.connection,
            me=one.me,
            peer=one.peer,
            my_id=said.ids[0],
            peer_id=said.ids[1],
            pairs=((one.mine, one.theirs),),
            underlay="eth0" if said.known else "unknown",
            **keys_of(one),
        )
        return charon_call(child, said.verb, said.unique_id)

    def thing(self, what: str, who: int, initiator: bool) -> Doings:
        """Something happens to a child."""
        doings: Doings = getattr(self, what)(who, initiator)
        return doings

    def initiate(self, who: int, _: bool) -> Doings:
        """An IKE SA more, whether or not there is one: both ends may initiate at once, or a peer that restarted."""
        if len(self.of(who)) > 2:
            return
        self.numbers += 1
        for one in self.twins(who):
            yield from self.comes(one, self.numbers)

    def comes(self, who: int, unique_id: int) -> Generator[Any, bool, None]:
        """A child comes up in an IKE SA."""
        mark = self.connections[who].mark
        if mark == UNIQUE:
            self.marks += 1
            mark = str(self.marks)
        text = f"{mark}/0xffffffff"
        pairs = tuple(
            p._replace(mark_in=text, mark_out=text, device=p.device.replace(EACH, mark)) for p in self.connections[who].pairs
        )
        sa = Sa(who, unique_id, pairs)
        self.up.append(sa)
        yield from self.each(sa, "up")

    def terminate(self, who: int, oldest: bool) -> Doings:
        """An IKE SA ends, whichever end wants it."""
        if self.of(who):
            for sa in self.with_it(self.of(who)[0 if oldest else -1]):
                yield from self.ends(sa)

    def ends(self, sa: Sa) -> Generator[Any, bool, None]:
        """A child ends."""
        self.up.remove(sa)
        self.gone.append(sa)
        yield from self.each(sa, "down")

    def child_ends(self, who: int, oldest: bool) -> Doings:
        """One child of an IKE SA that may have others."""
        if self.of(who):
            yield from self.ends(self.of(who)[0 if oldest else -1])

    def child_comes(self, who: int, oldest: bool) -> Doings:
        """In an IKE SA that its twin has, and it has not: with the ends that this has now."""
        have = {sa.unique_id for sa in self.of(who)}
        others = [sa for sa in self.up if sa.who in self.twins(who) and sa.unique_id not in have]
        if others and len(have) < 3:
            it = others[0 if oldest else -1]
            yield from self.comes(who, it.unique_id)

    def one_down_more(self, who: int, oldest: bool) -> Doings:
        """Up to 6.0.4, after the delete of a rekeyed child went unanswered."""
        if self.of(who):
            sa = self.of(who)[0 if oldest else -1]
            yield from self.terminate(who, oldest)
            late = sa if oldest else sa._replace(unique_id=self.numbers + 1000)
            yield from self.each(late, "down", known=False)

    def one_down_late(self, who: int, oldest: bool) -> Doings:
        """The same, after other things have happened, and with the interface that charon then knows."""
        gone = [sa for sa in self.gone if sa.who == who]
        if gone:
            yield from self.each(gone[0 if oldest else -1], "down")

    def rekey(self, who: int, oldest: bool) -> Doings:
        """The IKE SA is rekeyed: no call, but it has another number."""
        if self.of(who):
            self.numbers += 1
            for sa in self.with_it(self.of(who)[0 if oldest else -1]):
                self.up[self.up.index(sa)] = sa._replace(unique_id=self.numbers)
        yield from ()

    def reauthenticate(self, who: int, _: bool) -> Doings:
        """Make before break: every `up` of the new comes before the first `down` of the old."""
        if self.of(who):
            yield from self.initiate(who, True)
            yield from self.terminate(who, True)

    def reauthenticate_first(self, who: int, _: bool) -> Doings:
        """Break before make."""
        if self.of(who):
            yield from self.terminate(who, True)
            yield from self.initiate(who, True)

    def moves(self, who: int, oldest: bool) -> Doings:
        """MOBIKE: no call, and the `down` has the new ends, maybe of the other family."""
        if self.of(who) and self.connections[who].pairs[0].shared == "no" and not self.connections[who].twins:
            sa = self.of(who)[0 if oldest else -1]
            four = self.connections[who].pairs[0]
            ends = (WEST6, f"2001:db8:0:1::70{who:x}") if sa.pairs[0].me == WEST else (four.me, four.peer)
            there = tuple(pair._replace(me=ends[0], peer=ends[1]) for pair in sa.pairs)
            self.up[self.up.index(sa)] = sa._replace(pairs=there)
        yield from ()

    def gone_without_a_word(self, who: int, oldest: bool) -> Doings:
        """No pair of selectors fits any more after a move: `down` is never called."""
        if self.of(who):
            self.up.remove(self.of(who)[0 if oldest else -1])
        yield from ()

    def killed(self, *_: object) -> Doings:
        """SIGKILL: nothing is called, the kernel keeps what it has, and all numbers begin anew."""
        self.relics += self.up
        self.up, self.gone, self.numbers, self.marks = [], [], 0, 100
        yield Meddling("restart", "charon")

    def spoiled(self, who: int, both: bool) -> Doings:
        """Somebody takes away what is on a device, and it is `reconcile` that brings it back."""
        self.spoils += 1
        for number in (self.spoils, self.spoils // 2)[: 1 + both]:
            yield Meddling(SPOILS[number % len(SPOILS)], self.connections[who].pairs[0].device)
        yield from self.reconcile()

    def reconcile(self, *_: object) -> Doings:
        """The timer of contrib/systemd."""
        up, relics = (
            tuple(Alive(sa.pairs, 0, sa.unique_id, ("west", self.connections[sa.who].peer_id)) for sa in sas)
            for sas in (self.up, self.relics)
        )
        yield Reconcile("strongswan", Truth(up, relics=relics))

    def twins(self, who: int) -> list[int]:
        """The children that come with this one, and itself."""
        it = self.connections[who]
        alike = [n for n, one in enumerate(self.connections) if one.twins and one.peer_id == it.peer_id]
        return alike if it.twins else [who]

    def with_it(self, sa: Sa) -> list[Sa]:
        """The children of the same IKE SA, this one among them."""
        return [one for one in self.up if one.unique_id == sa.unique_id]

    def of(self, who: int) -> list[Sa]:
        """The SAs of a child, oldest first."""
        return [sa for sa in self.up if sa.who == who]

    def each(self, sa: Sa, verb: str, known: bool = True) -> Generator[Any, bool, None]:
        """A call for every pair."""
        for pair in sa.pairs:
            yield Ring(pair, verb, ("west", self.connections[sa.who].peer_id), sa.unique_id, known)
