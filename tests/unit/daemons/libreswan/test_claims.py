"""Claims, design section 6: what each verb of each libreswan release does to them, as tables of calls."""

import pytest

from tests.kit import field_cases
from tests.kit.machine import Environment, Machine, Tunnel, call, establish
from updown.model.claims import REVIVE, SA, TRAP

V4 = Tunnel(release=4)
V5 = Tunnel()
UP, ROUTE, KEEP = ("UP",), ("ROUTE",), ("KEEP",)
ROAMS = ("UP", "MOBIKE")
FAILURE = ("failureDROP",)
HELD = frozenset[tuple[str, str]]
SA_OF_T: HELD = frozenset({("t", "sa")})
TRAP_OF_T: HELD = frozenset({("t", "trap")})
REVIVE_OF_T: HELD = frozenset({("t", "revive")})
NOTHING: HELD = frozenset()


def trap(tunnel: Tunnel) -> list[Environment]:
    """`ipsec route`."""
    return [call(tunnel, "prepare", child=False, wishes=ROUTE), call(tunnel, "route", child=False, wishes=ROUTE)]


PAIR = V5._replace(theirs="10.3.0.0/24")
WAITING = [*establish(V5), *establish(PAIR), call(V5, "down", wishes=UP), call(PAIR, "down", wishes=UP)]


