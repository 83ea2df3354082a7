"""This machine's own addresses: what a tunnel's routes prefer as source, and ends that are inside of their tunnel."""

from __future__ import annotations

import pytest

from tests.kit import field_cases
from tests.kit.charon import Child, charon_call
from tests.kit.machine import EAST, EAST6, WEST, WEST6, Machine, Tunnel, call, establish, withdraw
from tests.kit.reconciling import child, reconcile, said
from updown.model.errors import Refused
from updown.model.objects import Route

T = Tunnel()
SIX = T._replace(mine="fd00:1::/64", theirs="fd00:2::/64")
IN_SIX = SIX._replace(me=WEST6, peer=EAST6)


def sources(machine: Machine) -> dict[str, str]:
    """By destination, the source of each route of ours."""
    return {entry.route.destination: entry.route.source for entry in machine.kernel.table if entry.route.protocol == 160}


# What routes prefer as source


def test_the_gateway_of_the_field_case_reaches_the_other_side(machine: Machine) -> None:
    machine.kernel.physical("lan0", "10.1.0.1/24")
    machine.settings(field_cases.settings("07"))
    machine.send_all(field_cases.calls("07"))
    assert sources(machine) == {"10.2.0.0/24": "10.1.0.1"}


@pytest.mark.parametrize(
    ("tunnel", "lan", "source"),
    [
        (T, ("10.1.0.1/24",), "10.1.0.1"),
        (T, ("10.1.0.77/24",), "10.1.0.77"),
        (T._replace(release=4), ("10.1.0.1/24",), "10.1.0.1"),
        (T._replace(address="10.99.0.1/30"), ("10.1.0.1/24",), "10.1.0.1"),  # leftvti= outside of the selector
        (T._replace(address="10.1.0.9/32"), ("10.1.0.1/24",), ""),  # within: the kernel's choice
        (T._replace(source="10.98.0.1"), ("10.1.0.1/24",), "10.98.0.1"),
        (T._replace(mine="10.0.0.0/8"), ("10.1.5.1/24",), "10.1.5.1"),  # wider than the network
        (T._replace(mine="10.1.0.0/16"), ("192.0.2.1/24", "10.1.7.1/24", "10.1.8.1/24"), "10.1.7.1"),
        (T._replace(mine="10.1.0.128/25"), ("10.1.0.1/24", "10.1.0.200/24"), "10.1.0.200"),  # narrower
        (T._replace(mine="10.1.0.1/32"), ("10.1.0.7/24", "10.1.0.1/24"), "10.1.0.1"),  # one host
        (T._replace(mine="10.1.0.5-10.1.0.9"), ("10.1.0.1/24", "10.1.0.6/24"), "10.1.0.6"),
        (T._replace(mine="10.1.0.0/24", protocol="6", my_port="443"), ("10.1.0.1/24",), "10.1.0.1"),
        (T, ("10.1.1.1/24",), ""),  # none within
        (T, (), ""),
        (T._replace(mine="0.0.0.0/0"), ("10.1.0.1/24",), ""),  # every address is within
        (T._replace(mine=f"{WEST}/32"), ("10.1.0.1/24",), ""),  # the tunnel's own end
        (T._replace(mine=f"{WEST}/32", address="10.99.0.1/30"), ("10.1.0.1/24",), WEST),
        (SIX, ("10.1.0.1/24", "fd00:1::5/64"), "fd00:1::5"),
        (IN_SIX, ("fd00:1::1/64",), "fd00:1::1"),
        (IN_SIX._replace(address="fd00:99::1/64"), ("fd00:1::1/64",), "fd00:1::1"),
        (IN_SIX._replace(address="fe80::1/64"), ("fd00:1::1/64",), "fd00:1::1"),
        (IN_SIX._replace(mine="fd00::/16"), ("fe80::5/64", "fd00:1::1/64"), "fd00:1::1"),
        (T._replace(theirs="fd00:2::/64", mine="fd00:1::/64", source="10.98.0.1"), ("fd00:1::1/64",), "fd00:1::1"),
    ],
)
def test_routes_prefer_the_address_within_the_local_selector(
    machine: Machine, tunnel: Tunnel, lan: tuple[str, ...], source: str
) -> None:
    machine.kernel.physical("lan0", *lan)
    machine.send_all(establish(tunnel))
    assert sources(machine) == {tunnel.theirs: source}
    assert [report.operations for report in machine.send_all(establish(tunnel))] == [()] * 3


