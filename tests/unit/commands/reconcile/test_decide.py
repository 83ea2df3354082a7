"""Which claims end: tables of what the daemon says, what the kernel has and how old the claim is. Pure."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.kit.settings_text import parse
from updown.commands.reconcile.decide import GRACE, Evidence, decide
from updown.commands.reconcile.report import notes
from updown.concerns.catalogue import derive_again
from updown.daemons.answer import ABSENT, ANSWERED, SILENT, ChildSa, DaemonAnswer
from updown.model.claims import REVIVE, SA, TRAP, Claim, SaInfo
from updown.model.ipsec import (
    Database,
    IpsecIndex,
    Key,
    Policy,
    Sa,
    State,
    has_any_trace,
    has_policy_and_state,
    index,
    selector_side,
)
from updown.model.objects import Address, Link, Route
from updown.model.resources import DeletionRule, Device, PeerRoute, Resource, Sysctl

NOW = 1_700_000_000
OLD = NOW - GRACE
WEST, EAST, NEW_WEST, NEW_EAST = "198.51.100.1", "198.51.100.2", "198.51.100.11", "198.51.100.12"
LINK = Link("vti5", "vti", local=WEST, remote=EAST, ikey=5, okey=5)
ABOUT = SaInfo("libreswan", WEST, EAST, "10.1.0.0/24", "10.2.0.0/24", 16388, 0x1000, 0x1001)
POLICY = Policy("out", "10.1.0.0/24", "10.2.0.0/24", reqids=(16389,), key=Key(5, 0xFFFFFFFF))
TRAP_POLICY = POLICY._replace(reqids=(0,))  # 4.10's own, with an open template
STATE = State(EAST, WEST, 0x2000, 16389, Sa(50, 1, 4))
CHILD = ChildSa("libreswan", "t", WEST, EAST, 0x2000, 0x2001)


def database(policies: tuple[Policy, ...], states: tuple[State, ...]) -> IpsecIndex:
    return index(Database(policies, states))


PERMANENT = '["t"]'  # what tells a tunnel from others: of an instance its reqid as well
INSTANCE = '["t", 16388]'


def claim(kind: str = SA, link: Link | None = LINK, **more: Any) -> Claim:
    sa = ABOUT._replace(**{name: more.pop(name) for name in ABOUT._fields if name in more and name != "connection"})
    wants: list[Resource] = [Device(link, False, True)] if link else []
    wants.append(Route(sa.peer_client.split(" ")[0], "vti5"))
    made = Claim("k", kind, "t", PERMANENT, "g", "vti5", DeletionRule(False, True), True, OLD, tuple(wants), sa, 1)
    return made._replace(**more)


def facts(said: DaemonAnswer | None = None, *records: Policy | State, daemon: str = "libreswan") -> Evidence:
    policies = tuple(record for record in records if isinstance(record, Policy))
    states = tuple(record for record in records if isinstance(record, State))
    return Evidence({daemon: said or DaemonAnswer(ABSENT)}, Database(policies, states))


def ends(one: Claim, what: Evidence, before_start: bool = False) -> str:
    """Why it ends; empty where it lives."""
    found = decide([one], what, NOW, before_start).ended
    assert len(found) <= 1
    return found[0].reason if found else ""


ANSWER = DaemonAnswer(ANSWERED, since=1)
UP = ANSWER._replace(children=(CHILD,))
HELD = ANSWER._replace(held=("t",))
UNREAD = ANSWER._replace(unread=("t", "u"))
MUTE = DaemonAnswer(SILENT, "no answer", since=1)

TABLE = [
    # the daemon answers: its word alone counts
    (SA, UP, (), ""),
    (SA, UP, (POLICY, STATE), ""),
    (SA, ANSWER, (), "pluto has no child SA of it"),
    (SA, ANSWER, (POLICY, STATE), "pluto has no child SA of it"),  # a dead daemon's leftovers look alike
    (SA, HELD, (POLICY, STATE), ""),  # its `down` got lost: it waits
    (TRAP, HELD, (), ""),
    (TRAP, ANSWER, (TRAP_POLICY,), "pluto does not keep the way open for it"),
    (TRAP, UP, (), ""),
    (REVIVE, HELD, (), ""),
    (REVIVE, UP, (), ""),
    (REVIVE, ANSWER, (TRAP_POLICY,), "pluto does not keep the way open for it"),
    # what it says of a child cannot be read: of that connection's SAs it is silent, and of nothing else
    (SA, UNREAD, (POLICY,), ""),
    (SA, UNREAD._replace(unread=("u",)), (POLICY, STATE), "pluto has no child SA of it"),
    (SA, UNREAD, (), "what pluto says of it cannot be read, but the kernel has neither IPsec policy nor state of it"),
    (TRAP, UNREAD, (TRAP_POLICY,), "pluto does not keep the way open for it"),
    # it does not run: the kernel's word
    (SA, None, (POLICY, STATE), ""),
    (SA, None, (POLICY,), "pluto is not running, and the kernel has no IPsec policy and state of it"),
    (SA, None, (STATE,), "pluto is not running, and the kernel has no IPsec policy and state of it"),
    (SA, None, (TRAP_POLICY,), "pluto is not running, and the kernel has no IPsec policy and state of it"),
    (SA, None, (), "pluto is not running, and the kernel has no IPsec policy and state of it"),
    (TRAP, None, (TRAP_POLICY,), ""),
    (TRAP, None, (), "pluto is not running, and the kernel has no IPsec policy of it"),
    (REVIVE, None, (POLICY,), ""),
    (REVIVE, None, (), "pluto is not running, and the kernel has no IPsec policy of it"),
    # it runs and is silent: only where the kernel has nothing at all
    (SA, MUTE, (POLICY, STATE), ""),
    (SA, MUTE, (POLICY,), ""),
    (SA, MUTE, (STATE,), ""),
    (SA, MUTE, (), "pluto is silent, but the kernel has neither IPsec policy nor state of it"),
    (TRAP, MUTE, (TRAP_POLICY,), ""),
    (TRAP, MUTE, (), "pluto is silent, but the kernel has neither IPsec policy nor state of it"),
]


@pytest.mark.parametrize(("kind", "said", "records", "reason"), TABLE)
def test_what_ends_and_why(kind: str, said: DaemonAnswer | None, records: tuple[Any, ...], reason: str) -> None:
    assert ends(claim(kind), facts(said, *records)) == reason


AWAY, ELSEWHERE = "198.51.100.7", "198.51.100.8"


def moved_to(*claims: Claim, said: DaemonAnswer) -> dict[str, str]:
    """By key, our end of each claim that moved."""
    return {claim.key: claim.sa.me for claim in decide(claims, facts(said), NOW).moved}


@pytest.mark.parametrize("kind", [TRAP, REVIVE])
def test_who_waits_is_where_its_daemon_has_it(kind: str) -> None:
    assert moved_to(claim(kind), said=HELD._replace(ends={"t": AWAY})) == {"k": AWAY}
    assert moved_to(claim(kind), said=HELD._replace(ends={"t": WEST})) == {}
    assert moved_to(claim(kind), said=HELD) == {}


def test_who_is_up_has_the_device_and_not_who_waits_on_it() -> None:
    """A VTI has one local end."""
    up = claim(key="up", connection="u", tunnel=json.dumps(["u"]))
    child = CHILD._replace(connection="u", me=ELSEWHERE)
    said = HELD._replace(held=("t", "u"), children=(child,), ends={"t": AWAY})
    assert moved_to(claim(TRAP), up, said=said) == {"k": ELSEWHERE, "up": ELSEWHERE}


def test_of_a_template_s_instances_no_one_end_is_told() -> None:
    instance = claim(TRAP, tunnel=json.dumps(["t", 16388]))
    assert moved_to(instance, said=HELD._replace(ends={"t": AWAY})) == {}


@pytest.mark.parametrize(("kind", "said", "records", "reason"), TABLE)
def test_a_young_claim_is_left_alone(kind: str, said: DaemonAnswer | None, records: tuple[Any, ...], reason: str) -> None:
    young = claim(kind, since=NOW - GRACE + 1)
    assert ends(young, facts(said, *records)) == ""
    absent = said is None
    assert ends(young, facts(said, *records), before_start=True) == (reason if absent else "")
    if said and said.state == ANSWERED:  # made before this daemon was started: no event of it is under way
        assert ends(young, facts(said._replace(since=NOW - 1), *records)) == reason


@pytest.mark.parametrize("kind", [SA, TRAP, REVIVE])
@pytest.mark.parametrize("said", [None, MUTE])
def test_without_the_kernel_s_word_nothing_is_guessed(kind: str, said: DaemonAnswer | None) -> None:
    assert decide([claim(kind)], Evidence({"libreswan": said or DaemonAnswer(ABSENT)}, None), NOW, True).ended == ()


def test_a_daemon_s_word_needs_no_kernel() -> None:
    assert decide([claim()], Evidence({"libreswan": UP}, None), NOW).ended == ()
    assert len(decide([claim()], Evidence({"libreswan": ANSWER}, None), NOW).ended) == 1


def test_one_daemon_says_nothing_of_the_other_s_claims() -> None:
    both = Evidence({"libreswan": ANSWER, "strongswan": MUTE}, Database((POLICY,), (STATE,)))
    other = claim(key="o", daemon="strongswan", reqid=16389)
    assert [end.claim.key for end in decide([claim(), other], both, NOW).ended] == ["k"]


# libreswan: which child is whose


@pytest.mark.parametrize(
    ("child", "states", "lives"),
    [
        (CHILD, (STATE,), True),
        (CHILD._replace(connection="u"), (STATE,), False),
        (CHILD, (), True),  # the kernel does not know the SPI: the name has to do
        (CHILD, (STATE._replace(reqid=16393),), False),  # another instance's
        (CHILD, (STATE._replace(reqid=16390),), True),  # IPCOMP's
        (CHILD._replace(spi_in=0x1000), (STATE._replace(spi=0x1000, reqid=16393),), True),  # its own SPI
    ],
)
def test_pluto_s_instances_are_told_apart_by_the_reqid_behind_their_spi(
    child: ChildSa, states: tuple[State, ...], lives: bool
) -> None:
    assert (ends(claim(tunnel=INSTANCE), facts(ANSWER._replace(children=(child,)), *states)) == "") is lives


@pytest.mark.parametrize(
    ("peer", "any_remote", "lives"), [(EAST, True, True), (NEW_EAST, True, False), (NEW_EAST, False, True)]
)
def test_with_a_configured_reqid_the_peer_tells_instances_apart(peer: str, any_remote: bool, lives: bool) -> None:
    one = claim(reqid=77, deletion=DeletionRule(any_remote, True), tunnel=INSTANCE)
    said = ANSWER._replace(children=(CHILD._replace(peer=peer),))
    assert (ends(one, facts(said, STATE._replace(reqid=77))) == "") is lives


def test_one_of_three_clients_left() -> None:
    claims = [claim(key=str(number), reqid=16388 + 4 * number, spi_in=number, tunnel=f'["t", {number}]') for number in range(3)]
    children = [CHILD._replace(spi_in=0x2000 + number) for number in (0, 2)]
    states = [STATE._replace(spi=0x2000 + number, reqid=16389 + 4 * number) for number in range(3)]
    found = decide(claims, facts(ANSWER._replace(children=tuple(children)), *states), NOW)
    assert [end.claim.key for end in found.ended] == ["1"]
    assert found.unclaimed == ()


def test_a_lost_down_of_a_connection_that_is_wished_up_leaves_it_waiting() -> None:
    """As the `down` would have: nothing may leave in clear meanwhile. A template's instance is nothing that comes back."""
    (waits,) = decide([claim()], facts(HELD), NOW).to_revive
    assert (waits.kind, waits.resources) == (REVIVE, claim().resources)
    assert decide([claim(tunnel=INSTANCE)], facts(HELD), NOW).to_revive == ()