SEQUENCES: dict[str, tuple[list[Environment], HELD]] = {
    "5.x: prepare, route, up make one sa": (establish(V5), SA_OF_T),
    "4.10: up, prepare, route make one sa": (establish(V4), SA_OF_T),
    "up alone makes an sa": ([call(V5, "up")], SA_OF_T),
    "route alone makes an sa": ([call(V5, "route")], SA_OF_T),
    "a joined call makes an sa": ([call(V5, "prepare-route-up")], SA_OF_T),
    "ipsec route makes a trap": (trap(V5), TRAP_OF_T),
    "4.10 ipsec route makes a trap": (trap(V4), TRAP_OF_T),
    "a trap and its child are two claims": ([*trap(V5), call(V5, "prepare"), call(V5, "up")], SA_OF_T | TRAP_OF_T),
    "down without a wish ends the sa": ([*establish(V5), call(V5, "down")], NOTHING),
    "4.10 down without a wish ends the sa": ([*establish(V4), call(V4, "down")], NOTHING),
    "down with UP makes it wait": ([*establish(V5), call(V5, "down", wishes=UP)], REVIVE_OF_T),
    "down with KEEP makes it wait": ([*establish(V5), call(V5, "down", wishes=KEEP)], REVIVE_OF_T),
    "down with ROUTE makes it wait": ([*establish(V5), call(V5, "down", wishes=ROUTE)], REVIVE_OF_T),
    "down with a failure shunt makes it wait": ([*establish(V5), call(V5, "down", wishes=FAILURE)], REVIVE_OF_T),
    "4.10 down with UP makes it wait": ([*establish(V4), call(V4, "down", wishes=UP)], REVIVE_OF_T),
    "up after that turns revive into sa": (
        [*establish(V5), call(V5, "down", wishes=UP), call(V5, "prepare", wishes=UP), call(V5, "up", wishes=UP)],
        SA_OF_T,
    ),
    "a second down without a wish ends what waits": ([*establish(V5), call(V5, "down", wishes=UP), call(V5, "down")], NOTHING),
    "unroute without a child ends what waits": (
        [*establish(V5), call(V5, "down", wishes=UP), call(V5, "unroute", child=False)],
        NOTHING,
    ),
    "5.x: down without a wish ends the trap too": ([*trap(V5), call(V5, "up"), call(V5, "down")], NOTHING),
    "4.10: down leaves the trap": ([*trap(V4), call(V4, "up"), call(V4, "down")], TRAP_OF_T),
    "4.10: unroute ends the trap": ([*trap(V4), call(V4, "up"), call(V4, "down"), call(V4, "unroute", child=False)], NOTHING),
    "5.x: ondemand goes back to waiting": (
        [*trap(V5), call(V5, "up", wishes=ROUTE), call(V5, "down", wishes=ROUTE)],
        REVIVE_OF_T | TRAP_OF_T,
    ),
    "unroute ends trap and revive alike": (
        [*trap(V5), call(V5, "up"), call(V5, "down", wishes=ROUTE), call(V5, "unroute", child=False)],
        NOTHING,
    ),
    "down without a claim makes none": ([call(V5, "down")], NOTHING),
    "down with UP and without a claim makes none": ([call(V5, "down", wishes=UP)], NOTHING),
    "down with UP on a trap alone changes nothing": ([*trap(V5), call(V5, "down", wishes=UP)], TRAP_OF_T),
    "5.x: the down of a child that came too late leaves the trap": ([*trap(V5), call(V5, "down", wishes=ROUTE)], TRAP_OF_T),
    "unroute without a claim makes none": ([call(V5, "unroute")], NOTHING),
    "unroute without down ends all": ([*establish(V5), call(V5, "unroute")], NOTHING),
    "down twice is down once": ([*establish(V5), call(V5, "down"), call(V5, "down")], NOTHING),
    "5.x: an aborted install leaves nothing": ([*establish(V5), call(V5, "down"), call(V5, "down")], NOTHING),
    "a refused negotiation with UP ends all": ([*establish(V5), call(V5, "unroute", wishes=UP, sa_type="unknown?")], NOTHING),
    "5.x: unroute with UP and a child ends all": (
        [*establish(V5), call(V5, "down", wishes=UP), call(V5, "unroute", wishes=UP)],
        NOTHING,
    ),
    "MOBIKE: unroute ends nothing": (
        [*establish(V5), call(V5, "down", wishes=UP), call(V5, "unroute", mobike="yes")],
        REVIVE_OF_T,
    ),
    "4.10: unroute with UP and a child ends all": ([*establish(V4), call(V4, "unroute", wishes=UP)], NOTHING),
    "a move whose tunnel is lost": (
        [
            *establish(V5),
            *(call(V5, verb, wishes=UP, mobike="yes") for verb in ("down", "unroute", "down")),
            call(V5, "route", child=False, wishes=UP),
        ],
        REVIVE_OF_T | TRAP_OF_T,
    ),
    "a peer whose name is resolved anew while it waits": (
        [*establish(V5), call(V5, "down", wishes=UP), call(V5, "unroute", child=False, wishes=UP), *establish(V5, wishes=UP)],
        SA_OF_T,
    ),
    "an install that failed, and its delete": (
        [
            call(V5, "prepare", wishes=UP),
            call(V5, "down", wishes=UP),
            call(V5, "down", wishes=UP),
            call(V5, "unroute", child=False),
        ],
        NOTHING,
    ),
    "of two pairs that wait one comes back, and goes for good": (
        [*WAITING, call(V5, "prepare"), call(V5, "up"), call(V5, "down"), call(V5, "unroute")],
        NOTHING,
    ),
    "of two pairs that wait one comes back, and waits again": (
        [*WAITING, call(V5, "prepare", wishes=UP), call(V5, "up", wishes=UP), call(V5, "down", wishes=UP)],
        REVIVE_OF_T,
    ),
    "of two pairs one waits, and its trap stays": ([*WAITING, *trap(PAIR), call(V5, "up"), call(V5, "down")], TRAP_OF_T),
    "4.10: up alone after a down": ([*establish(V4), call(V4, "down"), call(V4, "up")], SA_OF_T),
    "the peer moved before the down": ([*establish(V5), call(V5._replace(peer="198.51.100.77"), "down")], NOTHING),
    "a configured reqid and a peer that moved": (
        [*establish(V5._replace(reqid=100)), call(V5._replace(reqid=100, peer="198.51.100.77"), "down")],
        NOTHING,
    ),
    "selectors that follow a moved address": (
        [
            *establish(V5._replace(theirs="198.51.100.2/32", routing="no")),
            call(V5._replace(peer="198.51.100.77", theirs="198.51.100.77/32", routing="no"), "down"),
        ],
        NOTHING,
    ),
}


@pytest.mark.parametrize("case", SEQUENCES)
def test_a_sequence_of_calls_leaves_these_claims(machine: Machine, case: str) -> None:
    calls, wanted = SEQUENCES[case]
    machine.send_all(calls)
    assert machine.kinds() == set(wanted)


