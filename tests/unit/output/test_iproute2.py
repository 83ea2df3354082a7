"""Operations as the iproute2 commands that would do them."""

import pytest

from tests.kit.machine import EAST6, WEST, WEST6, Tunnel
from updown.model.objects import Address, Link, Route, Rule
from updown.model.operations import Operation
from updown.model.resources import Clamp, Sysctl
from updown.output.iproute2 import command, wrapped

T = Tunnel(address="10.99.0.1/30")
MADE = Link("vti5", "vti", local=WEST, remote=T.peer, ikey=5, okey=5)
MOVED = MADE._replace(local="198.51.100.9")
OPERATIONS: list[tuple[Operation, str]] = [
    (Operation("link down", MADE._replace(up=False), MADE._replace(up=True)), "ip link set vti5 down"),
    (Operation("link up", MADE._replace(up=True), MADE._replace(up=False)), "ip link set vti5 up"),
    (Operation("link state", MADE._replace(name="vti5@red", dormant=True), MADE), "ip -n red link set vti5 state dormant"),
    (Operation("link state", MADE, MADE._replace(dormant=True)), "ip link set vti5 state up"),
    (Operation("link add", MADE), "ip link add vti5 type vti local 198.51.100.1 remote 198.51.100.2 key 5"),
    (
        Operation("link add", MADE._replace(remote="0.0.0.0", ikey=21, okey=22, mtu=1400)),
        "ip link add vti5 mtu 1400 type vti local 198.51.100.1 remote any ikey 21 okey 22",
    ),
    (
        Operation("link add", Link("v6", "vti6", local=WEST6, remote=EAST6, ikey=1, okey=1)),
        "ip link add v6 type vti6 local 2001:db8:0:1::1 remote 2001:db8:0:1::2 key 1",
    ),
    (Operation("link change", MOVED, MADE), "ip link change vti5 type vti local 198.51.100.9 remote 198.51.100.2 key 5"),
    (
        Operation("link set", MADE._replace(up=True, alias="vti-updown", mtu=1400), MADE),
        "ip link set vti5 mtu 1400 alias vti-updown up",
    ),
    (Operation("link set", MADE, MADE._replace(up=True)), "ip link set vti5 down"),
    (Operation("link delete", MADE), "ip link del vti5"),
    (Operation("address add", Address("vti5", "10.99.0.1/30")), "ip addr add 10.99.0.1/30 dev vti5"),
    (Operation("address delete", Address("vti5", "fd00::1/64")), "ip addr del fd00::1/64 dev vti5"),
    (
        Operation("route add", Route("10.2.0.0/24", "vti5", metric=50, mtu=1400, source="10.1.0.1")),
        "ip route add 10.2.0.0/24 dev vti5 proto 160 metric 50 mtu 1400 src 10.1.0.1",
    ),
    (
        Operation("route add", Route("198.51.100.2/32", "eth0", "198.51.100.254", table=100)),
        "ip route add 198.51.100.2/32 via 198.51.100.254 dev eth0 table 100 proto 160",
    ),
    (Operation("route add", Route("fd00:2::/64", "vti5", metric=1024)), "ip route add fd00:2::/64 dev vti5 proto 160"),
    (Operation("route delete", Route("10.2.0.0/24", "vti5")), "ip route del 10.2.0.0/24 dev vti5 proto 160"),
    (Operation("route replace", Route("10.2.0.0/24", "vti6")), "ip route replace 10.2.0.0/24 dev vti6 proto 160"),
    (Operation("route prepend", Route("10.2.0.0/24", "vti6")), "ip route prepend 10.2.0.0/24 dev vti6 proto 160"),
    (
        Operation("rule add", Rule(4, "vti5", 100, 1600, "10.1.0.0/16", "eth1", 16, 255)),
        "ip rule add priority 1600 from 10.1.0.0/16 iif eth1 fwmark 0x10/0xff lookup 100 protocol 160",
    ),
    (
        Operation("rule add", Rule(4, "vti5", 100, 900, iif="eth1", destination="10.77.0.1/32", inverted=True)),
        "ip rule add not priority 900 to 10.77.0.1/32 iif eth1 lookup 100 protocol 160",
    ),
    (
        Operation("rule delete", Rule(6, "vti5@red", 100, 1600, fwmark=5, fwmask=0xFFFFFFFF)),
        "ip -n red -6 rule del priority 1600 fwmark 0x5 lookup 100 protocol 160",
    ),
    (Operation("link add", Link("ipsec0", "xfrm", external=True)), "ip link add ipsec0 type xfrm external"),
    (
        Operation("route add", Route("10.2.0.0/24", "ipsec0", if_id=42)),
        "ip route add 10.2.0.0/24 encap xfrm if_id 42 dev ipsec0 proto 160",
    ),
    (
        Operation("link add", MADE._replace(name="vti5@red")),
        "ip link add vti5 type vti local 198.51.100.1 remote 198.51.100.2 key 5 && ip link set vti5 netns red",
    ),
    (
        Operation("link set", MADE._replace(name="vti5@red", up=True, vrf="blue"), MADE._replace(name="vti5@red")),
        "ip -n red link set vti5 master blue up",
    ),
    (Operation("link delete", MADE._replace(name="vti5@red")), "ip -n red link del vti5"),
    (
        Operation("address add", Address("vti5@red", "10.0.0.1 peer 10.0.0.2/32")),
        "ip -n red addr add 10.0.0.1 peer 10.0.0.2/32 dev vti5",
    ),
    (
        Operation("route add", Route("10.2.0.0/24", "vti5@red", "10.0.0.2")),
        "ip -n red route add 10.2.0.0/24 via 10.0.0.2 dev vti5 proto 160",
    ),
    (
        Operation("sysctl", Sysctl("vti5@red", "net/ipv4/conf/vti5@red/rp_filter", "2")),
        "ip netns exec red sysctl -w net/ipv4/conf/vti5/rp_filter=2",
    ),
    (Operation("sysctl", Sysctl("vti5", "net/ipv4/conf/vti5/rp_filter", "2")), "sysctl -w net/ipv4/conf/vti5/rp_filter=2"),
    (
        Operation("firewall add", Clamp("vti5", 1438)),
        "nft 'table inet vti-updown-vti5 { chain forward { type filter hook forward priority -150; policy accept; "
        'oifname "vti5" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu comment "leaving: route"; '
        'iifname "vti5" meta nfproto ipv4 tcp flags & (syn | rst) == syn tcp option maxseg size set 1398 '
        'comment "entering: mtu 1438"; '
        'iifname "vti5" meta nfproto ipv6 tcp flags & (syn | rst) == syn tcp option maxseg size set 1378 '
        'comment "entering: mtu 1438"; }; }\'',
    ),
    (
        Operation("firewall replace", Clamp("vti5"), Clamp("vti5", 1438)),
        "nft 'add table inet vti-updown-vti5; delete table inet vti-updown-vti5; "
        "table inet vti-updown-vti5 { chain forward { type filter hook forward priority -150; policy accept; "
        'oifname "vti5" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu comment "leaving: route"; '
        'iifname "vti5" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu comment "entering: route"; '
        "}; }'",
    ),
    (Operation("firewall delete", Clamp("vti5", 1438)), "nft delete table inet vti-updown-vti5"),
]


