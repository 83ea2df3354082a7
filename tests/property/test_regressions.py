"""What random sequences, crashes and reviewers once found, each as the smallest test that shows it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import TOP
from tests.kit.charon import Child, charon_call
from tests.kit.grammar_libreswan import NUMBERS, Libreswan
from tests.kit.grammar_strongswan import StrongSwan
from tests.kit.kernel_model import Kernel
from tests.kit.machine import EAST, EAST6, GATEWAY, THIRD, WEST, WEST6, Environment, Machine, Tunnel, call, establish, withdraw
from tests.kit.sequences import Daemon, Mishap, Step, Steps, check
from updown.model.errors import Conflict, KernelError
from updown.model.objects import OUR_ALIAS, Link, Route
from updown.output.lines import folded

T = Tunnel()
SHARED = Tunnel(shared="yes")
OTHER = Tunnel("u", peer=THIRD, theirs="10.3.0.0/24", shared="yes", reqid=16392)
MADE = Link("vti5", "vti", local=WEST, remote=EAST, ikey=5, okey=5, mtu=1480, up=True)
UP = ("UP",)
REFUSAL = KernelError("no", 22)


def moved(tunnel: Tunnel, to: Tunnel) -> list[Environment]:
    """MOBIKE as main sends it: down, unroute with the old address, route, up with the new one."""
    before = [call(tunnel, "down", wishes=UP), call(tunnel, "unroute", wishes=UP, mobike="yes")]
    return [*before, call(to, "route", wishes=UP), call(to, "up", wishes=UP)]


def test_a_device_made_by_a_killed_call_goes_with_the_next_down(machine: Machine) -> None:
    """It has no alias yet, and the ledger no index: the note that we were about to make it must do."""
    at = 0
    while machine.dies(call(T, "prepare"), at):
        machine.send_all(withdraw(T))
        assert machine.devices() == set(), f"killed at {machine.moments[-1:]}"
        at += 1
    assert at > 5


def test_a_device_made_anew_has_its_sysctls(machine: Machine) -> None:
    """Those of the old device say nothing of the new one's."""
    machine.send_all(establish(T))
    six = T._replace(me=WEST6, peer=EAST6)
    machine.send(call(six, "route"))
    assert machine.kernel.named("vti5").kind == "vti6"
    assert machine.kernel.files["net/ipv4/conf/vti5/disable_policy"] == "1"
    assert machine.kernel.files["net/ipv6/conf/vti5/forwarding"] == "1"
    assert machine.send(call(six, "route")).operations == ()


def test_a_device_made_anew_has_its_source_address(machine: Machine) -> None:
    """The machine still has the address while the plan is made, on the very device that goes."""
    tunnel = T._replace(source="10.1.0.1")
    machine.send_all(establish(tunnel))
    report = machine.send(call(tunnel._replace(me=WEST6, peer=EAST6), "route"))
    assert report.warnings == ()
    assert machine.addresses("vti5") == ["10.1.0.1/32"]
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


def test_an_unfinished_making_anew_leaves_our_device_ours(machine: Machine) -> None:
    """Deleted, not made again because the ends are taken, and put back: it must be known again, and free for its tunnel."""
    machine.send_all([*establish(SHARED), *withdraw(SHARED)])
    machine.kernel.add_link(MADE._replace(name="office"))
    with pytest.raises(Conflict, match=r"vti5: office \(not ours\) has local"):
        machine.send(call(T, "prepare"))
    assert machine.kernel.named("vti5").alias == OUR_ALIAS
    machine.kernel.remove(machine.kernel.named("office").ifindex)
    machine.send_all(establish(T))
    assert machine.kernel.named("vti5").remote == EAST
    machine.send_all(withdraw(T))
    assert machine.devices() == set()


def test_a_failed_making_does_not_make_the_administrators_device_ours(machine: Machine) -> None:
    office = machine.kernel.add_link(MADE._replace(name="office"))
    with pytest.raises(Conflict):
        machine.send(call(T, "up"))
    assert machine.made() == {}
    machine.kernel.remove(office.ifindex)
    machine.kernel.add_link(MADE)
    machine.send_all([*establish(T), *withdraw(T)])
    assert machine.devices() == {"vti5"}
    assert machine.kernel.named("vti5").alias == ""


