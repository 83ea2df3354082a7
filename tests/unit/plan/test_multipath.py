"""Tunnels that share a prefix (`multipath = yes`): joins and leaves in every order, against a table that says what is left."""

import itertools
import json
from pathlib import Path

import pytest

from tests.kit.machine import EAST, THIRD, Machine, Tunnel, call, establish, withdraw
from updown.concerns.catalogue import dump, load
from updown.ledger.liveness import set_missed_probes
from updown.model.objects import Route
from updown.output.iproute2 import command
from updown.output.report import operation_json

ENDS = {"a": EAST, "b": THIRD, **{name: f"198.51.100.{number}" for number, name in enumerate("cdef", 4)}}


def tunnel(name: str, prefix: str = "10.2.0.0/24") -> Tunnel:
    number = str(5 + list(ENDS).index(name))
    mark = f"{number}/0xffffffff"
    mine = "fd00:1::/64" if ":" in prefix else "10.1.0.0/24"
    return Tunnel(
        name,
        peer=ENDS[name],
        theirs=prefix,
        mine=mine,
        mark_in=mark,
        mark_out=mark,
        device=f"vti{number}",
        reqid=16388 + 4 * int(number),
    )


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path, monkeypatch)
    made.settings("[defaults]\nmultipath = yes\n")
    return made


@pytest.mark.parametrize("prefix", ["10.2.0.0/24", "fd00:2::/64"])
@pytest.mark.parametrize("joins", list(itertools.permutations("abc")))
@pytest.mark.parametrize("leaves", list(itertools.permutations("abc")))
def test_each_tunnel_that_is_up_has_a_hop(
    machine: Machine, prefix: str, joins: tuple[str, ...], leaves: tuple[str, ...]
) -> None:
    before = machine.kernel.picture()
    there: set[tuple[str, str]] = set()
    for name in joins:
        one = tunnel(name, prefix)
        for environment in establish(one):
            assert machine.send(environment).warnings == ()
            assert machine.send(environment).operations == ()
        there.add((prefix, one.device))
        assert machine.routes() == there
    for name in leaves:
        one = tunnel(name, prefix)
        for environment in withdraw(one):
            machine.send(environment)
            assert machine.send(environment).operations == ()
        there.remove((prefix, one.device))
        assert machine.routes() == there
    assert machine.kernel.picture() == before


def up(machine: Machine, *names: str) -> None:
    for name in names:
        machine.send_all(establish(tunnel(name)))


def devices(machine: Machine) -> set[str]:
    return {device for _, device in machine.routes()}


def test_a_plan_shows_the_command_of_all_hops(machine: Machine) -> None:
    up(machine, "a")
    for environment in establish(tunnel("b")):
        report = machine.send(environment)
        shown = [operation for operation in report.operations if operation.action.startswith("route")]
        if shown:
            break
    assert [command(one) for one in shown] == ["ip route replace 10.2.0.0/24 proto 160 nexthop dev vti5 nexthop dev vti6"]
    assert operation_json(shown[0])["hops"] == ("vti6",)
    assert "joins" not in operation_json(shown[0])


@pytest.mark.parametrize("alone", "abc")
def test_who_does_not_say_it_has_it_alone_or_waits(machine: Machine, alone: str) -> None:
    machine.settings(f"[defaults]\nmultipath = yes\n[connection {alone}]\nmultipath = no\n")
    up(machine, *"abc")
    assert devices(machine) == ({"vti5"} if alone == "a" else {"vti5", "vti6", "vti7"} - {tunnel(alone).device})
    again = machine.send(call(tunnel(alone), "up"))
    assert again.operations == ()
    assert [w for w in again.warnings if "is held by" in w] == list(again.warnings)
    assert bool(again.warnings) == (alone != "a")


def test_the_least_mtu_holds_for_the_whole(machine: Machine) -> None:
    machine.settings("[defaults]\nmultipath = yes\n[connection b]\nmtu = 1300\n[connection c]\nmtu = 1350\n")
    up(machine, *"abc")
    (entry,) = [entry for entry in machine.kernel.table if entry.more]
    assert entry.route.mtu == 1300
    machine.send_all(withdraw(tunnel("b")))
    (entry,) = [entry for entry in machine.kernel.table if entry.more]
    assert entry.route.mtu == 1350


