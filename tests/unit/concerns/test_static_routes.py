"""Static routes, policy rules, addresses of several kinds: what the settings add to a tunnel. The rest of placement (VRFs and
namespaces) is tested on a real kernel: tests/kernel/test_placement.py."""

import pytest

from tests.kit import field_cases
from tests.kit.charon import Child, charon_call
from tests.kit.machine import EAST, Machine, Tunnel, call, establish, withdraw
from updown.model.errors import KernelError, Refused
from updown.model.objects import Link, Rule

T = Tunnel("t")


def test_static_routes_come_beside_those_of_the_selectors_and_go_with_the_claim(machine: Machine) -> None:
    machine.settings("[connection t]\nroute = 10.9.0.0/16, fd00:9::/48\n")
    before = machine.kernel.picture()
    machine.send_all(establish(T))
    assert machine.routes() == {("10.2.0.0/24", "vti5"), ("10.9.0.0/16", "vti5"), ("fd00:9::/48", "vti5")}
    machine.send_all(withdraw(T))
    assert machine.kernel.picture() == before


def test_a_static_route_may_have_a_source_of_its_own(machine: Machine) -> None:
    machine.kernel.physical("lan0", "10.1.0.1/24")
    machine.settings("[connection t]\nroute = 10.9.0.0/16 src 10.1.0.1, 10.8.0.0/16\naddress = 10.6.106.1/30\n")
    machine.send_all(establish(T._replace(source="10.1.0.7")))
    found = {entry.route.destination: entry.route.source for entry in machine.kernel.table if entry.route.device == "vti5"}
    assert found == {"10.2.0.0/24": "10.1.0.7", "10.8.0.0/16": "10.1.0.7", "10.9.0.0/16": "10.1.0.1"}


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


def test_a_rule_of_a_destination_and_one_that_is_turned_round_are_two(machine: Machine) -> None:
    machine.settings(
        "[connection *]\ntable = 100\nrule = to fd00:7::/64, to 10.77.0.1, not to 10.77.0.1, to 10.77.0.1 iif eth0\n"
    )
    machine.send_all(establish(T))
    assert machine.kernel.policy == {
        Rule(6, "", 100, 1600, destination="fd00:7::/64"),
        Rule(4, "", 100, 1600, destination="10.77.0.1/32"),
        Rule(4, "", 100, 1600, destination="10.77.0.1/32", inverted=True),
        Rule(4, "", 100, 1600, iif="eth0", destination="10.77.0.1/32"),
    }
    assert machine.send(call(T, "up")).operations == ()
    machine.send_all(withdraw(T))
    assert machine.kernel.policy == set()


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


PLACED = "[connection *]\ninterface = ipsec{if_id:x}\n"


def test_a_name_and_addresses_have_the_tunnels_values(machine: Machine) -> None:
    machine.settings(f"{PLACED}address = 10.99.{{if_id}}.1/30, fd00:{{if_id_in:x}}::1/64\n")
    child = Child(mark_in="", mark_out="", if_id_in="171", if_id_out="171")
    machine.send(charon_call(child, "up"))
    assert machine.devices() == {"ipsecab"}
    assert machine.addresses("ipsecab") == ["10.99.171.1/30", "fd00:ab::1/64"]
    assert machine.send(charon_call(child, "up")).operations == ()
    machine.send(charon_call(child, "down"))
    assert machine.devices() == set()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "address = 10.99.{mark}.1/30",
            "address = 10.99.{mark}.1/30 gives 10.99.300.1/30: an IPv4 or IPv6 address is expected",
        ),
        ("address = 10.99.0.{mark}/16", "address = 10.99.0.{mark}/16 gives 10.99.0.300/16: an IPv4 or IPv6"),
        ("netns = {connection}", "netns = {connection} gives two words: a name such as `ip netns add` takes"),
        ("vrf = v{connection}", "vrf = v{connection} gives vtwo words: a device name is letters"),
    ],
)
def test_values_that_make_nothing_of_it_are_refused(machine: Machine, line: str, said: str) -> None:
    machine.settings(f"[connection *]\ninterface = vti5\n{line}\n")
    child = Child(name="two words", mark_in="300/0xffffffff", mark_out="300/0xffffffff")
    with pytest.raises(Refused) as refusal:
        machine.send(charon_call(child, "up"))
    assert refusal.value.text.startswith(said)
    assert (machine.devices(), machine.claims()) == (set(), [])


def test_a_placeholder_without_a_value_is_no_device_and_one_line(machine: Machine) -> None:
    machine.settings("[connection *]\ninterface = vti5\naddress = 10.99.{if_id}.1/30\n")
    report = machine.send(charon_call(Child(), "up"))
    assert report.remarks == ("no device: address = 10.99.{if_id}.1/30 needs a value this connection does not have",)
    assert machine.devices() == set()


def test_a_template_in_the_settings_of_plutos_own_device_counts_for_addresses_alone(machine: Machine) -> None:
    machine.kernel.add_link(Link("ipsec7", "xfrm", if_id=7, up=True))
    machine.settings("[connection *]\nnetns = {mark}\nvrf = {mark}\naddress = 10.99.{if_id}.1/30\n")
    own = T._replace(device="", routing="", shared="", mark_in="", mark_out="")
    report = machine.send({**call(own, "up"), "PLUTO_VIRT_INTERFACE": "ipsec7"})
    assert (machine.addresses("ipsec7"), report.warnings) == (["10.99.7.1/30"], ())


FILES = sorted(path.name for path in field_cases.case("15").glob("*.conf"))


@pytest.mark.parametrize("file", FILES)
def test_what_people_carry_over_from_their_scripts_is_taken(machine: Machine, file: str) -> None:
    machine.settings(field_cases.settings("15", file))
    by_id = Child(mark_in="", mark_out="", if_id_in="10", if_id_out="10")
    child = by_id if file == "hex-name.conf" else Child()
    machine.kernel.physical("lan0", "10.1.0.1/24")
    if file == "netns-by-name.conf":
        with pytest.raises(KernelError, match="network namespace c does not exist"):  # which the connection names
            machine.send(charon_call(Child(), "up"))
        return
    report = machine.send(charon_call(child, "up"))
    assert report.warnings == ()
    assert any(operation.action == "link add" for operation in report.operations)
