"""Static routes, policy rules, addresses of several kinds: what the settings add to a tunnel. The rest of placement (VRFs and
namespaces) is tested on a real kernel: tests/kernel/test_placement.py."""

import pytest

from tests.kit.charon import Child, charon_call
from tests.kit.machine import EAST, Machine, Tunnel, call, establish, withdraw
from updown.model.errors import KernelError, Refused
from updown.model.objects import Rule

T = Tunnel("t")


def test_static_routes_come_beside_those_of_the_selectors_and_go_with_the_claim(machine: Machine) -> None:
    machine.settings("[connection t]\nroute = 10.9.0.0/16, fd00:9::/48\n")
    before = machine.kernel.picture()
    machine.send_all(establish(T))
    assert machine.routes() == {("10.2.0.0/24", "vti5"), ("10.9.0.0/16", "vti5"), ("fd00:9::/48", "vti5")}
    machine.send_all(withdraw(T))
    assert machine.kernel.picture() == before


def test_static_routes_need_no_routing(machine: Machine) -> None:
    machine.settings("[connection c]\ninterface = vti5\nroute = 10.9.0.0/16 via 10.6.106.2\naddress = 10.6.106.1/30\n")
    report = machine.send(charon_call(Child(), "up"))
    shown = [operation for operation in report.operations if operation.action == "route add"]
    assert [(route.subject.destination, route.subject.gateway) for route in shown] == [("10.9.0.0/16", "10.6.106.2")]


def test_a_tunnel_is_no_default_route_unless_asked(machine: Machine) -> None:
    everything = Child(pairs=(("0.0.0.0/0", "0.0.0.0/0"),))
    machine.settings("[connection c]\ninterface = vti5\naddress = 10.6.106.1/30, fe80::1/64\nroute = 10.9.0.0/16\n")
    machine.send(charon_call(everything, "up"))
    assert machine.routes() == {("10.9.0.0/16", "vti5")}


def test_a_static_default_route_is_two_halves_and_the_peer_stays_outside(machine: Machine) -> None:
    machine.settings("[connection t]\nroute = default\n")
    machine.send_all(establish(T))
    wanted = {("0.0.0.0/1", "vti5"), ("128.0.0.0/1", "vti5"), ("::/1", "vti5"), ("8000::/1", "vti5")}
    assert machine.routes() == {("10.2.0.0/24", "vti5"), (f"{EAST}/32", "eth0"), *wanted}


def test_a_link_local_address_of_our_own_is_the_only_one(machine: Machine) -> None:
    machine.settings("[connection t]\naddress = fe80::1/64\n")
    report = machine.send(call(T, "up"))
    texts = [operation.action for operation in report.operations]
    assert machine.kernel.files["net/ipv6/conf/vti5/addr_gen_mode"] == "1"
    assert texts.index("sysctl") < texts.index("link set"), "set up, the kernel would have made one already"


def test_rules_lead_to_the_table_and_go_with_the_last_claim(machine: Machine) -> None:
    machine.settings("[connection *]\ntable = 100\nrule = fwmark 5, from fd00:1::/64 iif eth0 priority 900\n")
    before = machine.kernel.picture()
    other = T._replace(connection="u", theirs="10.4.0.0/24", reqid=16393, shared="yes")
    shared = T._replace(shared="yes")
    machine.send_all(establish(shared))
    machine.send_all(establish(other))
    assert machine.kernel.policy == {
        Rule(4, "", 100, 1600, fwmark=5, fwmask=0xFFFFFFFF),
        Rule(6, "", 100, 900, "fd00:1::/64", "eth0"),
    }
    machine.send_all(withdraw(shared))
    assert len(machine.kernel.policy) == 2
    machine.send_all(withdraw(other))
    assert machine.kernel.policy == set()
    assert machine.send(call(other, "down")).operations == ()
    assert before != machine.kernel.picture(), "the shared device stays"


def test_a_rule_of_someone_else_is_used_and_stays(machine: Machine) -> None:
    theirs = Rule(4, "", 100, 1600, fwmark=5, fwmask=0xFFFFFFFF, protocol=4)
    machine.kernel.policy.add(theirs)
    machine.settings("[connection *]\ntable = 100\nrule = fwmark 5\n")
    machine.send_all(establish(T))
    machine.send_all(withdraw(T))
    assert machine.kernel.policy == {theirs}


def test_a_rule_to_the_main_table_is_refused(machine: Machine) -> None:
    machine.settings("[connection *]\nrule = fwmark 5\n")
    before = machine.kernel.picture()
    with pytest.raises(Refused, match="rule needs table = NUMBER"):
        machine.send(call(T, "up"))
    assert machine.kernel.picture() == before


@pytest.mark.parametrize("more", ["", "vrf = blue\n", "vrf = blue\ntable = 5\n", "link = follow\nmtu = 1400\n"])
@pytest.mark.parametrize("dry", [True, False])
def test_a_namespace_that_is_not_there_is_told_by_a_dry_run_too(machine: Machine, dry: bool, more: str) -> None:
    machine.settings(f"[connection c]\ninterface = vti5\nrouting = yes\nnetns = nope\n{more}")
    before = machine.kernel.picture()
    with pytest.raises(KernelError, match="network namespace nope does not exist") as error:
        machine.send(charon_call(Child(), "up"), dry=dry)
    assert error.value.status == 1
    assert machine.kernel.picture() == before
    assert (machine.claims(), machine.unfinished()) == ([], [])


@pytest.mark.parametrize("table", ["", "table = 5\n"])
@pytest.mark.parametrize("dry", [True, False])
def test_so_is_a_vrf_that_is_not_there(machine: Machine, dry: bool, table: str) -> None:
    machine.settings(f"[connection c]\ninterface = vti5\nvrf = blue\n{table}")
    with pytest.raises(KernelError, match="vrf blue"):
        machine.send(charon_call(Child(), "up"), dry=dry)