def test_charons_xfrm_interface_has_it_too(machine: Machine) -> None:
    machine.kernel.physical("lan0", "10.1.0.1/24")
    machine.settings("[connection c]\ninterface = ipsec{if_id}\nrouting = yes\naddress = 10.99.0.1/30\n")
    machine.send(charon_call(Child(mark_in="", mark_out="", if_id_in="7", if_id_out="7"), "up"))
    assert sources(machine) == {"10.2.0.0/24": "10.1.0.1"}


@pytest.mark.parametrize(
    ("setting", "source"),
    [
        ("source = no", ""),
        ("source = auto", "10.1.0.1"),
        ("source = 10.1.0.2", "10.1.0.2"),
        ("source = 10.1.0.9, fd00:1::9", "10.1.0.9"),
        ("source = fd00:1::9", ""),
        ("route = 10.9.0.0/24", "10.1.0.1"),
    ],
)
def test_the_setting_says_which(machine: Machine, setting: str, source: str) -> None:
    """One that this machine has nowhere is put on the device."""
    machine.kernel.physical("lan0", "10.1.0.1/24", "10.1.0.2/24")
    machine.settings(f"[connection t]\n{setting}\n")
    machine.send_all(establish(T))
    assert sources(machine)["10.2.0.0/24"] == source
    assert set(sources(machine).values()) == {source}
    assert ("10.1.0.9/32" in machine.addresses("vti5")) == ("10.1.0.9" in setting)
    machine.send_all(withdraw(T))
    assert machine.devices() == set()


@pytest.mark.parametrize(
    "value", ["", "yes", "10.1.0.1/24", "10.1.0.1, 10.1.0.2", "127.0.0.1", "0.0.0.0", "fe80::1", "224.0.0.1"]
)
def test_no_other_source_can_be_set(machine: Machine, value: str) -> None:
    with pytest.raises(Refused, match="source"):
        machine.settings(f"[connection t]\nsource = {value}\n")


def test_another_tunnels_address_is_not_taken(machine: Machine) -> None:
    """It goes with that tunnel, and would take this one's route along."""
    other = Tunnel(
        "u", device="vti6", mark_in="6", mark_out="6", peer="198.51.100.3", address="10.1.0.9/24", theirs="10.3.0.0/24"
    )
    machine.send_all([*establish(other), *establish(T)])
    assert sources(machine)["10.2.0.0/24"] == ""


def test_all_addresses_are_read_once_for_a_tunnel_and_only_if_need_be(machine: Machine) -> None:
    machine.kernel.physical("lan0", "10.1.0.1/24")
    machine.send_all(establish(T))
    assert machine.kernel.dumped == []
    wide = T._replace(connection="u", mine="172.16.0.0/12", device="vti6", mark_in="6", mark_out="6", theirs="10.3.0.0/24")
    wide = wide._replace(peer="198.51.100.3", reqid=16400)
    machine.send_all([*establish(wide), *establish(wide)])
    assert machine.kernel.dumped == ["addresses 4"]


def change_lan(machine: Machine, old: str, *new: str) -> None:
    """An address goes, and with it the routes that prefer it; others come."""
    index = machine.kernel.named("lan0").ifindex
    machine.kernel.delete_address(index, old)
    for address in new:
        machine.kernel.add_address(index, address)


@pytest.mark.parametrize("tunnel", [T, IN_SIX], ids=["4", "6"])
@pytest.mark.parametrize("verb", ["down", "up", "reconcile"])
def test_a_route_whose_address_went_is_put_back(machine: Machine, verb: str, tunnel: Tunnel) -> None:
    net = "fd00:1::" if tunnel == IN_SIX else "10.1.0."
    length = 64 if tunnel == IN_SIX else 24
    machine.kernel.physical("lan0", f"{net}1/{length}")
    machine.send_all(establish(tunnel))
    change_lan(machine, f"{net}1/{length}")
    if verb == "reconcile":
        reconcile(machine, said(child(tunnel)))
    else:
        machine.send(call(tunnel, verb, wishes=("UP",)))
    assert sources(machine) == {tunnel.theirs: ""}
    machine.kernel.add_address(machine.kernel.named("lan0").ifindex, f"{net}1/{length}")
    assert reconcile(machine, said(child(tunnel))).decision.edited == ()
    assert sources(machine) == {tunnel.theirs: f"{net}1"}


@pytest.mark.parametrize("verb", ["up", "reconcile"])
def test_a_route_follows_to_another_address(machine: Machine, verb: str) -> None:
    machine.kernel.physical("lan0", "10.1.0.1/24")
    machine.send_all(establish(T))
    change_lan(machine, "10.1.0.1/24", "10.1.0.2/24")
    if verb == "up":
        machine.send(call(T, "up"))
    else:
        reconcile(machine, said(child(T)))
    assert sources(machine) == {"10.2.0.0/24": "10.1.0.2"}