@pytest.mark.parametrize(("operation", "text"), OPERATIONS, ids=[text for _, text in OPERATIONS])
def test_an_operation_is_shown_as_the_command_that_would_do_it(operation: Operation, text: str) -> None:
    assert command(operation) == text


ACTIONS = (
    *("link add", "link delete", "link change", "link set", "link down", "link up", "link state"),
    *("address add", "address delete"),
    *("route add", "route prepend", "route delete", "route replace"),
    *("rule add", "rule delete", "sysctl", "firewall add", "firewall delete", "firewall replace"),
)


@pytest.mark.parametrize("action", ACTIONS)
def test_every_operation_has_its_command_in_the_table_above(action: str) -> None:
    assert action in {operation.action for operation, _ in OPERATIONS}


@pytest.mark.parametrize(("operation", "text"), OPERATIONS, ids=[text for _, text in OPERATIONS])
def test_undoing_twice_is_doing(operation: Operation, text: str) -> None:
    """Of a route put beside another one, to adding it where nothing else stands by then."""
    again = operation.undo().undo()
    if operation.action == "route prepend":
        operation, text = operation._replace(action="route add"), text.replace("prepend", "add")
    assert (again.action, again.subject) == (operation.action, operation.subject)
    assert command(again).split()[:4] == text.split()[:4]


@pytest.mark.parametrize("width", [40, 60, 74, 118])
def test_a_long_command_is_broken_at_blanks_and_loses_no_word(width: int) -> None:
    text = command(
        Operation("route add", Route("2001:db8:aaaa:bbbb::/64", "fifteen-chars.x", "2001:db8::1", 100, 7, 1400, "2001:db8::2"))
    )
    lines = wrapped(text, width)
    assert all(len(line) <= width for line in lines)
    assert " ".join(line.rstrip("\\").strip() for line in lines) == text