def test_the_way_to_a_second_peer_does_not_lead_through_the_first_tunnel(machine: Machine) -> None:
    """Two tunnels for everything: the halves of the first hold the second's peer."""
    first = T._replace(theirs="0.0.0.0/0")
    second = Tunnel(
        "u", peer="203.0.113.9", theirs="0.0.0.0/0", device="vti6", mark_in="6/0xff", mark_out="6/0xff", reqid=16392
    )._replace(next_hop=GATEWAY)
    machine.send_all([call(first, "up"), call(second, "up")])
    assert ("203.0.113.9/32", "eth0") in machine.routes()
    machine.send_all(withdraw(first))
    assert machine.routes() == {("0.0.0.0/1", "vti6"), ("128.0.0.0/1", "vti6"), ("203.0.113.9/32", "eth0")}


def test_a_shared_device_is_not_taken_back_to_an_address_that_is_gone(machine: Machine) -> None:
    """MOBIKE tells one of two connections that it moved; then that one goes."""
    sibling = OTHER._replace(peer=EAST)
    machine.send_all([*establish(SHARED), *establish(sibling)])
    machine.kernel.physical("wlan0", "192.0.2.7/24")
    machine.kernel.delete_address(machine.kernel.named("eth0").ifindex, f"{WEST}/24")
    there = SHARED._replace(me="192.0.2.7")
    machine.send_all([*moved(SHARED, there), *withdraw(there)])
    assert machine.kernel.named("vti5").local == "192.0.2.7"
    assert machine.routes() == {("10.3.0.0/24", "vti5")}


def test_what_cannot_be_finished_for_one_tunnel_does_not_stop_another(machine: Machine) -> None:
    """A call is killed, its device's name is taken meanwhile, and an unrelated tunnel comes up."""
    assert machine.dies(call(T, "prepare"), 2)
    machine.kernel.add_link(MADE._replace(ikey=77, okey=77))
    report = machine.send(call(OTHER._replace(device="vti6", shared="no"), "up"))
    assert [warning for warning in report.warnings if "key 77, wanted 5" in warning]
    assert machine.routes() == {("10.3.0.0/24", "vti6")}


def test_a_source_address_that_is_anothers_device_address_stays_with_its_own_tunnel(machine: Machine) -> None:
    first = SHARED._replace(address="10.99.0.1/30")
    second = OTHER._replace(source="10.99.0.1")
    machine.send_all([*establish(first), *establish(second), *withdraw(first)])
    assert [address.split("/")[0] for address in machine.addresses("vti5")] == ["10.99.0.1"]
    assert machine.routes() == {("10.3.0.0/24", "vti5")}
    assert machine.send(call(second, "up")).operations == ()


def test_the_administrators_routes_survive_the_removal_of_our_last_address(machine: Machine) -> None:
    own = Route("10.8.0.0/16", "vti5", protocol=4)
    machine.kernel.add_route(own, machine.kernel.add_link(MADE).ifindex)
    tunnel = T._replace(address="10.99.0.1/30", routing="no")
    machine.send_all([*establish(tunnel), *withdraw(tunnel)])
    assert machine.kernel.routes_by("vti5") == {"10.8.0.0/16"}


def test_the_way_to_the_peer_follows_a_move_to_another_gateway(machine: Machine) -> None:
    tunnel = T._replace(theirs="0.0.0.0/0", peer="203.0.113.9", next_hop=GATEWAY)
    machine.send_all(establish(tunnel))
    move(machine.kernel)
    machine.send_all(moved(tunnel, tunnel._replace(me="192.0.2.7", next_hop="192.0.2.1")))
    path = machine.kernel.path("203.0.113.9")
    assert path is not None
    assert (path.device, path.gateway) == ("eth0", "192.0.2.1")


def test_a_tunnel_between_two_hosts_that_moved_is_one_claim(machine: Machine) -> None:
    """Its selector is its own address, which is part of the claim's key: `down` alone must end it."""
    host = T._replace(mine=f"{WEST}/32", theirs=f"{EAST}/32")
    machine.kernel.physical("wlan0", "192.0.2.7/24")
    there = host._replace(me="192.0.2.7", mine="192.0.2.7/32")
    machine.send_all([*establish(host), *moved(host, there)])
    assert machine.kinds() == {("t", "sa")}
    machine.send(call(there, "down"))
    assert (machine.devices(), machine.claims()) == (set(), [])