def test_an_edited_source_is_told_with_its_line(machine: Machine) -> None:
    machine.kernel.physical("lan0", "10.1.0.1/24")
    machine.send_all(establish(T))
    machine.settings("[connection t]\nsource = no\n")
    ((_, edits),) = reconcile(machine, said(child(T))).decision.edited
    assert [edit.text for edit in edits] == ["route 10.2.0.0/24: source 10.1.0.1 -> source  (vti-updown.conf:2)"]
    assert sources(machine) == {"10.2.0.0/24": ""}


def test_a_shared_route_has_the_first_tunnels_address(machine: Machine) -> None:
    machine.kernel.physical("lan0", "10.1.0.1/24", "10.1.1.1/24")
    machine.settings("[defaults]\nmultipath = yes\n")
    other = T._replace(
        connection="u", device="vti6", mark_in="6", mark_out="6", peer="198.51.100.3", mine="10.1.1.0/24", reqid=16400
    )
    machine.send_all([*establish(T), *establish(other)])
    (route,) = [entry for entry in machine.kernel.table if entry.route.destination == "10.2.0.0/24"]
    assert (route.route.source, len(route.more)) == ("10.1.0.1", 1)


# Ends inside the tunnel

VTI = "[connection c]\ninterface = vti5\nrouting = yes\naddress = 10.99.0.1/30\n"
XFRM = "[connection c]\ninterface = ipsec{if_id}\nrouting = yes\naddress = 10.99.0.1/30, fd00:99::1/64\n"
C = Child(name="c")
X = C._replace(mark_in="", mark_out="", if_id_in="7", if_id_out="7")
CALLED = {VTI: C, XFRM: X}


def test_the_tunnel_of_the_field_case_keeps_its_ends(machine: Machine) -> None:
    machine.settings(field_cases.settings("05"))
    first, moved = field_cases.calls("05")
    machine.send(first)
    before = machine.kernel.picture()
    with pytest.raises(Refused) as refusal:
        machine.send(moved)
    assert refusal.value.text.startswith("10.99.0.1 is an address of vti5 itself: ")
    assert "mobike = no, or charon.interfaces_ignore = vti5 in strongswan.conf" in refusal.value.hint
    assert machine.kernel.picture() == before
    assert {claim.sa.me for claim in machine.claims()} == {WEST}


@pytest.mark.parametrize(
    ("settings", "me", "peer", "text"),
    [
        (VTI, "10.99.0.1", "10.99.0.2", "10.99.0.1 is an address of vti5 itself"),
        (VTI, "10.99.0.1", EAST, "10.99.0.1 is an address of vti5 itself"),
        (VTI, WEST, "10.99.0.2", "10.99.0.2 is in a network of vti5 itself"),
        (VTI, "10.1.0.1", "10.2.0.1", "the way to 10.2.0.1 is vti5 itself"),  # of the networks behind
        (XFRM, "10.99.0.1", "10.99.0.2", "10.99.0.1 is an address of ipsec7 itself"),
        (XFRM, "fd00:99::1", "fd00:99::2", "fd00:99::1 is an address of ipsec7 itself"),
        (XFRM, WEST6, "fd00:99::2", "fd00:99::2 is in a network of ipsec7 itself"),
        (XFRM, "10.1.0.1", "10.2.0.1", "the way to 10.2.0.1 is ipsec7 itself"),
    ],
)
def test_an_end_inside_its_own_tunnel_is_refused(machine: Machine, settings: str, me: str, peer: str, text: str) -> None:
    """And nothing is changed, not by reconcile either; what ends still ends."""
    machine.kernel.physical("lan0", "10.1.0.1/24")
    machine.settings(settings)
    one = CALLED[settings]
    empty = machine.kernel.picture(indexes=False)
    machine.send(charon_call(one, "up", 1))
    before = machine.kernel.picture()
    moved = charon_call(one._replace(me=me, peer=peer), "up", 2)
    for _ in range(2):
        with pytest.raises(Refused, match=text):
            machine.send(moved)
        assert machine.kernel.picture() == before
    machine.send(charon_call(one._replace(me=me, peer=peer), "down", 2))
    assert machine.kernel.picture() == before
    machine.send(charon_call(one._replace(me=me, peer=peer), "down", 1))
    assert machine.kernel.picture(indexes=False) == empty


