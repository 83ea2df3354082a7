"""What `mtu = auto` does to claims, devices and routes."""

import pytest

from tests.kit.charon import Child, charon_call
from tests.kit.machine import WEST6, Machine, Tunnel, call, establish, withdraw
from tests.kit.outgoing_sa import CBC, GCM, Sas
from updown import daemons
from updown.concerns.catalogue import dump, key_of, load
from updown.concerns.device_request import DeviceRequest
from updown.concerns.mtu import tunnel_mtu
from updown.kernel import path_mtu as sa_room
from updown.model.errors import KernelError
from updown.model.objects import Link
from updown.model.resources import Mtu, MtuSum
from updown.model.values import AUTO as AUTO_MTU
from updown.output.reasons import reason_text
from updown.output.report import explanation, operation_json
from updown.settings.keys import Settings

T = Tunnel(address="10.99.0.1/30")
AUTO = "[defaults]\nmtu = auto\n"


@pytest.fixture
def sas(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Sas:
    return Sas(machine, monkeypatch)


def texts(machine: Machine, tunnel: Tunnel, verb: str = "up", **more: bool) -> tuple[list[str], tuple[str, ...]]:
    report = machine.send(call(tunnel, verb, **more))  # type: ignore[arg-type]
    return [operation_json(operation)["command"] for operation in report.operations], report.warnings


def test_auto_sets_the_device_and_its_routes(machine: Machine, sas: Sas) -> None:
    machine.settings(AUTO)
    machine.send_all(establish(T))
    assert machine.kernel.named("vti5").mtu == 1446
    assert [entry.route.mtu for entry in machine.kernel.table if entry.route.destination == "10.2.0.0/24"] == [1446]
    assert texts(machine, T) == ([], ())
    assert sas.asked == 4


def test_without_auto_no_sa_is_asked_for(machine: Machine, sas: Sas) -> None:
    machine.settings("[defaults]\nmtu = 1400\n[connection other]\nmtu = auto\n")
    machine.send_all(establish(T) + withdraw(T))
    assert sas.asked == 0


def test_a_changed_sa_changes_the_mtu_by_link_set(machine: Machine, sas: Sas) -> None:
    machine.settings(AUTO)
    machine.send(call(T, "up"))
    sas.use(GCM._replace(encapsulation=2))
    report = machine.send(call(T, "up"))
    shown = [operation_json(operation)["command"] for operation in report.operations]
    assert shown[0] == "ip link set vti5 mtu 1438"
    sum_told = "eth0 1500 - IPv4 20 - UDP 8 - ESP 8 - IV 8 - ICV 16 - trailer 2 = 1438"
    assert reason_text(report.operations[0].reason) == f"t: mtu: {sum_told}"
    machine.settings("[defaults]\nmtu = 1300\n")
    assert reason_text(machine.send(call(T, "up"), dry=True).operations[0].reason) == "t: as it should be"
    machine.settings(AUTO)
    assert texts(machine, T) == ([], ())


def test_an_event_without_an_sa_leaves_the_mtu_as_it_is(machine: Machine, sas: Sas) -> None:
    machine.settings(AUTO)
    machine.send_all([call(T, "prepare", child=False), call(T, "route", child=False)])
    assert machine.kernel.named("vti5").mtu == 1480
    assert sas.asked == 0
    machine.send(call(T, "up"))
    assert machine.kernel.named("vti5").mtu == 1446
    machine.send_all([call(T, "prepare", child=False), call(T, "route", child=False)])
    assert machine.kernel.named("vti5").mtu == 1446
    sas.found = None
    operations, warnings = texts(machine, T)
    assert operations == []
    assert warnings == ("vti5: mtu = auto cannot count its SA: the kernel shows none. It stays 1446; `mtu = NUMBER` sets it",)
    assert texts(machine, T, "route") == ([], ())


def test_an_unknown_cipher_leaves_the_kernels_choice_and_says_so(machine: Machine, sas: Sas) -> None:
    machine.settings(AUTO)
    sas.use(GCM._replace(cipher="rfc9999(new(aes))"))
    _, warnings = texts(machine, T)
    assert machine.kernel.named("vti5").mtu == 1480
    assert "cipher rfc9999(new(aes)) of its SA. It is the kernel's choice" in warnings[0]


@pytest.mark.parametrize(
    ("tunnel", "mtu", "warned"),
    [
        (T, 1146, False),
        (T._replace(address="fd00:99::1/64"), 1280, True),
        (T._replace(mine="fd00:1::/64", theirs="fd00:2::/64"), 1280, True),
    ],
    ids=["IPv4 alone", "an IPv6 address", "an IPv6 selector"],
)
def test_the_floor_of_ipv6(machine: Machine, sas: Sas, tunnel: Tunnel, mtu: int, warned: bool) -> None:
    del sas
    machine.settings(AUTO)
    eth0 = machine.kernel.named("eth0")
    machine.kernel.by_index[eth0.ifindex] = eth0._replace(mtu=1200)
    _, warnings = texts(machine, tunnel)
    assert machine.kernel.named("vti5").mtu == mtu
    assert [word for word in warnings if "1146 fit" in word and "IPv6 needs 1280" in word] == (list(warnings) if warned else [])
    assert bool(warnings) == warned


@pytest.mark.parametrize(("mtu", "written"), [(1279, False), (1280, True)])
def test_a_device_too_small_for_ipv6_has_no_sysctls_of_it(machine: Machine, mtu: int, written: bool) -> None:
    machine.settings(f"[defaults]\nmtu = {mtu}\n")
    report = machine.send(call(T, "up"))
    found = [text for text in (operation_json(operation)["command"] for operation in report.operations) if "net/ipv6" in text]
    assert bool(found) is written


def test_of_many_tunnels_on_a_device_the_least_counts_and_goes(machine: Machine, sas: Sas) -> None:
    """However many there are: the ledger finds the least one."""
    machine.settings(AUTO)
    tunnels = [
        Tunnel(
            f"t{number}", peer=f"198.51.100.{number + 10}", theirs=f"10.{number}.0.0/24", shared="yes", reqid=16388 + 4 * number
        )
        for number in range(8)
    ]
    sizes = [0, 2, 0, 7, 2, 0, 2, 0]
    for tunnel, encapsulation in zip(tunnels, sizes):
        sas.use(GCM._replace(encapsulation=encapsulation))
        machine.send_all(establish(tunnel))
    assert machine.kernel.named("vti5").mtu == 1410
    sas.use(GCM)
    assert texts(machine, tunnels[0]) == ([], ())
    machine.send_all(withdraw(tunnels[3]))
    assert machine.kernel.named("vti5").mtu == 1438
    for number in (1, 4, 6):
        machine.send_all(withdraw(tunnels[number]))
    assert machine.kernel.named("vti5").mtu == 1446


def test_the_way_to_the_peer_is_the_underlay(machine: Machine, sas: Sas) -> None:
    """A route's metric before the device's MTU; never the tunnel's own device."""
    del sas
    machine.settings(AUTO)
    everything = T._replace(theirs="0.0.0.0/0", peer="203.0.113.9")
    eth0 = machine.kernel.named("eth0").ifindex
    (entry,) = [one for one in machine.kernel.table if one.route.destination == "0.0.0.0/0"]
    machine.kernel.table.remove(entry)
    machine.kernel.add_route(entry.route._replace(mtu=1400), eth0)
    machine.send_all(establish(everything))
    assert machine.kernel.named("vti5").mtu == 1346
    (peer,) = [one.route for one in machine.kernel.table if one.route.destination == "203.0.113.9/32"]
    assert peer.mtu == 1400  # the host route keeps what the route it stands before says
    assert texts(machine, everything) == ([], ())


def test_strongswans_vti_has_it_too(machine: Machine, sas: Sas) -> None:
    del sas
    machine.settings("[defaults]\nmtu = auto\ninterface = vti{mark}\nrouting = yes\n")
    machine.send(charon_call(Child(), "up"))
    assert machine.kernel.named("vti5").mtu == 1446


def test_a_daemons_own_device_gets_its_mtu_by_the_route(machine: Machine, sas: Sas) -> None:
    """The device is the daemon's: nothing but our route is set."""
    del sas
    machine.settings(AUTO + "routing = yes\n")
    machine.kernel.add_link(Link("ipsec1", "xfrm", if_id=1, up=True, mtu=1500))
    environment = call(T, "up")
    for name in ("VTI_IFACE", "CONNMARK_IN", "CONNMARK_OUT"):
        del environment[name]
    environment["PLUTO_VIRT_INTERFACE"] = "ipsec1"
    machine.send(environment)
    assert machine.kernel.named("ipsec1").mtu == 1500
    assert [entry.route.mtu for entry in machine.kernel.table if entry.route.destination == "10.2.0.0/24"] == [1446]


def test_explain_shows_the_sum(machine: Machine, sas: Sas) -> None:
    sas.use(CBC._replace(encapsulation=2))
    machine.settings(AUTO)
    environment = call(T, "up")
    lines = explanation(daemons.read(environment), machine.send(environment, dry=True))
    wanted = "# mtu vti5: eth0 1500 - IPv4 20 - UDP 8 - ESP 8 - IV 16 - ICV 16 - padding 8 - trailer 2 = 1422"
    assert wanted in lines
    machine.send(environment)
    assert wanted in explanation(daemons.read(environment), machine.send(environment, dry=True))


def test_an_sa_that_cannot_be_read_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_context: object) -> None:
        raise KernelError("XFRM state: Operation not permitted", 1, "run as root")

    monkeypatch.setattr(sa_room, "outgoing_sa", refused)
    machine.settings(AUTO)
    _, warnings = texts(machine, T)
    assert "Operation not permitted; run as root" in warnings[0]


def test_an_mtu_is_stored_and_sorted_by_its_size() -> None:
    want = Mtu("vti5", 1438, True, MtuSum(1438, (("eth0", 1500), ("IPv4", 62))))
    assert load(dump(want)) == want
    sizes = [68, 999, 1000, 1438, 65515]
    names = [key_of(Mtu("vti5", size)) for size in sizes]
    assert sorted(names) == names


def test_facts_of_an_ipv6_way(machine: Machine, sas: Sas) -> None:
    """The family has an MTU of its own on a device."""
    del sas
    machine.settings(AUTO)
    machine.kernel.files["net/ipv6/conf/eth0/mtu"] = "1420"
    six = T._replace(me=WEST6, peer="2001:db8:0:1::2")
    context = daemons.read(call(six, "up"))
    request = DeviceRequest("vti5", settings=Settings(mtu=AUTO_MTU))
    found = sa_room.mtu_sum(machine.kernel, context, request)  # type: ignore[arg-type]
    assert found == (tunnel_mtu(GCM, 1420, "eth0"), "")