@pytest.mark.parametrize("case", SEQUENCES)
def test_each_call_twice_leaves_the_same_claims(machine: Machine, case: str) -> None:
    calls, wanted = SEQUENCES[case]
    machine.send_all([twice for one in calls for twice in (one, one)])
    assert machine.kinds() == set(wanted)


def suspension(machine: Machine, mobike: str) -> list[Environment]:
    """What is called for a tunnel whose address went, and with it the address, where no variable tells of the move."""
    eth0 = machine.kernel.named("eth0").ifindex
    machine.kernel.addressed[eth0] = [one for one in machine.kernel.addressed[eth0] if mobike or not one.startswith(V5.me)]
    return [call(V5, "down", wishes=ROAMS), call(V5, "unroute", wishes=ROAMS, mobike=mobike)]


@pytest.mark.parametrize("mobike", ["", "yes"], ids=["", "with a source address"])
def test_a_mobike_move_renews_the_claim_with_the_new_address(machine: Machine, mobike: str) -> None:
    machine.kernel.physical("wlan0", "192.0.2.7/24")
    moved = V5._replace(me="192.0.2.7")
    machine.send_all([*establish(V5), *suspension(machine, mobike)])
    assert machine.kernel.named("vti5").local == V5.me
    machine.send_all([call(moved, "route", wishes=ROAMS), call(moved, "up", wishes=ROAMS)])
    assert machine.kinds() == {("t", SA)}
    assert machine.kernel.named("vti5").local == "192.0.2.7"
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


@pytest.mark.parametrize("mobike", ["", "yes"], ids=["", "with a source address"])
def test_a_joined_call_that_is_late_does_not_take_a_move_back(machine: Machine, mobike: str) -> None:
    """It was called for the old address, and has its turn after the move; or no `up` came, since the tunnel was lost."""
    machine.kernel.physical("wlan0", "192.0.2.7/24")
    moved, late = V5._replace(me="192.0.2.7"), call(V5, "prepare-route-up")
    suspend = suspension(machine, mobike)
    machine.send_all([*suspend, late])
    assert machine.kinds() == set()
    machine.send_all([*establish(V5, spi=0x2000), *suspend, call(moved, "route", wishes=UP), call(moved, "up", wishes=UP)])
    assert machine.send(late).operations == ()
    assert machine.kernel.named("vti5").local == "192.0.2.7"
    machine.send_all([*suspend, late])
    assert machine.kinds() == {("t", REVIVE)}


@pytest.mark.parametrize("policy", ["UP", "UP+MOBIKE", "UP+KEEP+MOBIKE"])
def test_an_unroute_at_shutdown_ends_the_second_connection_of_an_ike_sa(machine: Machine, policy: str) -> None:
    """libreswan 5.2: with UP in the policy, a child, and no PLUTO_MOBIKE_EVENT; the address is where it was."""
    before = machine.kernel.picture()
    for environment in field_cases.calls("18-unroute-at-shutdown-5.2"):
        machine.send({**environment, "PLUTO_CONN_POLICY": environment["PLUTO_CONN_POLICY"].replace("UP", policy)})
    assert machine.kinds() == NOTHING
    assert machine.kernel.picture() == before


def test_each_pair_of_selectors_is_a_claim_of_its_own(machine: Machine) -> None:
    machine.send_all([call(V5, "up"), call(PAIR, "up")])
    assert {claim.sa.peer_client for claim in machine.claims()} == {"10.2.0.0/24", "10.3.0.0/24"}
    machine.send(call(PAIR, "down"))
    assert {claim.sa.peer_client for claim in machine.claims()} == {"10.2.0.0/24"}
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


@pytest.mark.parametrize("grouped", [True, False], ids=["5.4", "5.0"])
def test_pairs_may_come_verb_by_verb_or_one_after_the_other(machine: Machine, grouped: bool) -> None:
    one, other = establish(V5), establish(PAIR)
    machine.send_all([call for both in zip(one, other) for call in both] if grouped else [*one, *other])
    assert {claim.sa.peer_client for claim in machine.claims()} == {"10.2.0.0/24", "10.3.0.0/24"}
    assert machine.routes() == {("10.2.0.0/24", "vti5"), ("10.3.0.0/24", "vti5")}