def test_an_instance_whose_reqid_cannot_be_known_lives_and_follows_nobody() -> None:
    """The XFRM database could not be read: another client's child is no reason to end it, nor to send it there."""
    other = ANSWER._replace(children=(CHILD._replace(peer=NEW_EAST, spi_in=0x9999),))
    found = decide([claim(tunnel=INSTANCE)], Evidence({"libreswan": other}, None), NOW)
    assert (found.ended, found.moved) == ((), ())


def test_an_answer_of_charon_that_left_something_out_ends_nothing_the_kernel_has() -> None:
    one = charon_claim("a", 1)
    partly = DaemonAnswer(ANSWERED, since=1, whole=False)
    assert ends(one, facts(partly, POLICY, STATE, daemon="strongswan")) == ""
    assert ends(one, facts(partly._replace(whole=True), POLICY, STATE, daemon="strongswan"))


def test_several_selectors_of_one_child_live_and_end_together() -> None:
    pair = [claim(key="a"), claim(key="b", peer_client="10.3.0.0/24")]
    assert decide(pair, facts(UP, STATE), NOW).ended == ()
    assert len(decide(pair, facts(ANSWER, POLICY, STATE), NOW).ended) == 2


# strongSwan: names, keys and unique ids


class Told(SaInfo):
    """About, with what strongSwan's claims add to it."""

    unique_id = 0


