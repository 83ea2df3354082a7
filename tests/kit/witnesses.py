"""What there is (oracle.Truth) as `reconcile` is told of it: by the daemon itself, and by the kernel's XFRM database."""

from typing import Any

from tests.kit.machine import Tunnel
from tests.kit.oracle import Alive, Truth, is_xfrm
from updown.commands.reconcile.decide import Evidence
from updown.daemons.answer import ANSWERED, ChildSa, DaemonAnswer
from updown.model.ipsec import Database, Key, Policy, Sa, State

ESP = Sa(50, 1, 4)


def facts(daemon: str, truth: Truth, since: int) -> Evidence:
    """The truth, the whole truth; the daemon was started at `since`, in seconds since boot."""
    children = tuple(child(daemon, alive) for alive in truth.up)
    ends = {pair.connection: pair.me for pair in truth.traps if daemon == "libreswan" and pair.kind == "CK_PERMANENT"}
    held = tuple(sorted(truth.open))
    return Evidence({daemon: DaemonAnswer(ANSWERED, "", since, children, held, ends=ends)}, database(daemon, truth))


def child(daemon: str, alive: Alive) -> ChildSa:
    """One child as its daemon tells of it; pluto tells of no reqid, marks or selectors, and to the hook the SPI of packets to
    the peer as SPI_IN."""
    one = alive.pairs[0]
    if daemon == "libreswan":
        return ChildSa(daemon, one.connection, one.me, one.peer, alive.spi, alive.spi + 1, wants_device=True)
    names = ("if_id_in", "if_id_out") if is_xfrm(one.device) else ("mark_in", "mark_out")
    keys: dict[str, Any] = {name: number(mark) for name, mark in zip(names, (one.mark_in, one.mark_out))}
    return ChildSa(
        daemon,
        one.connection,
        one.me,
        one.peer,
        unique_id=alive.unique_id,
        remote_ts=tuple(dict.fromkeys(pair.theirs for pair in alive.pairs)),
        ids=alive.ids,
        wants_device=True,
    )._replace(**keys)


def database(daemon: str, truth: Truth) -> Database:
    """The outbound policies and the states of what is up, and the policies of traps."""
    policies: list[Policy] = []
    states: list[State] = []
    for alive in truth.up + truth.relics:
        for pair in alive.pairs:
            policies.append(policy(pair, (reqid(daemon, pair),)))
        one = alive.pairs[0]
        states.append(State(one.peer, one.me, alive.spi, reqid(daemon, one), ESP))
        states.append(State(one.me, one.peer, alive.spi + 1, reqid(daemon, one), ESP))
    policies += [policy(pair, ()) for pair in truth.traps]
    return Database(tuple(dict.fromkeys(policies)), tuple(states))


def policy(pair: Tunnel, reqids: tuple[int, ...]) -> Policy:
    """A pair's outbound policy."""
    key = Key(number(pair.mark_out), int(pair.mark_out.split("/")[1], 16))
    if is_xfrm(pair.device):
        key = Key(if_id=number(pair.mark_out))
    port = int(pair.peer_port)
    ends = ((pair.me, pair.peer),)
    return Policy("out", pair.mine, pair.theirs, int(pair.protocol), int(pair.my_port), port, reqids, ends, key)


def reqid(daemon: str, pair: Tunnel) -> int:
    """What the kernel has: ESP's, where libreswan counts from a base."""
    return pair.reqid + 1 if daemon == "libreswan" and pair.reqid > 16383 else pair.reqid


def number(mark: str) -> int:
    """A mark without its mask."""
    return int(mark.split("/")[0])