def test_ports_and_protocols_tell_claims_apart(machine: Machine) -> None:
    web = {"PLUTO_PEER_PROTOCOL": "6", "PLUTO_PEER_PORT": "443"}
    machine.send_all([call(V5, "up"), {**call(V5, "up"), **web}])
    assert len(machine.claims()) == 2
    machine.send({**call(V5, "unroute"), **web})
    assert [claim.sa.peer_client for claim in machine.claims()] == ["10.2.0.0/24"]


SIBLING = Tunnel("u", peer=V5.peer, mine="10.1.1.0/24", reqid=16392)


@pytest.mark.parametrize("last", ["t", "u"], ids=["under the first's name", "under the second's name"])
def test_unroute_of_the_last_sibling_ends_the_claims_of_all(machine: Machine, last: str) -> None:
    """Connections with one remote selector, marks and local address share one `unroute`."""
    machine.send_all([*establish(V5), call(SIBLING, "up")])
    machine.send(call(V5 if last == "t" else SIBLING, "unroute", child=False))
    assert machine.kinds() == set()
    assert machine.devices() == set()


STRANGERS = {
    "another remote selector": SIBLING._replace(theirs="10.3.0.0/24"),
    "another mark": SIBLING._replace(mark_in="6/0xffffffff", mark_out="6/0xffffffff", device="vti6", peer="198.51.100.3"),
    "another local address": SIBLING._replace(me="198.51.100.9", device="vti6"),
}


@pytest.mark.parametrize("case", STRANGERS)
def test_unroute_leaves_claims_that_are_no_siblings(machine: Machine, case: str) -> None:
    stranger = STRANGERS[case]
    machine.kernel.add_address(machine.kernel.named("eth0").ifindex, "198.51.100.9/24")
    machine.send_all([*establish(V5), call(stranger, "up")])
    machine.send(call(V5, "unroute", child=False))
    assert machine.kinds() == {("u", SA)}
    assert stranger.device in machine.devices()


ROADS = [
    Tunnel("road", peer=f"198.51.100.{n}", theirs=f"10.{n}.0.0/24", kind="CK_INSTANCE", reqid=16388 + 4 * n)
    for n in (11, 12, 13)
]


def test_instances_of_a_template_are_told_apart_by_their_reqid(machine: Machine) -> None:
    for road in ROADS:
        machine.send_all(establish(road))
    machine.send_all([call(ROADS[1], "down"), call(ROADS[1], "unroute")])
    assert {claim.sa.peer for claim in machine.claims()} == {ROADS[0].peer, ROADS[2].peer}
    assert machine.routes() == {("10.11.0.0/24", "vti5"), ("10.13.0.0/24", "vti5")}


def test_instances_with_a_configured_reqid_are_told_apart_by_peer_and_selectors(machine: Machine) -> None:
    roads = [road._replace(reqid=100) for road in ROADS]
    for road in roads:
        machine.send_all(establish(road))
    machine.send_all([call(roads[0], "down"), call(roads[0], "unroute")])
    assert {claim.sa.peer for claim in machine.claims()} == {ROADS[1].peer, ROADS[2].peer}


TWINS = [
    Tunnel("road", peer=f"198.51.100.{n}", kind="CK_INSTANCE", reqid=100, device="vti11", mark_in="11/0xff", mark_out="11/0xff")
    for n in (11, 12)
]
AWAY = TWINS[0]._replace(peer="198.51.100.77")
ONE, OTHER = "198.51.100.11", "198.51.100.12"
FIRST, SECOND = establish(TWINS[0], spi=0x1100), establish(TWINS[1], spi=0x1200)
TWIN_CALLS: dict[str, tuple[list[Environment], set[str]]] = {
    "both are up": ([*FIRST, *SECOND], {ONE, OTHER}),
    "the first goes": ([*FIRST, *SECOND, call(TWINS[0], "down", spi=0x1100)], {OTHER}),
    "the second goes": ([*FIRST, *SECOND, call(TWINS[1], "down", spi=0x1200)], {ONE}),
    "the second goes, and is told of twice": ([*FIRST, *SECOND, *[call(TWINS[1], "down", spi=0x1200)] * 2], {ONE}),
    "the first moved, and goes": ([*FIRST, *SECOND, call(AWAY, "down", spi=0x1100)], {OTHER}),
    "alone it moved, was rekeyed, and goes": ([*FIRST, call(AWAY, "down", spi=0x1300)], set()),
    "which of the two moved and was rekeyed?": ([*FIRST, *SECOND, call(AWAY, "down", spi=0x1300)], {ONE, OTHER}),
    "the first moved, and is called up again": ([*FIRST, *SECOND, call(AWAY, "up", spi=0x1100)], {AWAY.peer, OTHER}),
    "the last one's unroute": (
        [*FIRST, *SECOND, call(TWINS[0], "down", spi=0x1100), *(call(TWINS[1], v, spi=0x1200) for v in ("down", "unroute"))],
        set(),
    ),
}


