"""What fits a tunnel, by hand-made sums and by figures that are known; and what `mtu = auto` does to claims and devices."""

import struct
from typing import Optional

import pytest

from tests import TOP
from tests.kit.charon import Child, charon_call
from tests.kit.machine import WEST6, Machine, Tunnel, call, establish, withdraw
from tests.unit.kernel.netlink.test_xfrm import state as xfrm_state
from updown import daemons
from updown.concerns.mtu import AH, BEET, ESP, TRANSPORT, TUNNEL, MtuFacts, Sa, device_mtu, sum_text, tunnel_mtu
from updown.kernel import path_mtu as sa_room
from updown.kernel.netlink.wire import attribute, attribute_u32
from updown.kernel.path_mtu import Outgoing, decode, newest, of_tunnel
from updown.model.errors import KernelError
from updown.model.ipsec import Key
from updown.model.objects import Link
from updown.model.resources import Mtu, MtuSum, dump, key_of, load
from updown.output.report import explanation, operation_json

GCM = Sa(ESP, TUNNEL, 4, "rfc4106(gcm(aes))", 16)
CBC = Sa(ESP, TUNNEL, 4, "cbc(aes)", 16)
NULL = Sa(ESP, TUNNEL, 4, "ecb(cipher_null)", 12)

FITS: dict[str, tuple[Sa, int, int]] = {
    # 1500 - 20 - 8 - 8 - 16 = 1448, less 2
    "gcm, ICV 16": (GCM, 1500, 1446),
    "gcm, ICV 12": (GCM._replace(icv=12), 1500, 1450),
    "gcm, ICV 8": (GCM._replace(icv=8), 1500, 1454),
    "ccm, ICV 16": (GCM._replace(cipher="rfc4309(ccm(aes))"), 1500, 1446),
    "ccm, ICV 12": (GCM._replace(cipher="rfc4309(ccm(aes))", icv=12), 1500, 1450),
    "ccm, ICV 8": (GCM._replace(cipher="rfc4309(ccm(aes))", icv=8), 1500, 1454),
    "gmac": (GCM._replace(cipher="rfc4543(gcm(aes))"), 1500, 1446),
    "chacha20poly1305": (GCM._replace(cipher="rfc7539esp(chacha20,poly1305)"), 1500, 1446),
    # 1500 - 20 - 8 - 16 - 12 = 1444, down to 1440, less 2: what Cisco's and others' tables have
    "cbc, sha1-96": (CBC._replace(icv=12), 1500, 1438),
    "cbc, md5-96, xcbc-96, cmac-96, sha256-96": (CBC._replace(icv=12), 1500, 1438),
    "cbc, sha256-128": (CBC, 1500, 1438),
    "cbc, sha384-192": (CBC._replace(icv=24), 1500, 1422),
    "cbc, sha512-256": (CBC._replace(icv=32), 1500, 1422),
    # 1500 - 20 - 8 - 8 - 12 = 1452, down to 1448, less 2
    "3des, sha1-96": (Sa(ESP, TUNNEL, 4, "cbc(des3_ede)", 12), 1500, 1446),
    "ctr, sha256-128": (Sa(ESP, TUNNEL, 4, "rfc3686(ctr(aes))", 16), 1500, 1446),
    "ctr, sha1-96": (Sa(ESP, TUNNEL, 4, "rfc3686(ctr(aes))", 12), 1500, 1450),
    "null, sha1-96": (NULL, 1500, 1458),
    "null, sha256-128": (NULL._replace(icv=16), 1500, 1454),
    "cbc without an ICV": (CBC._replace(icv=0), 1500, 1454),
    # in UDP 8 more
    "gcm in UDP": (GCM._replace(encapsulation=2), 1500, 1438),
    "cbc, sha256-128 in UDP": (CBC._replace(encapsulation=2), 1500, 1422),
    "null, sha1-96 in UDP": (NULL._replace(encapsulation=2), 1500, 1450),
    "gcm in UDP without an IKE marker": (GCM._replace(encapsulation=1), 1500, 1430),
    "gcm in TCP": (GCM._replace(encapsulation=7), 1500, 1410),
    # over IPv6 20 more
    "gcm over IPv6": (GCM._replace(outer=6), 1500, 1426),
    "cbc, sha256-128 over IPv6": (CBC._replace(outer=6), 1500, 1406),
    "cbc, sha512-256 over IPv6": (CBC._replace(outer=6, icv=32), 1500, 1390),
    "gcm over IPv6 in UDP": (GCM._replace(outer=6, encapsulation=2), 1500, 1418),
    # other ways
    "gcm over PPPoE": (GCM, 1492, 1438),
    "gcm over a way that is no multiple of 4": (GCM, 1499, 1442),
    "cbc over one of 1491": (CBC, 1491, 1422),
    "gcm over jumbo frames": (GCM, 9000, 8946),
    "gcm over IPv6's least": (GCM._replace(outer=6), 1280, 1206),
    # a packet's own header stays: 1500 - 8 - 8 - 16 - 20 = 1448, less 2, plus 20
    "gcm, transport": (GCM._replace(mode=TRANSPORT), 1500, 1466),
    "gcm, transport over IPv6": (GCM._replace(mode=TRANSPORT, outer=6), 1500, 1466),
    "cbc, sha256-128, transport": (CBC._replace(mode=TRANSPORT), 1500, 1458),
    "cbc, sha256-128, transport over IPv6": (CBC._replace(mode=TRANSPORT, outer=6), 1500, 1446),
    "gcm under IPComp": (GCM._replace(mode=TRANSPORT, compressed=True), 1500, 1446),
    "gcm, beet": (GCM._replace(mode=BEET), 1500, 1458),
    "gcm, beet, IPv6 in IPv6": (GCM._replace(mode=BEET, outer=6, selected=6), 1500, 1466),
    "gcm, beet, IPv4 in IPv6": (GCM._replace(mode=BEET, outer=6), 1500, 1438),
    # AH has no trailer; 12 + 12 is a multiple of 8, 12 + 16 becomes 32, or 28 where 4 will do
    "AH, sha1-96": (Sa(AH, TUNNEL, 4, icv=12), 1500, 1456),
    "AH, sha256-128": (Sa(AH, TUNNEL, 4, icv=16), 1500, 1448),
    "AH, sha256-128, aligned to 4": (Sa(AH, TUNNEL, 4, icv=16, align4=True), 1500, 1452),
    "AH, sha256-128, over IPv6": (Sa(AH, TUNNEL, 6, icv=16, align4=True), 1500, 1428),
}


