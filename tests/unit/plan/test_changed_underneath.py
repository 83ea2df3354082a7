"""What people change underneath a tunnel, what another tunnel holds, and addresses that go and come back."""

import errno
import os
import signal
from pathlib import Path

import pytest

from tests.kit.charon import Child, charon_calls
from tests.kit.machine import EAST, THIRD, WEST, Machine, Tunnel, call, establish, withdraw
from updown.concerns.device import is_ours
from updown.ledger.file import copy_ledger, open_ledger
from updown.model.claims import Claim
from updown.model.errors import Conflict, KernelError
from updown.model.objects import Link, Route
from updown.model.resources import DeletionRule

ALL = "[defaults]\ninterface = vti5\nshared = yes\nrouting = yes\n"
C = Child("c", peer_id="east")
F = Child("f", peer=THIRD, peer_id="x", pairs=(("10.1.0.0/24", "10.3.0.0/24"),))
SHARED = Tunnel(shared="yes")
OTHER = Tunnel("u", theirs="10.3.0.0/24", shared="yes", reqid=16392)
WLAN = "192.0.2.7"
THEIRS = Link("vti5", "vti", local=WEST, remote=EAST, ikey=5, okey=5, mtu=1480, up=True)


@pytest.mark.parametrize(
    ("again", "said"),
    [
        (C._replace(me=WLAN), f"vti5 has local {WEST} (f)"),
        (C._replace(mark_in="7/0xffffffff", mark_out="7/0xffffffff"), "vti5 has key 5, wanted 7, for f"),
    ],
    ids=["another end", "another mark"],
)
def test_an_older_claim_of_its_own_hides_no_other_tunnel(machine: Machine, again: Child, said: str) -> None:
    machine.settings(ALL)
    machine.kernel.physical("wlan0", f"{WLAN}/24")
    machine.send_all(charon_calls(C, "up", 1) + charon_calls(F, "up", 2))
    before = machine.kernel.named("vti5")
    with pytest.raises(Conflict) as refused:
        machine.send_all(charon_calls(again, "up", 3))
    assert refused.value.text.startswith(said)
    assert machine.kernel.named("vti5") == before
    assert len(machine.claims()) == 2


@pytest.mark.parametrize("later", [0, 80_000], ids=["at once", "hours later"])
def test_the_down_of_an_sa_whose_up_was_refused_ends_no_older_one(machine: Machine, later: int) -> None:
    machine.settings(ALL)
    machine.kernel.physical("wlan0", f"{WLAN}/24")
    machine.send_all(charon_calls(C, "up", 1) + charon_calls(F, "up", 2))
    roamed = C._replace(me=WLAN)
    for number in (3, 4):
        with pytest.raises(Conflict):
            machine.send_all(charon_calls(roamed, "up", number))
        machine.now += 700
    machine.now += later
    machine.send_all(charon_calls(roamed, "down", 3) + charon_calls(roamed, "down", 4))
    assert [claim.sa.unique_id for claim in machine.claims()] == [1, 2]
    machine.send_all(charon_calls(C, "up", 3) + charon_calls(C, "down", 3) + charon_calls(C, "down", 7))
    assert [claim.sa.unique_id for claim in machine.claims()] == [2]


def test_a_refusal_makes_no_other_end_forgotten(machine: Machine) -> None:
    machine.settings(ALL)
    machine.kernel.physical("wlan0", f"{WLAN}/24")
    machine.send_all(charon_calls(C, "up", 1) + charon_calls(C, "up", 5) + charon_calls(F, "up", 2))
    machine.send_all(charon_calls(C, "down", 1))
    with pytest.raises(Conflict):
        machine.send_all(charon_calls(C._replace(me=WLAN), "up", 6))
    machine.send_all(charon_calls(C, "down", 1))
    assert {claim.sa.unique_id for claim in machine.claims()} == {2, 5}


def test_two_peers_of_one_identity_behind_one_mark_are_told(machine: Machine) -> None:
    """A group's identity, or gateways that share theirs: it looks like a move. A successor from elsewhere is none."""
    machine.settings(ALL.replace("shared = yes\n", ""))
    alice, bob = C._replace(pairs=(("0.0.0.0/0", "10.9.0.1/32"),)), C._replace(pairs=(("0.0.0.0/0", "10.9.0.2/32"),))
    (first,) = machine.send_all(charon_calls(alice, "up", 1))
    (successor,) = machine.send_all(charon_calls(alice._replace(peer=THIRD), "up", 2))
    machine.send_all(charon_calls(alice, "down", 1))
    (second,) = machine.send_all(charon_calls(bob, "up", 3))
    assert first.warnings == successor.warnings == ()
    assert second.warnings == (
        f"vti5 leads to {EAST} now, and no more to {THIRD}, of the same identity. Are they two peers? They need `shared = yes`",
    )
    machine.settings(ALL)
    machine.send_all(charon_calls(alice, "down", 2) + charon_calls(bob, "down", 3))
    assert [report.warnings for report in machine.send_all([*charon_calls(alice, "up", 4), *charon_calls(bob, "up", 5)])] == [
        (),
        (),
    ]