def charon_claim(key: str, unique: int, **more: Any) -> Claim:
    made = claim(key=key, daemon="strongswan", **more)
    sa = Told(*made.sa)
    sa.unique_id = unique
    return made._replace(sa=sa, order=int(more.get("order", len(key) and ord(key[0]))))


def charon(*unique: int, **more: Any) -> Evidence:
    children = [
        ChildSa("strongswan", "t", WEST, EAST, unique_id=number, mark_in=5, mark_out=5)._replace(**more) for number in unique
    ]
    return facts(DaemonAnswer(ANSWERED, since=1, children=tuple(children)), daemon="strongswan")


@pytest.mark.parametrize(
    ("claimed", "reported", "ended"),
    [
        ([1], [1], ""),
        ([1], [2], ""),  # the IKE SA was rekeyed: nobody tells
        ([1], [], "a"),
        ([1, 2], [1, 2], ""),  # a duplicate IKE SA
        ([1, 2], [2], "a"),
        ([1, 2], [1], "b"),
        ([1, 2], [3], "a"),  # one of them is left, rekeyed: the oldest goes
        ([1, 2, 3], [3, 9], "a"),
        ([1, 2], [8, 9], ""),
        ([1], [1, 2], ""),
        ([0], [4], ""),
    ],
)
def test_charon_s_ids_may_change_but_not_their_number(claimed: list[int], reported: list[int], ended: str) -> None:
    claims = [charon_claim("abc"[at], unique) for at, unique in enumerate(claimed)]
    found = decide(claims, charon(*reported), NOW)
    assert "".join(end.claim.key for end in found.ended) == ended
    assert all(end.reason == "charon has no child SA of it" for end in found.ended)