def test_the_unroute_of_a_host_whose_peer_moved_ends_its_claim(machine: Machine) -> None:
    """It waits for its revival, and is taken down: `unroute` has the peer's new address as its selector."""
    host = T._replace(mine=f"{WEST}/32", theirs=f"{EAST}/32")
    machine.send_all([*establish(host), call(host, "down", wishes=UP)])
    there = host._replace(peer=THIRD, theirs=f"{THIRD}/32")
    machine.send(call(there, "unroute", child=False))
    assert (machine.devices(), machine.claims()) == (set(), [])


def test_a_sibling_that_waited_while_the_machine_moved_goes_with_the_last_unroute(machine: Machine) -> None:
    """Nobody told it of the new address, and it gets no `unroute` of its own."""
    sibling = OTHER._replace(peer=EAST, theirs=SHARED.theirs, mine="10.1.1.0/24")
    machine.send_all([*establish(SHARED), call(sibling, "up", wishes=UP), call(sibling, "down", wishes=UP)])
    eth0 = machine.kernel.named("eth0").ifindex
    machine.kernel.delete_address(eth0, f"{WEST}/24")
    machine.kernel.add_address(eth0, "198.51.100.7/24")
    there = SHARED._replace(me="198.51.100.7")
    machine.send_all([*moved(SHARED, there), *withdraw(there)])
    assert (machine.routes(), machine.claims()) == (set(), [])


def test_a_down_of_a_new_charon_is_not_taken_for_one_of_the_old(machine: Machine) -> None:
    """Both rekeyed their first IKE SA, so both call `down` with the second number, the latter within ten minutes."""
    machine.settings("[defaults]\ninterface = vti5\n")
    child = Child()
    for _ in range(2):  # in between it was killed
        machine.send_all([charon_call(child, "up", 1), charon_call(child, "down", 2)])
        assert machine.devices() == set()


def move(kernel: Kernel) -> None:
    """Another network on the same device: the new address first, so that no route is flushed."""
    eth0 = kernel.named("eth0").ifindex
    kernel.add_address(eth0, "192.0.2.7/24")
    kernel.delete_address(eth0, f"{WEST}/24")
    kernel.delete_route(Route("0.0.0.0/0", "eth0", GATEWAY, protocol=3), eth0)
    kernel.add_route(Route("0.0.0.0/0", "eth0", "192.0.2.1", protocol=3), eth0)


@pytest.mark.parametrize("promotes", [False, True], ids=["taken along", "promoted"])
def test_a_secondary_address_that_the_kernel_keeps_costs_no_warning(machine: Machine, promotes: bool) -> None:
    """systemd sets promote_secondaries=1: then neither the other addresses of the subnet go nor the device's routes."""
    machine.kernel.promotes = promotes
    first, second = SHARED._replace(address="10.99.0.1/24"), OTHER._replace(address="10.99.0.2/24")
    machine.send_all([*establish(first), *establish(second)])
    reports = machine.send_all(withdraw(first))
    assert [report.warnings for report in reports] == [(), ()]
    assert machine.addresses("vti5") == ["10.99.0.2/24"]
    assert machine.routes() == {("10.3.0.0/24", "vti5")}


def test_a_route_whose_source_goes_with_its_subnets_first_address_stays(machine: Machine) -> None:
    """The kernel takes the subnet's second address along, and with it the route that prefers it; others on the device stay."""
    first = SHARED._replace(address="10.99.0.1/24")
    second = OTHER._replace(address="10.99.0.2/24")
    third = OTHER._replace(connection="v", theirs="10.4.0.0/24", address="10.98.0.1/24", source="10.99.0.2", reqid=16396)
    machine.send_all([*establish(first), *establish(second), *establish(third)])
    machine.send_all(withdraw(first))
    assert sorted(machine.addresses("vti5")) == ["10.98.0.1/24", "10.99.0.2/24"]
    assert machine.routes() == {("10.3.0.0/24", "vti5"), ("10.4.0.0/24", "vti5")}
    sources = {entry.route.destination: entry.route.source for entry in machine.kernel.table}
    assert sources["10.4.0.0/24"] == "10.99.0.2"
    assert [machine.send(call(tunnel, "up")).operations for tunnel in (second, third)] == [(), ()]