@pytest.mark.parametrize("case", ["no child", "refused"])
def test_a_down_of_another_client_with_a_configured_reqid_ends_nobody_elses_claim(machine: Machine, case: str) -> None:
    alice = Tunnel("gw", kind="CK_INSTANCE", reqid=100, peer="198.51.100.7")
    bob = alice._replace(peer="198.51.100.8")
    machine.send_all(establish(alice, wishes=()))
    if case == "refused":
        machine.fails_at = (0, KernelError("refused", errno.ENOBUFS))
        with pytest.raises(KernelError):
            machine.send(call(bob._replace(address="10.99.0.1/30"), "up", wishes=(), spi=0x7000))
        machine.fails_at = None
    machine.send(call(bob, "down", wishes=(), child=case == "refused", spi=0x7000))
    assert [claim.sa.peer for claim in machine.claims()] == [alice.peer]
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


def replaced(machine: Machine, link: Link) -> int:
    """Somebody deletes vti5 and makes one of his own."""
    machine.kernel.remove(machine.kernel.named("vti5").ifindex)
    return machine.kernel.add_link(link).ifindex


def test_an_address_on_a_device_that_took_the_place_of_ours_is_not_ours(machine: Machine) -> None:
    tunnel = Tunnel(address="10.99.0.1/30")
    machine.send_all(establish(tunnel))
    index = replaced(machine, THEIRS)
    machine.kernel.add_address(index, "10.99.0.1/30")
    machine.kernel.add_route(Route("10.8.0.0/16", "vti5", protocol=4, source="10.99.0.1"), index)
    machine.send_all(withdraw(tunnel))
    assert machine.addresses("vti5") == ["10.99.0.1/30"]
    assert "10.8.0.0/16" in machine.kernel.routes_by("vti5")
    assert machine.claims() == []
    assert machine.made() == {}


@pytest.mark.parametrize("pairs", [1, 2])
def test_what_ends_ends_though_the_device_is_someone_elses_by_now(machine: Machine, pairs: int) -> None:
    """The daemon will not say it again; the device is told of and left alone."""
    machine.settings("[defaults]\ninterface = vti5\nrouting = yes\n")
    child = C._replace(pairs=tuple(("10.1.0.0/24", f"10.{two}.0.0/24") for two in range(2, 2 + pairs)))
    machine.send_all(charon_calls(child, "up", 1))
    replaced(machine, THEIRS._replace(ikey=77, okey=77))
    reports = machine.send_all(charon_calls(child, "down", 1))
    warnings = [warning for report in reports for warning in report.warnings]
    assert len(warnings) == pairs - 1, "the last one has nothing to do with the device any more"
    assert all(warning.startswith("vti5 is not ours and has key 77, wanted 5: it stays as it is.") for warning in warnings)
    assert machine.kinds() == set()
    assert machine.kernel.named("vti5").ikey == 77


def test_a_lost_address_that_comes_back_is_no_conflict_and_takes_no_device_away(machine: Machine) -> None:
    """MOBIKE: t moved, u was told nothing; then eth0 has its address again."""
    machine.send_all(establish(SHARED) + establish(OTHER))
    eth0 = machine.kernel.named("eth0").ifindex
    machine.kernel.physical("wlan0", f"{WLAN}/24")
    machine.kernel.delete_address(eth0, f"{WEST}/24")
    moved = SHARED._replace(me=WLAN)
    up = ("UP",)
    machine.send_all([call(SHARED, "down", wishes=up), call(SHARED, "unroute", wishes=up, mobike="yes")])
    machine.send_all([call(moved, "route", wishes=up), call(moved, "up", wishes=up)])
    machine.kernel.add_address(eth0, f"{WEST}/24")
    third = Tunnel("w", me=WLAN, peer=THIRD, theirs="10.4.0.0/24", shared="yes", reqid=16396)
    reports = machine.send_all([*establish(third), call(moved, "up", wishes=up), *withdraw(moved)])
    assert [report.warnings for report in reports] == [()] * len(reports)
    assert machine.kernel.named("vti5").local == WLAN, "w is there"
    assert machine.routes() == {("10.3.0.0/24", "vti5"), ("10.4.0.0/24", "vti5")}


