"""`mtu = auto` at the edge: for SAs of each kind, what the hook gives the device passes in one ESP packet, and a byte more does
not. What is on the wire counts, and what the kernel itself says it would take. Then the segment sizes in SYNs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests import TOP
from tests.daemon.edge import is_edge, ping
from tests.daemon.nodes import Ground, Node, wait_for
from tests.kit.charon import Child, charon_call
from tests.kit.machine import Environment, Tunnel, call

pytestmark = pytest.mark.kernel

HOOK = [sys.executable, "-I", str(TOP / "hooks/vti-updown"), "--state-dir", "/run/vti-updown", "--config", "/run/s.conf"]
WEST, EAST = "198.51.100.1", "198.51.100.2"
WEST6, EAST6 = "2001:db8:0:1::1", "2001:db8:0:1::2"
CLIENT, SERVER = "10.1.0.9", "10.2.0.9"
CLIENT6, SERVER6 = "fd00:1::9", "fd00:2::9"
SPI = 0x1000
FORGET = """
for path in /sys/class/net/*; do
    case ${path##*/} in lo|eth0|ip_vti0|ip6_vti0|*tnl0) ;; *) ip link del ${path##*/} ;; esac
done
ip xfrm state flush
ip xfrm policy flush
ip link set eth0 mtu 1500
nft flush ruleset
rm -rf /run/vti-updown
"""
DECAPSULATE = """
import signal, socket
kept = []
for family in (socket.AF_INET, socket.AF_INET6):
    end = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        end.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    end.setsockopt(socket.IPPROTO_UDP, 100, 2)  # UDP_ENCAP, ESP in UDP
    end.bind(("", 4500))
    kept.append(end)
print("ready", flush=True)
signal.pause()
"""


class Algorithm(NamedTuple):
    """An algorithm as `ip xfrm` takes it, and the MTU over IPv4 and 1500 bytes, worked out by hand."""

    words: str
    mtu: int


def key(octets: int) -> str:
    return "0x" + "11" * octets


def hmac(cipher: str, octets: int, auth: str, auth_octets: int, bits: int) -> str:
    return f"enc {cipher} {key(octets) if octets else ''} auth-trunc {auth} {key(auth_octets)} {bits}"


ALGORITHMS = {
    "gcm, ICV 16": Algorithm(f"aead rfc4106(gcm(aes)) {key(20)} 128", 1446),
    "gcm, ICV 12": Algorithm(f"aead rfc4106(gcm(aes)) {key(36)} 96", 1450),
    "gcm, ICV 8": Algorithm(f"aead rfc4106(gcm(aes)) {key(20)} 64", 1454),
    "ccm, ICV 16": Algorithm(f"aead rfc4309(ccm(aes)) {key(19)} 128", 1446),
    "ccm, ICV 8": Algorithm(f"aead rfc4309(ccm(aes)) {key(19)} 64", 1454),
    "gmac": Algorithm(f"aead rfc4543(gcm(aes)) {key(20)} 128", 1446),
    "chacha20poly1305": Algorithm(f"aead rfc7539esp(chacha20,poly1305) {key(36)} 128", 1446),
    "cbc, sha1-96": Algorithm(hmac("cbc(aes)", 16, "hmac(sha1)", 20, 96), 1438),
    "cbc, sha256-128": Algorithm(hmac("cbc(aes)", 32, "hmac(sha256)", 32, 128), 1438),
    "cbc, sha256-96": Algorithm(hmac("cbc(aes)", 16, "hmac(sha256)", 32, 96), 1438),
    "cbc, sha384-192": Algorithm(hmac("cbc(aes)", 16, "hmac(sha384)", 48, 192), 1422),
    "cbc, sha512-256": Algorithm(hmac("cbc(aes)", 16, "hmac(sha512)", 64, 256), 1422),
    "cbc, md5-96": Algorithm(hmac("cbc(aes)", 16, "hmac(md5)", 16, 96), 1438),
    "cbc, xcbc-96": Algorithm(hmac("cbc(aes)", 16, "xcbc(aes)", 16, 96), 1438),
    "cbc, cmac-96": Algorithm(hmac("cbc(aes)", 16, "cmac(aes)", 16, 96), 1438),
    "3des, sha1-96": Algorithm(
        f"enc cbc(des3_ede) 0x{'0123456789abcdef' + '1123456789abcdef' + '2123456789abcdef'}"
        f" auth-trunc hmac(sha1) {key(20)} 96",
        1446,
    ),
    "ctr, sha256-128": Algorithm(hmac("rfc3686(ctr(aes))", 20, "hmac(sha256)", 32, 128), 1446),
    "null, sha1-96": Algorithm(f"enc ecb(cipher_null) '' auth-trunc hmac(sha1) {key(20)} 96", 1458),
}
FAMILIES = [(WEST, EAST), (WEST6, EAST6)]
EVERYWHERE = ("gcm, ICV 16", "cbc, sha256-128", "null, sha1-96")
CASES = [(name, 4, False) for name in ALGORITHMS] + [
    (name, family, encapsulated) for name in EVERYWHERE for family, encapsulated in ((4, True), (6, False), (6, True))
]
EACH_TIME = [("gcm, ICV 16", 4, False), ("cbc, sha256-128", 4, True), ("gcm, ICV 16", 6, False)]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = Ground(tmp_path_factory.mktemp("nodes"))
    yield made
    made.close()


def gateway(ground: Ground, name: str, *addresses: str) -> Iterator[Node]:
    node = ground.node(Node, name, *addresses)
    command = ["setpriv", "--pdeathsig", "KILL", *node.inside, sys.executable, "-I", "-c", DECAPSULATE]
    helper = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert helper.stdout is not None
    assert helper.stdout.readline() == "ready\n"
    yield node
    helper.kill()
    helper.wait()
    helper.stdout.close()


@pytest.fixture(scope="module")
def west(ground: Ground) -> Iterator[Node]:
    yield from gateway(ground, "west", f"{WEST}/24", f"{WEST6}/64", "10.1.0.1/24", "fd00:1::1/64")


@pytest.fixture(scope="module")
def east(ground: Ground) -> Iterator[Node]:
    yield from gateway(ground, "east", f"{EAST}/24", f"{EAST6}/64", "10.2.0.1/24", "fd00:2::1/64")


@pytest.fixture(autouse=True)
def clean(west: Node, east: Node) -> Iterator[None]:
    yield
    for node in (west, east):
        node.run("sh", "-c", FORGET)


class Ends(NamedTuple):
    """The SAs of a tunnel: outer addresses, and whether ESP is in UDP."""

    west: str = WEST
    east: str = EAST
    encapsulated: bool = False


def associate(west: Node, east: Node, ends: Ends, words: str, how: str = "mode tunnel", key_words: str = "mark 5") -> None:
    """SAs both ways at both ends, by our own hand, and policies for both families inside."""
    in_udp = " encap espinudp 4500 4500 0.0.0.0" if ends.encapsulated else ""
    if ends.encapsulated and ":" in ends.west:
        in_udp = " encap espinudp 4500 4500 ::"
    on_sa = key_words if key_words.startswith("if_id") else ""
    if how == "mode tunnel":
        how += " flag af-unspec"  # both families inside
    states = [
        f"xfrm state add src {one} dst {other} proto esp spi {spi:#x} reqid 1 {how} replay-window 32 {words}{in_udp} {on_sa}"
        for one, other, spi in ((ends.west, ends.east, SPI + 1), (ends.east, ends.west, SPI))
    ]
    for node, mine, theirs in ((west, ends.west, ends.east), (east, ends.east, ends.west)):
        lines = list(states)
        for inner in ("0.0.0.0/0", "::/0"):
            for direction, source, target in (("out", mine, theirs), ("in", theirs, mine), ("fwd", theirs, mine)):
                template = f"tmpl src {source} dst {target} proto esp reqid 1 mode tunnel"
                lines.append(f"xfrm policy add src {inner} dst {inner} dir {direction} {key_words} {template}")
        node.ip(*lines)


def settings(node: Node, text: str) -> None:
    node.run("sh", "-c", "cat >/run/s.conf", text=text)


def hook(node: Node, environment: Environment, *words: str) -> str:
    """One call; what it printed. It must succeed."""
    pairs = [f"{name}={value}" for name, value in environment.items()]
    return node.run("env", "-i", *pairs, *HOOK, *words).stdout


def event(node: Node, ends: Ends, verb: str = "up") -> Environment:
    """What libreswan would call at this end."""
    here = node.name == "west"
    tunnel = Tunnel(
        me=ends.west if here else ends.east,
        peer=ends.east if here else ends.west,
        mine="10.1.0.0/24" if here else "10.2.0.0/24",
        theirs="10.2.0.0/24" if here else "10.1.0.0/24",
        address="10.99.0.1/30" if here else "10.99.0.2/30",
    )
    environment = call(tunnel, verb, spi=SPI)
    if not here:
        environment["SPI_IN"], environment["SPI_OUT"] = environment["SPI_OUT"], environment["SPI_IN"]
    return environment


def up(west: Node, east: Node, ends: Ends) -> str:
    """Bring the tunnel up with `mtu = auto` at our end, and by hand at the other; what the hook printed."""
    kind = "vti6" if ":" in ends.east else "vti"
    east.ip(
        f"link add vti5 type {kind} local {ends.east} remote {ends.west} key 5",
        "link set vti5 mtu 1500 up",
        "addr add 10.99.0.2/30 dev vti5",
        "addr add fd00:99::2/64 dev vti5 nodad",
    )
    settings(west, "[defaults]\nmtu = auto\naddress = fd00:99::1/64\n")
    return hook(west, event(west, ends))


def mtu_of(node: Node, device: str = "vti5") -> int:
    return int(node.links()[device]["mtu"])


@pytest.mark.parametrize(
    ("name", "family", "encapsulated"),
    [pytest.param(*case, marks=[] if case in EACH_TIME else [pytest.mark.slow]) for case in CASES],
)
def test_what_the_hook_sets_is_what_fits(
    ground: Ground, west: Node, east: Node, name: str, family: int, encapsulated: bool
) -> None:
    """For IPv4 and IPv6 inside."""
    algorithm = ALGORITHMS[name]
    ends = Ends(*FAMILIES[family == 6], encapsulated)
    associate(west, east, ends, algorithm.words)
    up(west, east, ends)
    mtu = mtu_of(west)
    if family == 4 and not encapsulated:
        assert mtu == algorithm.mtu
    is_edge(ground, west, "10.99.0.2", mtu)
    is_edge(ground, west, "fd00:99::2", mtu)


def test_a_byte_more_goes_in_fragments(ground: Ground, west: Node, east: Node) -> None:
    """Where the sender allows it; so nothing smaller than what the hook sets is the edge."""
    associate(west, east, Ends(), ALGORITHMS["cbc, sha256-128"].words)
    up(west, east, Ends())
    mtu = mtu_of(west)
    west.run("ip", "link", "set", "vti5", "mtu", "1600")
    ground.wire.seen()
    assert ping(west, "10.99.0.2", mtu, "-M", "dont").returncode == 0
    assert ground.wire.seen().fragments == []
    ping(west, "10.99.0.2", mtu + 1, "-M", "dont")
    assert [frame.source for frame in ground.wire.seen().fragments][:2] == [WEST, WEST]


def test_the_way_to_the_peer_counts(ground: Ground, west: Node, east: Node) -> None:
    """The route's own metric before the device's MTU; over IPv6 the family's MTU of the device. A changed one is set by the
    next event, and the next but one changes nothing."""
    for ends, line in (
        (Ends(), f"route add {EAST} dev eth0 mtu 1400"),
        (Ends(WEST6, EAST6), f"-6 route add {EAST6} dev eth0 mtu 1400"),
    ):
        associate(west, east, ends, ALGORITHMS["gcm, ICV 16"].words)
        west.run("ip", *line.split())
        try:
            up(west, east, ends)
            mtu = mtu_of(west)
            assert mtu == 1400 - (40 if ":" in ends.west else 20) - 8 - 8 - 16 - 2
            is_edge(ground, west, "10.99.0.2", mtu)
        finally:
            west.run("ip", *line.replace("route add", "route del").split())
        assert f"mtu {mtu + 100}" in hook(west, event(west, ends))
        assert hook(west, event(west, ends)) == ""
        assert mtu_of(west) == mtu + 100
        for node in (west, east):
            node.run("sh", "-c", FORGET)
    ends = Ends(WEST6, EAST6)
    associate(west, east, ends, ALGORITHMS["gcm, ICV 16"].words)
    west.run("sh", "-c", "echo 1420 >/proc/sys/net/ipv6/conf/eth0/mtu")
    try:
        up(west, east, ends)
        assert mtu_of(west) == 1420 - 40 - 8 - 8 - 16 - 2
        is_edge(ground, west, "fd00:99::2", mtu_of(west))
    finally:
        west.run("sh", "-c", "echo 1500 >/proc/sys/net/ipv6/conf/eth0/mtu")


def test_never_below_1280_with_ipv6_inside(west: Node, east: Node) -> None:
    """Or the kernel would take IPv6 off the device. Without IPv6 what fits is set, however little."""
    associate(west, east, Ends(), ALGORITHMS["gcm, ICV 16"].words)
    west.run("ip", "link", "set", "eth0", "mtu", "1300")
    said = up(west, east, Ends())
    assert mtu_of(west) == 1280
    assert "1246 fit" in said.replace("\n", " ")
    assert "warning" in said
    assert "fd00:99::1/64" in west.addresses("vti5")
    for node in (west, east):
        node.run("sh", "-c", FORGET)
    associate(west, east, Ends(), ALGORITHMS["gcm, ICV 16"].words)
    west.run("ip", "link", "set", "eth0", "mtu", "1300")
    settings(west, "[defaults]\nmtu = auto\n")
    assert "warning" not in hook(west, event(west, Ends()))
    assert mtu_of(west) == 1246


@pytest.mark.slow
def test_before_there_is_an_sa_the_kernel_chooses(west: Node, east: Node) -> None:
    """prepare and route without a child leave its choice, `up` sets the MTU, and explain shows the sum."""
    settings(west, "[defaults]\nmtu = auto\n")
    for verb in ("prepare", "route"):
        environment = {**event(west, Ends(), verb), "PLUTO_SA_TYPE": "none", "SPI_IN": "0x0", "SPI_OUT": "0x0"}
        assert "warning" not in hook(west, environment)
    assert mtu_of(west) == 1480
    said = hook(west, event(west, Ends()))
    assert "kernel shows none" in said.replace("\n", " ")
    assert mtu_of(west) == 1480
    associate(west, east, Ends(), ALGORITHMS["gcm, ICV 16"].words)
    shown = " ".join(hook(west, event(west, Ends()), "explain").replace("#", "").split())
    assert "eth0 1500 - IPv4 20 - ESP 8 - IV 8 - ICV 16 - trailer 2 = 1446" in shown
    assert "ip link set vti5 mtu 1446" in hook(west, event(west, Ends()))
    assert mtu_of(west) == 1446
    assert hook(west, event(west, Ends())) == ""


XFRM = Child(mark_in="", mark_out="", if_id_in="42", if_id_out="42")


def test_strongswan_tells_no_spi(ground: Ground, west: Node, east: Node) -> None:
    """An XFRM interface: of the SAs between our two ends that of the same if_id and reqid, the newest. Other tunnels' do not
    count, to the same peer or elsewhere."""
    associate(west, east, Ends(encapsulated=True), ALGORITHMS["cbc, sha256-128"].words, key_words="if_id 42")
    small = ALGORITHMS["cbc, sha512-256"].words
    for other, spi, more in (
        (EAST, 0x77, "reqid 9 if_id 42"),
        (EAST, 0x78, "reqid 1 if_id 43"),
        ("192.0.2.9", 0x79, "reqid 1"),
    ):
        west.ip(f"xfrm state add src {WEST} dst {other} proto esp spi {spi:#x} mode tunnel {small} {more}")
    for node, number in ((west, 1), (east, 2)):
        text = f"[defaults]\ninterface = vti5\nkind = xfrm\nmtu = auto\naddress = 10.99.0.{number}/30 fd00:99::{number}/64\n"
        settings(node, text)
        child = XFRM if number == 1 else XFRM._replace(me=EAST, peer=WEST, pairs=(("10.2.0.0/24", "10.1.0.0/24"),))
        hook(node, charon_call(child, "up"))
    assert mtu_of(west) == mtu_of(east) == 1422
    is_edge(ground, west, "10.99.0.2", 1422)
    is_edge(ground, west, "fd00:99::2", 1422)
    west.ip(f"xfrm state add src {WEST} dst {EAST} proto esp spi 0x80 reqid 1 mode tunnel {small} if_id 42")
    assert "mtu 1422" not in hook(west, charon_call(XFRM, "up"))
    assert mtu_of(west) == 1422
    west.ip(f"xfrm state del src {WEST} dst {EAST} proto esp spi 0x80")


@pytest.mark.slow
def test_transport_mode_is_told(west: Node, east: Node) -> None:
    """A packet keeps its own header there, so more fits: what the kernel says of the route is what is set."""
    associate(west, east, Ends(), ALGORITHMS["gcm, ICV 16"].words, "mode transport", "if_id 42")
    settings(west, "[defaults]\ninterface = ipsec42\nmtu = auto\n")
    child = XFRM._replace(pairs=((f"{WEST}/32", f"{EAST}/32"),))
    said = hook(west, charon_call(child, "up"), "explain")
    assert "not tunnel mode" in said.replace("\n#", "")
    hook(west, charon_call(child, "up"))
    assert mtu_of(west, "ipsec42") == 1466


# -- TCP segments


def tables(node: Node) -> list[str]:
    found = json.loads(node.run("nft", "-j", "list", "tables").stdout)["nftables"]
    return sorted(thing["table"]["name"] for thing in found if "table" in thing)


@pytest.fixture(scope="module")
def hosts(ground: Ground, west: Node, east: Node) -> Iterator[tuple[Node, Node]]:  # noqa: ARG001
    """A host behind each gateway, on the same wire, so that what passes between host and gateway is seen in clear."""
    client = ground.node(Node, "client", f"{CLIENT}/24", f"{CLIENT6}/64")
    server = ground.node(Node, "server", f"{SERVER}/24", f"{SERVER6}/64")
    client.ip("route add 10.2.0.0/24 via 10.1.0.1", "route add fd00:2::/64 via fd00:1::1")
    server.ip("route add 10.1.0.0/24 via 10.2.0.1", "route add fd00:1::/64 via fd00:2::1")
    yield client, server


def connect(host: Node, address: str) -> None:
    """Try a TCP connection that nobody takes: the SYN is what counts."""
    script = "import socket, sys; socket.create_connection((sys.argv[1], 9), 5)"
    host.run(sys.executable, "-I", "-c", script, address, check=False)


def segments(ground: Ground, host: Node, source: str, address: str) -> list[int]:
    """The segment sizes of the SYN on the wire: as the host sent it, and as the far gateway gave it out."""
    ground.wire.seen()
    connect(host, address)
    syns = [frame for frame in ground.wire.seen().frames if frame.mss and frame.source == source]
    sent = [frame.mss for frame in syns if frame.node == host.name]
    came = [frame.mss for frame in syns if frame.node in ("west", "east")]
    assert came, f"no SYN from {source} came through"
    return [sent[0], came[0]]


@pytest.mark.parametrize(("fixed", "mtu"), [("", 1438), ("[device vti5]\nmtu = 1400\n", 1400)], ids=["auto", "a number"])
def test_segments_fit_the_tunnel_both_ways(
    ground: Ground, west: Node, east: Node, hosts: tuple[Node, Node], fixed: str, mtu: int
) -> None:
    """By one table, at one end. It goes with the device, and nobody else's is touched."""
    client, server = hosts
    west.run("nft", "add table inet vti-updown; add table inet theirs")
    associate(west, east, Ends(), ALGORITHMS["cbc, sha256-128"].words)
    text = "[defaults]\naddress = fd00:99::{}/64\nmtu = auto\n"
    settings(east, text.format(2))
    hook(east, event(east, Ends()))
    east.ip("route add fd00:1::/64 dev vti5")
    west_text = text.format(1) + fixed
    settings(west, west_text)
    hook(west, event(west, Ends()))
    west.ip("route add fd00:2::/64 dev vti5")
    assert segments(ground, client, CLIENT, SERVER) == [1460, 1460]
    settings(west, west_text + "[connection t]\nmss = clamp\n")
    assert "nft 'table inet vti-updown-vti5" in hook(west, event(west, Ends())).replace(" \\\n", "")
    assert hook(west, event(west, Ends())) == ""
    assert tables(west) == ["theirs", "vti-updown", "vti-updown-vti5"]
    assert segments(ground, client, CLIENT, SERVER) == [1460, mtu - 40]
    assert segments(ground, server, SERVER, CLIENT) == [1460, mtu - 40]
    assert segments(ground, client, CLIENT6, SERVER6) == [1440, mtu - 60]
    assert segments(ground, server, SERVER6, CLIENT6) == [1440, mtu - 60]
    settings(west, west_text.replace("mtu = auto", "mtu = 1300") + "[connection t]\nmss = clamp\n[device vti5]\nmtu = 1300\n")
    hook(west, event(west, Ends()))
    assert segments(ground, server, SERVER, CLIENT) == [1460, 1260]
    assert hook(west, event(west, Ends())) == ""
    for verb in ("down", "unroute"):
        hook(west, event(west, Ends(), verb))
    assert tables(west) == ["theirs", "vti-updown"]


def test_segments_that_come_out_of_a_vrf_fit_too(ground: Ground, west: Node, east: Node, hosts: tuple[Node, Node]) -> None:
    """Forwarded, they have the VRF as the device they came in by."""
    client, server = hosts
    associate(west, east, Ends(), ALGORITHMS["cbc, sha256-128"].words)
    settings(east, "")
    hook(east, event(east, Ends()))
    west.ip("link add blue type vrf table 1000", "link set blue up", "rule add iif eth0 to 10.2.0.0/24 lookup 1000")
    try:
        text = "[defaults]\nvrf = blue\nmtu = auto\nmss = clamp\n"
        settings(west, text)
        hook(west, event(west, Ends()))
        west.ip("route add 10.1.0.0/24 dev eth0 table 1000")
        assert segments(ground, client, CLIENT, SERVER) == [1460, 1398]
        assert segments(ground, server, SERVER, CLIENT) == [1460, 1398]
        assert hook(west, event(west, Ends())) == ""
        settings(west, text.replace("mtu = auto\n", ""))
        hook(west, event(west, Ends()))
        assert "rt mtu" in west.run("nft", "list", "table", "inet", "vti-updown-vti5").stdout
        assert hook(west, event(west, Ends())) == ""
    finally:
        west.ip("rule del iif eth0 to 10.2.0.0/24 lookup 1000")


@pytest.mark.slow
def test_the_kernels_own_mtu_is_clamped_to_by_the_route(
    ground: Ground, west: Node, east: Node, hosts: tuple[Node, Node]
) -> None:
    client, server = hosts
    associate(west, east, Ends(), ALGORITHMS["gcm, ICV 16"].words)
    settings(west, "[defaults]\nmss = clamp\n")
    settings(east, "")
    for node in (west, east):
        hook(node, event(node, Ends()))
    assert segments(ground, client, CLIENT, SERVER) == [1460, 1440]
    assert segments(ground, server, SERVER, CLIENT) == [1460, 1440]
    assert hook(west, event(west, Ends())) == ""


@pytest.mark.slow
def test_a_table_that_was_changed_is_put_right_and_the_shown_command_does_the_same(west: Node, east: Node) -> None:
    associate(west, east, Ends(), ALGORITHMS["gcm, ICV 16"].words)
    settings(west, "[defaults]\nmss = clamp\nmtu = auto\n")
    shown = hook(west, event(west, Ends()), "--dry-run")
    hook(west, event(west, Ends()))
    made = rules(west)
    west.run("nft", "flush chain inet vti-updown-vti5 forward")
    replaced = hook(west, event(west, Ends()), "--dry-run").splitlines()
    assert "delete table" in replaced[-1]
    assert len(replaced) == 1
    hook(west, event(west, Ends()))
    assert rules(west) == made
    west.run("nft", "delete table inet vti-updown-vti5")
    (line,) = [line for line in shown.splitlines() if line.startswith("nft")]
    west.run("sh", "-c", line)
    assert rules(west) == made
    west.run("sh", "-c", replaced[0])
    assert rules(west) == made
    assert hook(west, event(west, Ends()), "--dry-run") == "# nothing to do\n"
    hook(west, event(west, Ends(), "down"), "clean")
    assert tables(west) == []


def rules(node: Node) -> list[Any]:
    """What is in our table, without what the kernel numbers."""
    found = json.loads(node.run("nft", "-j", "list", "table", "inet", "vti-updown-vti5").stdout)["nftables"]
    inside = [{key: value for key, value in one.items() if key != "handle"} for thing in found for one in thing.values()]
    return [one for one in inside if "json_schema_version" not in one]


@pytest.mark.slow
def test_without_nft_there_is_a_warning_and_the_tunnel_works(west: Node, east: Node) -> None:
    associate(west, east, Ends(), ALGORITHMS["gcm, ICV 16"].words)
    settings(west, "[defaults]\nmss = clamp\n")
    west.run("mount", "--bind", "/dev/null", "/usr/sbin/nft")
    try:
        said = hook(west, event(west, Ends())).replace("\n", " ")
    finally:
        west.run("umount", "/usr/sbin/nft")
    assert "warning" in said
    assert "package nftables" in " ".join(said.replace("vti-updown: t: warning:", "").split())
    assert "vti5" in west.links()
    wait_for(lambda: west.links()["vti5"]["flags"].count("UP"), "vti5 up")


def test_a_device_in_another_namespace_has_its_mtu_and_its_table_there(west: Node, east: Node) -> None:
    """SA and underlay are here, where the daemon is."""
    associate(west, east, Ends(), ALGORITHMS["gcm, ICV 16"].words)
    settings(west, "[defaults]\nnetns = red\nmss = clamp\nmtu = auto\n")
    west.run("ip", "netns", "add", "red")
    try:
        hook(west, event(west, Ends()))
        (link,) = json.loads(west.run("ip", "-n", "red", "-j", "link", "show", "dev", "vti5").stdout)
        assert link["mtu"] == 1446
        there = west.run("ip", "netns", "exec", "red", "nft", "list", "ruleset").stdout
        assert "table inet vti-updown-vti5 " in there
        assert "size set 1406" in there
        assert tables(west) == []
        assert hook(west, event(west, Ends())) == ""
        hook(west, event(west, Ends(), "down"))
        hook(west, event(west, Ends(), "unroute"))
        assert west.run("ip", "netns", "exec", "red", "nft", "list", "ruleset").stdout == ""
    finally:
        west.run("ip", "netns", "del", "red")