def test_charon_s_clients_are_told_apart_by_their_selectors_once_their_ids_changed() -> None:
    """Of two clients of one child the newer vanished without a call, and the older's IKE SA was rekeyed."""
    claims = [charon_claim("a", 1, peer_client="10.0.1.1/32"), charon_claim("b", 2, peer_client="10.0.1.2/32")]
    found = decide(claims, charon(5, remote_ts=("10.0.1.1/32",)), NOW)
    assert [end.claim.key for end in found.ended] == ["b"]


def test_charon_s_pairs_of_selectors_are_one_child() -> None:
    pair = [charon_claim("a", 1), charon_claim("b", 1, peer_client="10.3.0.0/24")]
    assert decide(pair, charon(1), NOW).ended == ()
    assert decide(pair, charon(5), NOW).ended == ()
    assert len(decide(pair, charon(), NOW).ended) == 2


@pytest.mark.parametrize("unique", [1, 5], ids=["as it came up", "its IKE SA rekeyed"])
def test_per_cpu_sas_are_the_one_tunnel_that_the_hook_was_called_for(unique: int) -> None:
    """charon 6.0.2 on calls the hook for the SA without a CPU alone (updown_listener.c); vici lists them all (vici_query.c)."""
    several = charon(unique, unique, unique, remote_ts=("10.2.0.0/24",), wants_device=True)
    found = decide([charon_claim("a", 1)], several, NOW)
    assert (found.ended, found.moved, found.unclaimed, found.uncounted) == ((), (), (), ())
    assert decide([], several, NOW).uncounted, "they count where a claim is missing"


@pytest.mark.parametrize("more", [{"mark_in": 6}, {"mark_out": 0}, {"connection": "u"}])
def test_another_key_or_name_is_another_child(more: dict[str, Any]) -> None:
    assert len(decide([charon_claim("a", 1)], charon(1, **more), NOW).ended) == 1