@pytest.mark.parametrize("case", TWIN_CALLS)
def test_instances_with_a_configured_reqid_and_equal_selectors_are_told_apart_by_their_peer(
    machine: Machine, case: str
) -> None:
    calls, wanted = TWIN_CALLS[case]
    machine.settings("[defaults]\ndelete = last\n")
    machine.send_all(calls)
    assert {claim.sa.peer for claim in machine.claims()} == wanted
    assert machine.devices() == ({"vti11"} if wanted else set())
    assert bool(machine.routes()) == bool(wanted)


def test_an_instance_whose_claim_has_a_key_without_its_peer_is_found(machine: Machine) -> None:
    """As ledgers have it that a release before wrote."""
    machine.send_all(FIRST)
    with machine.ledger() as ledger:
        ledger.base.execute("UPDATE claim SET key = replace(key, '\"198.51.100.11\"', '0')")
    machine.send(call(TWINS[0], "down", spi=0x1100))
    assert machine.claims() == []


RENEWALS: dict[str, tuple[Environment, set[tuple[str, str]]]] = {
    "prepare": (call(V5, "prepare"), {("10.2.0.0/24", "vti5")}),
    "route": (call(V5, "route"), {("10.2.0.0/24", "vti5")}),
    "up": (call(V5, "up"), {("10.2.0.0/24", "vti5")}),
    "prepare with other SPIs": (call(V5, "prepare", spi=0x7777), {("10.2.0.0/24", "vti5")}),
    "a second joined call": (call(V5, "prepare-up", spi=0x7777), {("10.2.0.0/24", "vti5")}),
}


@pytest.mark.parametrize("case", RENEWALS)
def test_a_renewal_never_shrinks_a_claim(machine: Machine, case: str) -> None:
    machine.send(call(V5, "up"))
    again, routes = RENEWALS[case]
    report = machine.send(again)
    assert report.operations == ()
    assert machine.routes() == routes
    assert len(machine.claims()) == 1


def test_a_renewal_keeps_the_time_and_the_place_of_the_first_claim(machine: Machine) -> None:
    machine.send(call(V5, "up"))
    before = machine.claims()[0]
    machine.send(call(SIBLING._replace(theirs="10.3.0.0/24"), "up"))
    machine.now += 100
    machine.send(call(V5, "up", spi=0x9999))
    after = machine.claims()[0]
    assert (after.key, after.since, after.order) == (before.key, before.since, before.order)
    assert after.sa.spi_in == 0x9999


ROWS: dict[str, tuple[Tunnel, tuple[str, ...], str, bool, bool]] = {
    "permanent": (V5, (), "", False, True),
    "permanent, delete=never": (V5, (), "[defaults]\ndelete=never\n", False, False),
    "shared": (V5._replace(shared="yes"), (), "", True, False),
    "shared, delete=last": (V5._replace(shared="yes"), (), "[defaults]\ndelete=last\n", True, True),
    "instance": (ROADS[0], (), "", True, False),
    "instance, delete=last": (ROADS[0], (), "[device vti5]\ndelete=last\n", True, True),
    "instance that initiates": (ROADS[0], UP, "", False, True),
    "instance that initiates, template=yes": (ROADS[0], UP, "[defaults]\ntemplate=yes\n", True, False),
    "instance, template=no": (ROADS[0], (), "[connection road]\ntemplate=no\n", False, True),
    "permanent, template=yes": (V5, (), "[defaults]\ntemplate=yes\n", True, False),
    "shared instance that initiates": (ROADS[0]._replace(shared="yes"), UP, "", True, False),
    "4.10 instance that goes away": (ROADS[0]._replace(kind="CK_GOING_AWAY", release=4), (), "", True, False),
}


