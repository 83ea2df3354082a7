"""What fits a tunnel, by hand-made sums and by figures that are known."""

import pytest

from tests import TOP
from tests.kit.outgoing_sa import CBC, GCM, NULL
from updown.concerns.mtu import AH, BEET, ESP, TRANSPORT, TUNNEL, device_mtu, sum_text, tunnel_mtu
from updown.model.ipsec import Sa

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
        (GCM._replace(encapsulation=2), "eth0 1500 - IPv4 20 - UDP 8 - ESP 8 - IV 8 - ICV 16 - trailer 2 = 1438"),
        (CBC._replace(outer=6), "eth0 1500 - IPv6 40 - ESP 8 - IV 16 - ICV 16 - padding 12 - trailer 2 = 1406"),
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