@pytest.mark.parametrize("case", FITS)
def test_what_fits(case: str) -> None:
    sa, underlay, mtu = FITS[case]
    assert tunnel_mtu(sa, underlay).size == mtu


STREAM = "gcm in TCP"


@pytest.mark.parametrize("case", sorted(set(FITS) - {STREAM}))
@pytest.mark.parametrize("underlay", range(1480, 1512))
def test_one_byte_more_does_not_fit(case: str, underlay: int) -> None:
    """Counted the other way round: the size of the outer packet for an inner one of a given size."""
    sa, _, _ = FITS[case]
    mtu = tunnel_mtu(sa, underlay).size
    assert outer_size(sa, mtu) <= underlay < outer_size(sa, mtu + 1)


def outer_size(sa: Sa, size: int) -> int:
    """What becomes of a packet with `size` bytes (RFC 4303; esp_output)."""
    header = {4: 20, 6: 40}[sa.outer]
    tunnel = sa.mode == TUNNEL or sa.compressed
    if sa.protocol == AH:
        ah = 12 + sa.icv
        step = 4 if sa.align4 and sa.outer == 4 else 8
        ah += -ah % step
        return size + ah + header
    iv = {"cbc(aes)": 16, "cbc(des3_ede)": 8, "ecb(cipher_null)": 0}.get(sa.cipher, 8)
    block = {"cbc(aes)": 16, "cbc(des3_ede)": 8}.get(sa.cipher, 4)
    pseudo = 0
    if sa.mode == BEET and sa.selected == 4:
        pseudo = 8 if sa.outer == 4 else 28
    inside = size if tunnel else size - header
    encrypted = -(-(inside + 2) // block) * block
    return header + {0: 0, 1: 16, 2: 8}[sa.encapsulation] + pseudo + 8 + iv + encrypted + sa.icv


@pytest.mark.parametrize(
    ("sa", "said"),
    [
        (GCM._replace(cipher="rfc9999(new(aes))"), "cipher rfc9999(new(aes)) of its SA"),
        (GCM._replace(cipher=""), "cipher none of its SA"),
        (GCM._replace(mode=5), "mode 5 of its SA"),
        (GCM._replace(encapsulation=4), "encapsulation 4 of its SA"),
    ],
)
def test_what_is_not_known_is_named(sa: Sa, said: str) -> None:
    with pytest.raises(ValueError, match="of its SA") as caught:
        tunnel_mtu(sa, 1500)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("sa", "text"),
    [
        (
            GCM._replace(encapsulation=2),
            "eth0 1500 - IPv4 20 - UDP 8 - ESP 8 - IV 8 - ICV 16 - trailer 2 = 1438",
        ),
        (
            CBC._replace(outer=6),
            "eth0 1500 - IPv6 40 - ESP 8 - IV 16 - ICV 16 - padding 12 - trailer 2 = 1406",
        ),
        (
            GCM._replace(mode=TRANSPORT),
            "eth0 1500 - ESP 8 - IV 8 - ICV 16 - trailer 2 = 1466 (not tunnel mode: a packet's own header stays)",
        ),
        (Sa(AH, TUNNEL, 4, icv=16), "eth0 1500 - IPv4 20 - AH 32 = 1448"),
    ],
)
def test_the_sum_is_shown(sa: Sa, text: str) -> None:
    assert sum_text(tunnel_mtu(sa, 1500, "eth0")) == text