def test_an_inside_end_is_refused_where_the_device_is_gone(machine: Machine) -> None:
    """What the claim itself would put there says it."""
    machine.settings(VTI)
    with pytest.raises(Refused, match=r"10\.99\.0\.1 is an address of vti5 itself"):
        machine.send(charon_call(C._replace(me="10.99.0.1", peer="10.99.0.2"), "up"))
    assert machine.devices() == set()


def test_libreswans_inside_end_is_refused(machine: Machine) -> None:
    """By leftvti=, and by an address that an administrator put there."""
    machine.send_all(establish(T._replace(address="10.99.0.1/30")))
    machine.kernel.add_address(machine.kernel.named("vti5").ifindex, "10.88.0.1/24")
    for me in ("10.99.0.1", "10.88.0.1"):
        with pytest.raises(Refused, match="itself") as refusal:
            machine.send(call(T._replace(me=me, address="10.99.0.1/30"), "up"))
        assert "mobike=no" in refusal.value.hint


def test_everything_into_the_tunnel_still_knows_an_end_in_the_networks_behind(machine: Machine) -> None:
    """With 0.0.0.0/0 every peer is behind it; IKE goes from our own network, by a device that leads nowhere else."""
    machine.kernel.physical("lan0", "10.1.0.1/24")
    machine.settings(VTI)
    full = C._replace(pairs=(("10.1.0.0/24", "0.0.0.0/0"),))
    machine.send(charon_call(full, "up", 1))
    before = machine.kernel.picture()
    with pytest.raises(Refused, match=r"the way to 10\.2\.0\.1 is vti5 itself"):
        machine.send(charon_call(full._replace(me="10.1.0.1", peer="10.2.0.1", underlay="lan0"), "up", 2))
    assert machine.kernel.picture() == before


@pytest.mark.parametrize(
    ("settings", "before", "now"),
    [
        # a peer that its own selector holds, and that moves there, or within it
        (VTI, C, C._replace(peer="10.2.0.50")),
        (VTI, C._replace(peer="203.0.113.9", pairs=(("10.1.0.0/24", "203.0.0.0/16"),)), C._replace(peer="203.0.114.7")),
        (VTI, C._replace(peer="203.0.113.9", pairs=(("10.1.0.0/24", "0.0.0.0/0"),)), C._replace(peer="192.0.2.7")),
        # a second uplink through our own network
        (VTI, C._replace(pairs=(("10.1.0.0/24", "0.0.0.0/0"),)), C._replace(me="10.1.0.1", underlay="lan0")),
        # the device borrows the uplink's address
        (VTI.replace("10.99.0.1/30", f"{WEST}/32"), C, C._replace(peer="198.51.100.9")),
        (VTI.replace("10.99.0.1/30", f"{WEST}/24"), C, C._replace(peer="198.51.100.9")),
    ],
)
def test_an_end_outside_is_taken(machine: Machine, settings: str, before: Child, now: Child) -> None:
    machine.kernel.physical("lan0", "10.1.0.1/24")
    machine.kernel.add_route(
        Route("0.0.0.0/0", "lan0", "10.1.0.254", metric=200, protocol=3), machine.kernel.named("lan0").ifindex
    )
    machine.settings(settings)
    machine.send(charon_call(before, "up", 1))
    now = now._replace(pairs=before.pairs)
    machine.send(charon_call(now, "up", 2))
    assert machine.claims()[-1].sa[1:3] == (now.me, now.peer)


def test_a_tunnel_within_another_one_is_none_inside_itself(machine: Machine) -> None:
    machine.send_all(establish(T._replace(address="10.99.0.1/30")))
    inner = Tunnel(
        "n", me="10.99.0.1", peer="10.2.0.50", theirs="10.3.0.0/24", device="vti6", mark_in="6", mark_out="6", reqid=16400
    )
    machine.send_all(establish(inner))
    assert machine.kernel.named("vti6").local == "10.99.0.1"


@pytest.mark.parametrize("me", ["10.99.0.1", WEST])
def test_reconcile_does_not_follow_an_end_into_the_tunnel(machine: Machine, me: str) -> None:
    one = T._replace(address="10.99.0.1/30")
    machine.send_all(establish(one))
    before = machine.kernel.picture()
    outcome = reconcile(machine, said(child(one._replace(me=me, peer="10.99.0.2"))))
    assert [warning.kind for warning in outcome.report.warnings] == ["end inside"]
    assert "and nothing follows: 10.99.0." in outcome.report.warnings[0]
    assert (outcome.report.operations, outcome.decision.moved) == ((), ())
    assert machine.kernel.picture() == before