@pytest.mark.parametrize("word", ["x" * 200, "/etc/" + "y" * 90, "\u20ac" * 50], ids=["plain", "path", "escaped"])
def test_a_line_with_the_longest_name_and_a_long_word_has_at_most_120_bytes(word: str) -> None:
    for line in folded("vti-updown: " + "n" * 30 + ": error: ", f"{word}: no such file"):
        assert len(line.encode()) <= 120


def test_our_device_that_the_administrator_renamed_is_called_ours(machine: Machine) -> None:
    machine.send_all(establish(T))
    link = machine.kernel.named("vti5")
    machine.kernel.by_index[link.ifindex] = link._replace(name="office")
    with pytest.raises(Conflict) as conflict:
        machine.send(call(T, "up"))
    assert "not ours" not in conflict.value.text
    assert "office" in conflict.value.text


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["status"], ["clean", "--dry-run"], ["--dry-run"]], ids=lambda words: words[0]
)
@pytest.mark.parametrize("output", ["closed", "full", "gone"])
def test_an_output_that_takes_nothing_is_no_defect_and_no_noise(tmp_path: Path, words: list[str], output: str) -> None:
    """The hook is asked for something while its standard output is closed, a full disk, or a pipe without a reader."""
    hook = TOP / "hooks" / "vti-updown"
    environment = call(T, "up") if words == ["--dry-run"] else {}
    command = [sys.executable, "-I", str(hook), *words, "--state-dir", str(tmp_path / "state")]
    closed = {"closed": "exec >&-; ", "full": "exec >/dev/full; ", "gone": ""}[output]
    if output == "gone":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open(os.devnull, os.O_WRONLY)
    script = f'{closed}exec "$@"'
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", *command], stdout=writer, stderr=subprocess.PIPE, env=environment, check=False
    )
    os.close(writer)
    assert b"Exception ignored" not in done.stderr
    assert b"defect" not in done.stderr
    assert done.returncode in (0, 1)


def test_a_route_of_another_tunnel_that_could_not_be_put_back_comes_with_the_next_event(machine: Machine) -> None:
    """The last address of the device goes with one tunnel, and takes the other's route along."""
    first = SHARED._replace(address="10.99.0.1/30")
    machine.send_all([*establish(first), *establish(OTHER)])
    at = moments_of(machine, call(first, "down"))
    machine.fails_at = (next(number for number, text in enumerate(at) if text.startswith("route add")), REFUSAL)
    report = machine.send(call(first, "down"))
    machine.fails_at = None
    assert report.warnings == ("no",)
    machine.send(call(first, "unroute"))
    assert machine.routes() == {("10.3.0.0/24", "vti5")}


def moments_of(machine: Machine, environment: Environment) -> list[str]:
    """The moments of an event that goes well, which is then taken back."""
    machine.send(environment)
    moments = machine.moments
    machine.send_all(establish(SHARED._replace(address="10.99.0.1/30")))
    return moments


def test_an_instance_whose_daemon_was_killed_meets_its_old_claim(machine: Machine) -> None:
    """The next daemon counts reqids anew, and this time it is the initiator."""
    guest = T._replace(kind="CK_INSTANCE", reqid=20008)
    machine.send_all(establish(guest))
    machine.send_all(establish(guest._replace(reqid=20004), wishes=UP))
    assert machine.kernel.named("vti5").remote == EAST
    machine.send_all(withdraw(guest._replace(reqid=20004)))
    assert machine.devices() == set()
    assert machine.routes() == set()


def test_a_killed_up_with_a_new_mark_is_finished_with_that_mark(machine: Machine) -> None:
    """charon never repeats it, and it is another tunnel's event that finishes it."""
    machine.settings("[defaults]\ninterface = vti{mark}\nrouting = yes\n")
    first = Child("u", mark_in="101/0xffffffff", mark_out="101/0xffffffff")
    second = first._replace(mark_in="102/0xffffffff", mark_out="102/0xffffffff")
    away = Child("o", peer=THIRD, peer_id="x", pairs=(("10.1.0.0/24", "10.7.0.0/24"),))
    machine.send(charon_call(first, "up", 1))
    assert machine.dies(charon_call(second, "up", 2), 2)
    assert len(machine.claims()) == 2
    machine.send(charon_call(away._replace(mark_in="7/0xff", mark_out="7/0xff"), "up", 3))
    assert machine.kernel.named("vti101").okey == 102