@pytest.mark.parametrize(
    ("least4", "least6", "mtu"),
    [(0, 0, 0), (1400, 0, 1400), (1400, 1300, 1300), (1200, 1300, 1280), (0, 1200, 1280), (1200, 0, 1200)],
)
def test_a_device_with_ipv6_inside_is_never_below_1280(least4: int, least6: int, mtu: int) -> None:
    assert device_mtu(least4, least6) == mtu


IN_THE_PAGE = {
    "AES-GCM, AES-CCM, ChaCha20-Poly1305, ICV 16": GCM,
    "AES-GCM, ICV 12": GCM._replace(icv=12),
    "AES-GCM, ICV 8": GCM._replace(icv=8),
    "AES-CBC, SHA1-96": CBC._replace(icv=12),
    "AES-CBC, SHA2-256-128": CBC,
    "AES-CBC, SHA2-512-256": CBC._replace(icv=32),
    "3DES, SHA1-96": Sa(ESP, TUNNEL, 4, "cbc(des3_ede)", 12),
    "null, SHA1-96": NULL,
}


def test_the_figures_of_the_page_are_right() -> None:
    page = (TOP / "docs/mtu.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:2] == "| "]
    found = {name: list(map(int, figures)) for name, *figures in rows[1:]}
    ways: tuple[dict[str, int], ...] = ({}, {"encapsulation": 2}, {"outer": 6})
    assert found == {
        name: [tunnel_mtu(sa._replace(**way), 1500).size for way in ways]  # type: ignore[arg-type]
        for name, sa in IN_THE_PAGE.items()
    }


# -- what the kernel tells of an SA


def algorithm(name: str, key_bits: int, bits: Optional[int] = None) -> bytes:
    size = b"" if bits is None else struct.pack("=I", bits)
    return name.encode().ljust(64, b"\0") + struct.pack("=I", key_bits) + size + b"\x11" * (key_bits // 8)


AEAD = attribute(18, algorithm("rfc4106(gcm(aes))", 160, 128))
HMAC = attribute(2, algorithm("cbc(aes)", 128)) + attribute(20, algorithm("hmac(sha256)", 256, 128))
IN_UDP = attribute(4, struct.pack("=HHH2x16x", 2, 4500, 4500))


def test_algorithms_are_read() -> None:
    assert decode(xfrm_state() + AEAD).sa == GCM
    assert decode(xfrm_state() + HMAC).sa == CBC
    assert decode(xfrm_state() + HMAC + IN_UDP).sa == CBC._replace(encapsulation=2)
    assert decode(xfrm_state()).sa == Sa(ESP, TUNNEL, 4)


def test_the_mark_that_an_sa_sets_is_read() -> None:
    assert decode(xfrm_state() + AEAD).output_mark == (0, 0)
    assert decode(xfrm_state() + AEAD + attribute_u32(29, 7)).output_mark == (7, 0xFFFFFFFF)
    assert decode(xfrm_state() + AEAD + attribute_u32(29, 7) + attribute_u32(30, 0xFF)).output_mark == (7, 0xFF)


@pytest.mark.parametrize("kind", [2, 18, 20])
def test_a_short_algorithm_is_refused(kind: int) -> None:
    with pytest.raises(KernelError):
        decode(xfrm_state() + attribute(kind, b"cbc(aes)".ljust(64, b"\0")))


def outgoing(spi: int, added: int = 0, reqid: int = 1, key: Key = Key(), protocol: int = ESP) -> Outgoing:  # noqa: B008
    return Outgoing(GCM._replace(added=added, protocol=protocol), spi, reqid, key)


def test_an_sa_is_picked_by_what_the_daemon_told() -> None:
    child = Child(mark_in="5/0xffffffff", mark_out="5/0xffffffff")
    context = daemons.read(charon_call(child, "up"))
    ours = [outgoing(1, key=Key(5, 0xFFFFFFFF)), outgoing(2)]
    others = [
        outgoing(3, reqid=2),
        outgoing(4, key=Key(6, 0xFFFFFFFF)),
        outgoing(5, key=Key(if_id=9)),
        outgoing(0),
        outgoing(6, protocol=108),
    ]
    assert of_tunnel(context, [*others, *ours]) == ours
    by_if_id = daemons.read(charon_call(Child(mark_in="", mark_out="", if_id_in="9", if_id_out="9"), "up"))
    assert [one.spi for one in of_tunnel(by_if_id, [*others, *ours])] == [5]


def test_the_newest_counts_and_of_one_second_the_first_listed() -> None:
    assert newest([]) is None
    found = newest([outgoing(1, 5), outgoing(2, 9), outgoing(3, 9)])
    assert found is not None
    assert found.spi == 2


# -- what an event makes of it


T = Tunnel(address="10.99.0.1/30")
AUTO = "[defaults]\nmtu = auto\n"


class Sas:
    """The SA that the kernel would show."""

    def __init__(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.machine = machine
        self.found: Optional[Outgoing] = Outgoing(GCM, 0x1001, 1, Key())
        self.asked = 0
        monkeypatch.setattr(sa_room, "outgoing_sa", self.find)

    def find(self, _context: object) -> Optional[Outgoing]:
        self.asked += 1
        return self.found

    def use(self, sa: Sa) -> None:
        self.found = Outgoing(sa, 0x1001, 1, Key())


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
    assert report.operations[0].reason.endswith(
        "eth0 1500 - IPv4 20 - UDP 8 - ESP 8 - IV 8 - ICV 16 - trailer 2 = 1438"
    )
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
    assert warnings == (
        "vti5: mtu = auto cannot count its SA: the kernel shows none. It stays 1446; `mtu = NUMBER` sets it",
    )
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
    assert [word for word in warnings if "1146 fit" in word and "IPv6 needs 1280" in word] == (
        list(warnings) if warned else []
    )
    assert bool(warnings) == warned


@pytest.mark.parametrize(("mtu", "written"), [(1279, False), (1280, True)])
def test_a_device_too_small_for_ipv6_has_no_sysctls_of_it(machine: Machine, mtu: int, written: bool) -> None:
    machine.settings(f"[defaults]\nmtu = {mtu}\n")
    report = machine.send(call(T, "up"))
    found = [
        text for text in (operation_json(operation)["command"] for operation in report.operations) if "net/ipv6" in text
    ]
    assert bool(found) is written


def test_of_many_tunnels_on_a_device_the_least_counts_and_goes(machine: Machine, sas: Sas) -> None:
    """However many there are: the ledger finds the least one."""
    machine.settings(AUTO)
    tunnels = [
        Tunnel(
            f"t{number}",
            peer=f"198.51.100.{number + 10}",
            theirs=f"10.{number}.0.0/24",
            shared="yes",
            reqid=16388 + 4 * number,
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
    found = sa_room.gather(context, machine.lines, machine.kernel)  # type: ignore[arg-type]
    assert found == MtuFacts(GCM, 1420, "eth0")