def test_an_xfrm_interface_s_child_is_known_by_its_if_id() -> None:
    link = Link("ipsec9", "xfrm", if_id=9)
    assert decide([charon_claim("a", 1, link=link)], charon(1, if_id_out=9, mark_in=0), NOW).ended == ()
    assert len(decide([charon_claim("a", 1, link=link)], charon(1, if_id_out=8), NOW).ended) == 1


# Ends that moved

TOLD: dict[str, Any] = {
    "interface": "vti5",
    "mark_in": 5,
    "mark_out": 5,
    "routing": True,
    "underlay": "eth0",
    "interface_addresses": ("10.99.0.1/30",),
}


def wants(moved: Claim, settings: str = "") -> list[Resource]:
    """What a claim that moved asks for, without sysctls."""
    found = derive_again(moved, tuple(parse(settings, "f")), lambda _: 0).resources
    return [want for want in found if not isinstance(want, Sysctl)]


@pytest.mark.parametrize("daemon", ["libreswan", "strongswan"])
def test_a_device_follows_its_tunnel_s_ends(daemon: str) -> None:
    one = charon_claim("a", 1, **TOLD) if daemon == "strongswan" else claim(**TOLD)
    moved: dict[str, Any] = {"me": NEW_WEST, "peer": NEW_EAST}
    what = charon(1, **moved) if daemon == "strongswan" else facts(ANSWER._replace(children=(CHILD._replace(**moved),)))
    (found,) = decide([one], what, NOW).moved
    assert found.sa[:3] == (daemon, NEW_WEST, NEW_EAST)
    assert wants(found, "[defaults]\nroute = 198.51.100.0/24\nforwarding = keep\n") == [
        Device(LINK._replace(local=NEW_WEST, remote=NEW_EAST), False, True),
        Address("vti5", "10.99.0.1/30"),
        PeerRoute(NEW_EAST, "vti5", "eth0", NEW_WEST),
        Route("10.2.0.0/24", "vti5"),
        Route("198.51.100.0/24", "vti5"),
    ]
    again = found._replace(sa=one.sa._replace(me=NEW_WEST, peer=NEW_EAST))
    assert decide([again], what, NOW).moved == ()


def test_a_device_for_several_peers_keeps_remote_any() -> None:
    one = claim(deletion=DeletionRule(True, True), **TOLD)
    (found,) = decide([one], facts(ANSWER._replace(children=(CHILD._replace(me=NEW_WEST),))), NOW).moved
    assert wants(found)[0] == Device(LINK._replace(local=NEW_WEST, remote="0.0.0.0"), False, True)


def test_a_move_between_families_changes_the_device_s_kind() -> None:
    what = facts(ANSWER._replace(children=(CHILD._replace(me="2001:db8::1", peer="2001:db8::2"),)))
    (found,) = decide([claim(**TOLD)], what, NOW).moved
    device = wants(found)[0]
    assert isinstance(device, Device)
    assert device.link == Link("vti5", "vti6", local="2001:db8::1", remote="2001:db8::2", ikey=5, okey=5)


@pytest.mark.parametrize("me", ["", WEST])
def test_ends_that_are_not_told_or_the_same_move_nothing(me: str) -> None:
    assert decide([claim()], facts(ANSWER._replace(children=(CHILD._replace(me=me),))), NOW).moved == ()


def test_the_daemon_s_own_device_is_left_to_it() -> None:
    one = claim()
    one = one._replace(resources=(Device(Link("ipsec1", "xfrm", if_id=1), True, False, by_daemon=True),))
    assert decide([one], facts(ANSWER._replace(children=(CHILD._replace(me=NEW_WEST),))), NOW).moved == ()


# Tunnels that no claim counts


@pytest.mark.parametrize(("ours", "count"), [(True, 1), (False, 0)])
def test_a_tunnel_without_a_claim_is_told_where_it_should_have_one(ours: bool, count: int) -> None:
    what = facts(
        ANSWER._replace(children=(CHILD._replace(connection="u", wants_device=ours), CHILD._replace(wants_device=True)))
    )
    assert len(decide([claim()], what, NOW).unclaimed) == count


def test_a_rekeyed_child_s_other_half_is_no_second_tunnel() -> None:
    what = facts(ANSWER._replace(children=(CHILD._replace(wants_device=True), CHILD._replace(spi_in=7, wants_device=True))))
    assert decide([claim()], what, NOW).unclaimed == ()