def test_a_route_of_someone_else_stays(machine: Machine) -> None:
    eth0 = machine.kernel.named("eth0").ifindex
    machine.kernel.add_route(Route("10.2.0.0/24", "eth0", protocol=4), eth0)
    before = list(machine.kernel.table)
    up(machine, *"ab")
    machine.send_all(withdraw(tunnel("a")))
    machine.send_all(withdraw(tunnel("b")))
    assert machine.kernel.table == before


def test_a_gateway_is_one_devices_own(machine: Machine) -> None:
    machine.settings("[defaults]\nmultipath = yes\nroute = 10.9.0.0/16 via 10.6.106.2\n")
    up(machine, *"ab")
    assert {device for prefix, device in machine.routes() if prefix == "10.9.0.0/16"} == {"vti5"}


def test_a_device_that_follows_takes_its_hop_along(machine: Machine) -> None:
    machine.settings("[defaults]\nmultipath = yes\nlink = follow\ndelete = never\n")
    up(machine, *"ab")
    machine.send(call(tunnel("b"), "prepare"))
    assert devices(machine) == {"vti5", "vti6"}
    machine.send(call(tunnel("b"), "down"))
    assert devices(machine) == {"vti5"}
    up(machine, "b")
    assert devices(machine) == {"vti5", "vti6"}


def test_a_silent_far_end_loses_its_hop(machine: Machine) -> None:
    up(machine, *"ab")
    with machine.ledger() as ledger:
        set_missed_probes(ledger, "vti5", 3, 0)
    machine.send(call(tunnel("b"), "up"))
    assert devices(machine) == {"vti6"}
    with machine.ledger() as ledger:
        set_missed_probes(ledger, "vti5", 0, 0)
    machine.send(call(tunnel("b"), "up"))
    assert devices(machine) == {"vti5", "vti6"}


@pytest.mark.parametrize("prefix", ["10.2.0.0/24", "fd00:2::/64"])
@pytest.mark.parametrize("last", ["join", "leave"])
def test_a_death_at_any_moment_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str, last: str) -> None:
    for at in range(60):
        one = Machine(tmp_path / str(at), monkeypatch)
        (tmp_path / str(at)).mkdir()
        one.settings("[defaults]\nmultipath = yes\n")
        one.send_all(establish(tunnel("a", prefix)))
        b = tunnel("b", prefix)
        if last == "leave":
            one.send_all(establish(b))
        died = one.dies(call(b, "up" if last == "join" else "down"), at)
        one.send_all(establish(b) if last == "join" else withdraw(b))
        assert devices(one) == ({"vti5", "vti6"} if last == "join" else {"vti5"}), at
        assert one.unfinished() == []
        if not died:
            return
    pytest.fail("it never ends")


def test_a_shared_route_reads_back_from_json() -> None:
    shared = Route("10.2.0.0/24", "vti5", hops=("vti6",), joins=True)
    assert load(json.loads(json.dumps(dump(shared)))) == shared


def test_six_devices_share_it(machine: Machine) -> None:
    up(machine, *"abcdef")
    assert devices(machine) == {tunnel(name).device for name in "abcdef"}
    machine.send_all(withdraw(tunnel("c")))
    assert devices(machine) == {tunnel(name).device for name in "abdef"}


def test_the_order_of_the_hops_says_nothing(machine: Machine) -> None:
    up(machine, *"abc")
    (entry,) = [entry for entry in machine.kernel.table if entry.more]
    machine.kernel.table.remove(entry)
    machine.kernel.table.append(entry._replace(oif=entry.more[1], more=(entry.oif, entry.more[0])))
    assert machine.send(call(tunnel("a"), "up")).operations == ()
    machine.send_all(withdraw(tunnel("a")))
    assert devices(machine) == {"vti6", "vti7"}


def test_a_hop_is_made_anew_where_the_last_address_of_its_device_goes(machine: Machine) -> None:
    other = tunnel("a")._replace(connection="other", theirs="10.4.0.0/24", shared="yes", address="10.99.0.1/30", reqid=7)
    machine.send_all(establish(tunnel("a")._replace(shared="yes")))
    up(machine, "b")
    machine.send_all(establish(other))
    report = machine.send(call(other, "down"))
    (again,) = [one for one in report.operations if one.action == "route replace"]
    assert again.before == again.subject
    assert devices(machine) == {"vti5", "vti6"}