@pytest.mark.parametrize("case", ROWS)
def test_the_row_of_the_deletion_table_follows_from_connection_and_settings(machine: Machine, case: str) -> None:
    tunnel, wishes, text, any_remote, goes = ROWS[case]
    machine.settings(text)
    machine.send(call(tunnel, "up", wishes=wishes))
    assert machine.kernel.named("vti5").remote == ("0.0.0.0" if any_remote else tunnel.peer)
    machine.send_all([call(tunnel, "down"), call(tunnel, "unroute")])
    assert machine.devices() == (set() if goes else {"vti5"})
    assert machine.routes() == set(), "routes go whatever the device does"


def test_a_backup_that_cannot_be_reached_takes_nothing_from_the_tunnel_that_is_up(machine: Machine) -> None:
    """An attempt that fails calls `unroute`; both have one remote network, mark and device."""
    first = V5._replace(shared="yes")
    backup = first._replace(connection="backup", peer="198.51.100.3", reqid=16400)
    machine.send_all([*establish(first), call(backup, "unroute", child=False, wishes=UP, sa_type="unknown?")])
    assert machine.kinds() == {("t", SA)}
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


def test_a_repeated_down_takes_no_claim_of_another_pair_of_selectors(machine: Machine) -> None:
    """libreswan calls both pairs of a connection by one name and reqid."""
    second = V5._replace(theirs="10.4.0.0/24")
    machine.send_all([*establish(V5), *establish(second), call(V5, "down"), call(V5, "down")])
    assert machine.routes() == {("10.4.0.0/24", "vti5")}
    assert machine.devices() == {"vti5"}


def test_a_down_whose_selector_is_an_end_that_moved_ends_its_claim(machine: Machine) -> None:
    host = V5._replace(mine="198.51.100.1/32")
    there = host._replace(me="192.0.2.7", mine="192.0.2.7/32")
    machine.send_all([*establish(host), call(there, "down")])
    assert machine.kinds() == set()


LATER_WORDS = {
    "4.10's CK_GOING_AWAY": (ROADS[0]._replace(release=4), ROADS[0]._replace(release=4, kind="CK_GOING_AWAY"), {"vti5"}),
    "a shared that is forgotten": (V5._replace(shared="yes"), V5, {"vti5"}),
    "a shared that comes late": (V5, V5._replace(shared="yes"), set()),
    "an instance that says UP later": (ROADS[0], ROADS[0], {"vti5"}),
}


@pytest.mark.parametrize("case", LATER_WORDS)
def test_the_row_is_decided_at_the_first_claim(machine: Machine, case: str) -> None:
    first, later, left = LATER_WORDS[case]
    machine.send(call(first, "up"))
    machine.send_all([call(later, "prepare", wishes=UP), call(later, "route", wishes=UP)])
    machine.send_all([call(later, "down"), call(later, "unroute")])
    assert machine.devices() == left


def template_and_instance(release: int) -> tuple[list[Environment], list[Environment], list[Environment]]:
    """narrowing=yes: `ipsec route` of the template, then `ipsec up`, which makes an instance; and the end of both."""
    template = Tunnel(kind="CK_TEMPLATE", theirs="0.0.0.0/0", release=release)
    instance = Tunnel(kind="CK_INSTANCE", source="10.0.1.1", mine="10.0.1.1/32", reqid=16392, release=release)
    seen = ROUTE if release == 5 else ()
    first = [call(template, verb, child=False, wishes=seen) for verb in ("prepare", "route")]
    end = [call(instance, "down"), call(instance, "unroute"), call(template, "unroute", child=False)]
    return first, establish(instance, wishes=UP + seen), end