# The kernel's word


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        ({"direction": "in"}, False),
        ({"source": "10.1.0.0/25"}, False),
        ({"destination": "10.3.0.0/24"}, False),
        ({"protocol": 6}, False),
        ({"key": Key(6, 0xFFFFFFFF)}, False),
        ({"key": Key()}, False),
        ({"key": Key(5, 0xFF)}, True),
    ],
)
def test_a_claim_s_policy_is_known_by_selectors_and_mark(changes: dict[str, Any], fits: bool) -> None:
    assert has_policy_and_state(claim(), database((POLICY._replace(**changes),), (STATE,))) is fits


@pytest.mark.parametrize(
    ("mine", "theirs", "changes", "fits"),
    [
        ("10.1.0.0/24", "10.2.0.0/24 6/443", {"protocol": 6, "destination_port": 443}, True),
        ("10.1.0.0/24 6/0", "10.2.0.0/24 6/443", {"protocol": 6, "destination_port": 80}, False),
        ("10.1.0.0/24", "10.2.0.0/24 6/443", {}, False),
        ("10.1.0.0/24 17/4500", "10.2.0.0/24 17/0", {"protocol": 17, "source_port": 4500}, True),
        ("10.1.0.0/24 6/1000:2000", "10.2.0.0/24 6/0", {"protocol": 6, "source_port": 1024}, True),
        ("10.1.0.0/24 1/8", "10.2.0.0/24 1/0", {"protocol": 1, "source_port": 3}, True),
    ],
)
def test_protocol_and_ports_count(mine: str, theirs: str, changes: dict[str, Any], fits: bool) -> None:
    one = claim(my_client=mine, peer_client=theirs)
    assert has_policy_and_state(one, database((POLICY._replace(**changes),), (STATE,))) is fits


def test_a_range_fits_each_prefix_of_it() -> None:
    one = claim(peer_client="10.2.0.0-10.2.2.255")
    assert has_policy_and_state(one, database((POLICY._replace(destination="10.2.0.0/23"),), (STATE,)))


def test_an_if_id_takes_the_mark_s_place() -> None:
    one = claim(link=Link("ipsec9", "xfrm", if_id=9))
    assert has_policy_and_state(one, database((POLICY._replace(key=Key(if_id=9)),), (STATE,)))
    assert not has_policy_and_state(one, database((POLICY._replace(key=Key(5, 0xFFFFFFFF, 8)),), (STATE,)))


def test_a_state_counts_by_the_policy_s_reqid_which_moves_with_charon() -> None:
    one = charon_claim("a", 1, reqid=3)
    assert has_policy_and_state(one, database((POLICY._replace(reqids=(4,)),), (STATE._replace(reqid=4),)))
    assert not has_policy_and_state(one, database((POLICY._replace(reqids=(4,)),), (STATE._replace(reqid=3),)))


def test_a_trace_is_any_policy_spi_or_reqid() -> None:
    assert has_any_trace(claim(), database((), (STATE._replace(reqid=9, spi=0x1001),)))
    assert has_any_trace(claim(), database((), (STATE,)))
    assert not has_any_trace(claim(), database((POLICY._replace(direction="in"),), (STATE._replace(reqid=9),)))


@pytest.mark.parametrize("text", ["", "nonsense", "10.1.0.0/99", "10.1.0.0/24 x/y"])
def test_what_is_no_selector_fits_nothing(text: str) -> None:
    assert selector_side(text) is None


def test_who_could_not_be_asked_is_told() -> None:
    both = Evidence({"libreswan": MUTE, "strongswan": DaemonAnswer(SILENT, "no vici")}, Database())
    remarks, warnings = notes([claim()], both)
    assert warnings == (
        "pluto runs but says nothing (no answer): only claims that the kernel knows nothing of end; run it again later",
    )
    assert remarks == ("charon runs but says nothing (no vici); no claim is of it",)
    warning = "what pluto says of t, u cannot be read; please report this libreswan: of its claims only those end of which the"
    assert notes([], facts(UNREAD)) == ((), (f"{warning} kernel knows nothing",))
    assert notes([claim()], facts(None))[0] == ("pluto is not running here: the kernel's IPsec policies and states decide",)
    assert notes([], facts(None)) == ((), ())