def test_the_trap_of_a_tunnel_between_two_hosts_is_found_when_the_peer_has_moved(machine: Machine) -> None:
    """libreswan's responder is told of a peer that moved, its hook is not: the next `down` has another PEER_CLIENT."""
    hosts = T._replace(mine=f"{WEST}/32", theirs=f"{EAST}/32")
    machine.send_all([call(hosts, verb, child=False, wishes=("ROUTE",)) for verb in ("prepare", "route")])
    machine.send(call(hosts, "up", wishes=("ROUTE",)))
    machine.send(call(hosts._replace(peer=THIRD, theirs=f"{THIRD}/32"), "down"))
    assert machine.kinds() == set()
    assert machine.devices() == set()


def of(name: str, *things: str) -> Steps:
    """These things happen to one connection of libreswan's."""
    return tuple(Step(thing, NUMBERS[name]) for thing in things)


def test_what_a_killed_pluto_left_keeps_its_ends_when_the_next_gives_its_reqid_to_another_client() -> None:
    """On a shared device the new client's ends are no move of the old one, whose own next SA ends what was left of it."""
    things = (("establish", 6), ("killed", 6), ("replace", 5), ("establish", 6), ("peer_deletes", 6))
    check(Libreswan, tuple(Step(thing, who) for thing, who in things))


NET, CLIENT, OTHER_CLIENT = 0, 3, 4  # of strongSwan's
RECONCILED: dict[str, tuple[Daemon, Steps]] = {
    "a new charon's SA with the number of a dead one's is no other client's": (
        StrongSwan,
        (Step("initiate", CLIENT), Step("killed", CLIENT), Step("initiate", OTHER_CLIENT), Step("reconcile", CLIENT)),
    ),
    "a child that no claim counts is no other client's": (
        StrongSwan,
        (
            Step("initiate", OTHER_CLIENT, mishap=Mishap("lost", 0, 0)),
            *(Step(thing, CLIENT) for thing in ("initiate", "gone_without_a_word", "reconcile")),
        ),
    ),
    "a child without a claim of its own for one pair has its predecessor's": (
        StrongSwan,
        (
            Step("initiate", NET),
            Step("gone_without_a_word", NET),
            Step("initiate", NET, mishap=Mishap("lost", 0, 0)),
            Step("reconcile", NET),
        ),
    ),
    "of two children, one of which no claim counts, the one with the newest number is the claim's": (
        StrongSwan,
        (
            Step("initiate", 1),
            Step("initiate", 1, mishap=Mishap("lost", 0, 17)),
            *(Step(thing, 1) for thing in ("moves", "rekey", "reconcile")),
        ),
    ),
    "a pair of a child that no claim counts is not another pair's of a child that ended": (
        StrongSwan,
        (
            Step("initiate", 8, mishap=Mishap("lost", 0, 5)),
            Step("initiate", 9),
            Step("one_down_more", 8, initiator=False, mishap=Mishap("lost", 1, 3)),
            Step("initiate", 9),
            Step("one_down_more", 8),
            Step("reconcile", 8),
        ),
    ),
    "of two instances with a configured reqid and one selector the one with the SA's SPI lives": (
        Libreswan,
        of("manual", "establish", "peer_moves", "replace", "killed", "establish", "spoiled"),
    ),
    "a tunnel between two hosts that was made to follow its peer is found by its down": (
        Libreswan,
        (*of("host", "establish", "peer_moves", "reconcile"), Step("ipsec_down", NUMBERS["host"], initiator=False)),
    ),
    "a device is not made again at an address that is gone, which a trap was not told of": (
        Libreswan,
        (*of("shared-2", "ipsec_route"), *of("sibling", "establish", "roams"), *of("shared-2", "spoiled")),
    ),
    "a device is not made again at an address that is gone, which who waits was not told of": (
        Libreswan,
        (
            *of("sibling", "establish"),
            *of("shared-1", "establish"),
            Step("peer_deletes", NUMBERS["shared-1"]),
            *of("shared-1", "roams"),
            *of("sibling", "delete"),
            *of("shared-1", "spoiled"),
        ),
    ),
    "a device that waits is where its daemon will come back to": (
        Libreswan,
        (*of("shared-1", "establish"), Step("peer_deletes", NUMBERS["shared-1"]), *of("shared-1", "roams", "spoiled")),
    ),
    "a new pluto's first instance has the reqid of a dead one's, and is another": (
        Libreswan,
        (*of("road", "establish", "killed"), Step("establish", NUMBERS["road"] - 1), *of("road", "reconcile")),
    ),
    "an instance with a configured reqid lives though its peer moved and it was rekeyed": (
        Libreswan,
        of("manual", "establish", "peer_moves", "rekey", "reconcile"),
    ),
}