@pytest.mark.parametrize("release", [4, 5])
def test_an_instance_stands_in_the_row_of_its_templates_trap(machine: Machine, release: int) -> None:
    """It says UP, which the template could not: the device is still one."""
    first, second, end = template_and_instance(release)
    machine.send_all([*first, *second])
    assert machine.kinds() == {("t", TRAP), ("t", SA)}
    assert machine.kernel.named("vti5").remote == "0.0.0.0"
    assert ("10.2.0.0/24", "vti5") in machine.routes()
    assert [report.operations for report in machine.send_all(second)] == [()] * 3
    machine.send_all(end)
    assert machine.kinds() == set()
    assert machine.routes() == set()
    assert machine.devices() == {"vti5"}, "a template's stays"


@pytest.mark.parametrize("wishes", [((), UP), (UP, ())], ids=str)
def test_instances_of_one_name_share_the_row_on_a_device(
    machine: Machine, wishes: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    """Two to one peer, one of which the peer began."""
    one = Tunnel(kind="CK_INSTANCE")
    other = one._replace(theirs="10.3.0.0/24", reqid=16392)
    machine.send_all([*establish(one, wishes=wishes[0]), *establish(other, wishes=wishes[1])])
    goes = wishes[0] == UP
    assert machine.kernel.named("vti5").remote == (one.peer if goes else "0.0.0.0")
    machine.send_all([call(one, "down"), call(one, "unroute"), call(other, "down"), call(other, "unroute")])
    assert machine.devices() == (set() if goes else {"vti5"})


def test_an_instance_on_a_device_of_its_own_has_its_own_row(machine: Machine) -> None:
    first, second, _ = template_and_instance(5)
    mark = {"VTI_IFACE": "vti6", "CONNMARK_IN": "6/0xffffffff", "CONNMARK_OUT": "6/0xffffffff"}
    machine.send_all([*first, *({**one, **mark} for one in second)])
    assert machine.kernel.named("vti6").remote == "198.51.100.2"


def test_a_joined_call_whose_sa_was_taken_down_does_nothing(machine: Machine) -> None:
    machine.send_all([call(V5, "down"), call(V5, "unroute")])
    report = machine.send(call(V5, "prepare-route-up"))
    assert report.operations == ()
    assert machine.kinds() == set()
    assert machine.devices() == set()


def test_a_joined_call_of_another_sa_is_served(machine: Machine) -> None:
    machine.send_all([call(V5, "down"), call(V5, "unroute")])
    machine.send(call(V5, "prepare-route-up", spi=0x2000))
    assert machine.kinds() == {("t", SA)}


def test_a_call_for_one_verb_is_never_late(machine: Machine) -> None:
    """Synchronous calls come in order, so SPIs that were seen before mean nothing there."""
    machine.send_all([call(V5, "down"), call(V5, "up")])
    assert machine.kinds() == {("t", SA)}


def test_spis_are_forgotten_after_ten_minutes(machine: Machine) -> None:
    machine.send(call(V5, "down"))
    machine.now += 601
    machine.send(call(V5, "prepare-route-up"))
    assert machine.kinds() == {("t", SA)}


def test_an_unroute_without_a_child_takes_no_spis(machine: Machine) -> None:
    """A trap's `unroute` has SPI 0x0 and must not make every later call without SPIs a late one."""
    machine.send_all([*trap(V5), call(V5, "unroute", child=False)])
    machine.send({**call(V5, "prepare-route-up", spi=0x0), "SPI_IN": "0x0"})
    assert machine.kinds() == {("t", SA)}


def test_a_connection_without_a_device_makes_no_claim(machine: Machine) -> None:
    report = machine.send(call(V5._replace(device=""), "up"))
    assert report.remarks == ("no device: neither vti-interface, ipsec-interface nor the setting `interface` is given",)
    assert machine.kinds() == set()


@pytest.mark.parametrize(
    "tunnel",
    [V5._replace(mark_in=""), V5._replace(mark_out=""), V5._replace(mark_in="", mark_out="")],
    ids=["in", "out", "both"],
)
def test_a_device_without_both_marks_is_one_clear_line(machine: Machine, tunnel: Tunnel) -> None:
    report = machine.send(call(tunnel, "up"))
    assert report.remarks == ("no device: vti5 needs marks as its keys; set mark=, or mark-in= and mark-out=",)
    assert report.operations == ()
    assert machine.kinds() == set()


def test_kinds_are_called_as_in_the_documents() -> None:
    assert (SA, TRAP) == ("sa", "trap")