def test_a_sibling_on_plutos_device_that_waited_while_the_machine_moved_goes_with_the_last_unroute(machine: Machine) -> None:
    """`ipsec-interface=`: pluto names the device by another variable."""
    machine.kernel.add_link(Link("ipsec1", "xfrm", if_id=1, up=True))
    up = ("UP", "MOBIKE")

    def calls(tunnel: Tunnel, *verbs: str, wishes: tuple[str, ...] = up) -> None:
        for verb in verbs:
            environment = call(tunnel, verb, wishes=wishes)
            unmarked = {name: value for name, value in environment.items() if not name.startswith("CONNMARK")}
            machine.send({**unmarked, "PLUTO_VIRT_INTERFACE": "ipsec1", "PLUTO_XFRMI_ROUTE": "yes"})

    one = Tunnel(device="", routing="", shared="")
    sibling = one._replace(connection="b", mine="10.1.1.0/24", reqid=16392)
    calls(one, "prepare", "route", "up")
    calls(sibling, "up", "down")
    eth0 = machine.kernel.named("eth0").ifindex
    machine.kernel.delete_address(eth0, f"{WEST}/24")
    machine.kernel.add_address(eth0, "198.51.100.7/24")
    moved = one._replace(me="198.51.100.7")
    calls(one, "down", "unroute")
    calls(moved, "route", "up")
    assert machine.kinds() == {("t", "sa"), ("b", "revive")}
    calls(moved, "down", "unroute", wishes=())
    assert machine.kinds() == set()
    assert machine.routes() == set()


def test_a_device_with_another_name_in_the_settings_takes_everything_of_the_tunnel_along(machine: Machine) -> None:
    """On demand: the trap came under the old name, the child under the new one; and nothing more is called for the trap."""
    settings = "[connection t]\ninterface = {}\nrouting = yes\naddress = 10.99.0.1/30\n"
    machine.settings(settings.format("vti5"))
    tunnel = Tunnel(device="")
    wishes = ("ROUTE",)
    machine.send_all([call(tunnel, verb, child=False, wishes=wishes) for verb in ("prepare", "route")])
    machine.settings(settings.format("vti9"))
    reports = machine.send_all([call(tunnel, verb, wishes=wishes) for verb in ("prepare", "up", "down")])
    assert [report.warnings for report in reports] == [()] * 3
    assert machine.devices() == {"vti9"}
    assert machine.routes() == {("10.2.0.0/24", "vti9")}
    assert machine.addresses("vti9") == ["10.99.0.1/30"]
    assert [(claim.kind, claim.device) for claim in machine.claims()] == [("trap", "vti9"), ("revive", "vti9")]
    machine.send(call(tunnel, "unroute"))
    assert machine.devices() == set()
    assert machine.made() == {}


@pytest.mark.parametrize(
    ("alias", "ours"),
    [("vti-updown", True), ("vti-updown to red", True), ("vti-updown must not touch this", False), ("", False)],
)
def test_our_alias_is_the_whole_of_it(alias: str, ours: bool) -> None:
    assert is_ours(THEIRS._replace(alias=alias, ifindex=9), None, None) is ours


def test_what_a_killed_event_had_begun_to_write_is_no_damage_to_who_only_reads(tmp_path: Path) -> None:
    """SQLite takes it back where it may write; status and dry runs may not."""
    first = Claim("k", "sa", "t", '["t"]', "g", "vti5", DeletionRule(False, True))
    with open_ledger(str(tmp_path), "1") as ledger:
        ledger.begin()
        ledger.put(first)
        ledger.commit()
    if not (killed := os.fork()):
        ledger = open_ledger(str(tmp_path), "1")
        ledger.begin()
        ledger.put(first._replace(key="k2", connection="u", tunnel='["u"]'))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(killed, 0)
    assert (tmp_path / "net-1/ledger-journal").exists()
    for _ in range(2):
        with copy_ledger(str(tmp_path), "1") as copy:
            assert (copy.note, [claim.key for claim in copy.claims()]) == ("", ["k"])
    with open_ledger(str(tmp_path), "1") as ledger:
        assert (ledger.note, [claim.key for claim in ledger.claims()]) == ("", ["k"])