@pytest.mark.parametrize("case", RECONCILED)
def test_a_reconcile_that_ends_as_the_daemon_says(case: str) -> None:
    check(*RECONCILED[case])


def test_a_trap_beside_a_tunnel_that_moved_has_its_new_ends_at_once(machine: Machine) -> None:
    machine.send_all([call(T, verb, child=False, wishes=("ROUTE",)) for verb in ("prepare", "route")])
    machine.send(call(T, "up", wishes=UP))
    machine.send_all(moved(T, T._replace(me="198.51.100.9")))
    assert {(claim.kind, claim.sa.me) for claim in machine.claims()} == {("trap", "198.51.100.9"), ("sa", "198.51.100.9")}


@pytest.mark.parametrize("first", [True, False], ids=["never told before", "told before"])
def test_a_down_that_was_undone_is_not_remembered(machine: Machine, first: bool) -> None:
    """The asynchronous call of its SA, which comes after it, finds the claim and renews it; else it would do nothing."""
    machine.send(call(T, "up", spi=0x2000))
    if not first:
        machine.send(call(T, "down", wishes=UP))
    machine.fails_at = (2, REFUSAL)  # the device cannot be deleted
    with pytest.raises(KernelError):
        machine.send(call(T, "down"))
    machine.fails_at = None
    with machine.ledger() as ledger:
        assert ledger.was_ended("0x1000 0x1001", machine.now) != first
    kind = "sa" if first else "revive"
    assert machine.kinds() == {("t", kind)}


def test_a_full_disk_while_an_earlier_event_is_mended_leaves_no_transaction_open() -> None:
    """The next event of the same process, one that waited for the lock, could not have begun."""
    died = Step("initiate", 3, mishap=Mishap("dies and is gone", 0, 1))
    check(StrongSwan, (died, Step("reauthenticate_first", 3, mishap=Mishap("refused", 0, 0))))


def test_a_client_whose_gateway_moved_before_its_daemon_was_killed_meets_its_own_claim() -> None:
    """A new pluto counts reqids anew and has the gateway's first address; of a device with one peer there can be no other."""
    happened = ("replace", "peer_moves", "delete", "establish", "killed", "establish")
    check(Libreswan, tuple(Step(thing, 15) for thing in happened))


@pytest.mark.parametrize("moment", range(6, 15))
def test_a_left_over_device_that_could_not_be_made_anew_has_its_sysctls_back(moment: int) -> None:
    """Nobody held it, so that no claim could have told of them."""
    refused = Step("establish", 15, mishap=Mishap("refused", 0, moment))
    check(Libreswan, (Step("establish", 15, initiator=False), Step("delete", 15), refused))


def test_a_tunnel_between_two_hosts_whose_peer_moved_and_whose_device_was_deleted_is_made_anew() -> None:
    """Its claim has another key by then, and the one before is none of the tunnel's others."""
    check(Libreswan, tuple(Step(thing, 18) for thing in ("establish", "peer_moves", "meddled")))


@pytest.mark.parametrize("moment", range(8, 15))
def test_a_device_that_could_not_be_made_anew_has_the_address_of_its_other_claims_back(moment: int) -> None:
    """It was noted as finished, as the claim that failed had asked for it too."""
    refused = Step("initiate", 0, mishap=Mishap("refused", 0, moment))
    check(StrongSwan, (Step("initiate", 0), Step("moves", 0), Step("reconcile", 0), refused))


def test_what_a_killed_daemon_left_beside_a_tunnel_that_moves_goes_on_waiting() -> None:
    """The `unroute` of libreswan 5 is the move's, which its policy and the lost address tell."""
    happened = (Step("replace", 2), Step("killed", 2), Step("establish", 4), Step("roams", 2))
    check(Libreswan, happened)
