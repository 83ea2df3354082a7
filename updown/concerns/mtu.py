"""The largest packet a tunnel carries without fragments: from its SA and the underlay, to the byte. Pure.

The arithmetic is the kernel's own (net/xfrm/xfrm_state.c xfrm_state_mtu; header lengths from esp4.c, esp6.c and ah4.c, ah6.c),
written as the sum that a person reads. docs/mtu.md says what it cannot know."""

from __future__ import annotations

from collections.abc import Iterable

from updown.concerns.device_request import Tunnel
from updown.model.claims import SaInfo
from updown.model.concern import Concern
from updown.model.errors import Notice
from updown.model.ipsec import Sa
from updown.model.objects import family
from updown.model.record import Any
from updown.model.resources import Mtu, MtuSum, Resource, load_sum
from updown.model.values import AUTO
from updown.settings.keys import Settings

IPV6_LEAST = 1280
"""Bytes: below it the kernel takes IPv6 off a device (RFC 8200, net/ipv6/addrconf.c)."""

ESP, AH = 50, 51
TUNNEL, TRANSPORT, BEET = 1, 0, 4  # XFRM_MODE_*
MODES = {TUNNEL: "tunnel", TRANSPORT: "transport", BEET: "beet"}

HEADER = {4: 20, 6: 40}
ESP_HEADER, ESP_TRAILER, AH_HEADER, BEET_HEADER = 8, 2, 12, 8  # trailer: pad length and next header

ENCAPSULATIONS: dict[int, tuple[str, int]] = {
    1: ("UDP", 16),  # UDP_ENCAP_ESPINUDP_NON_IKE
    2: ("UDP", 8),  # UDP_ENCAP_ESPINUDP
    7: ("TCP", 34),  # TCP_ENCAP_ESPINTCP: length 2, header 20, timestamps 12: so that a packet is one segment
}

CIPHERS: dict[str, tuple[int, int]] = {
    **{f"cbc({name})": (16, 16) for name in ("aes", "camellia", "serpent", "twofish", "sm4")},
    **{f"cbc({name})": (8, 8) for name in ("des3_ede", "des", "cast5", "blowfish")},
    **{f"rfc3686(ctr({name}))": (1, 8) for name in ("aes", "sm4")},
    "ecb(cipher_null)": (1, 0),
    **dict.fromkeys(("rfc4106(gcm(aes))", "rfc4106(gcm(sm4))", "rfc4309(ccm(aes))", "rfc4309(ccm(sm4))"), (1, 8)),
    **dict.fromkeys(("rfc4543(gcm(aes))", "rfc7539esp(chacha20,poly1305)"), (1, 8)),
}
"""Block and IV, in bytes, of each cipher by the name the kernel gives it (net/xfrm/xfrm_algo.c)."""


def tunnel_mtu(sa: Sa, underlay: int, device: str = "underlay") -> MtuSum:
    """The largest inner packet. Raises ValueError, saying what is not known, for an SA that this cannot count."""
    if sa.mode not in MODES:
        raise ValueError(f"mode {sa.mode} of its SA")
    tunnel = sa.mode == TUNNEL or sa.compressed
    parts = [(f"IPv{sa.outer}", HEADER[sa.outer])] if tunnel else []
    if sa.encapsulation:
        if sa.encapsulation not in ENCAPSULATIONS:
            raise ValueError(f"encapsulation {sa.encapsulation} of its SA")
        parts.append(ENCAPSULATIONS[sa.encapsulation])
    if sa.mode == BEET and sa.selected == 4:
        parts.append(("BEET", BEET_HEADER + (HEADER[6] - HEADER[4] if sa.outer == 6 else 0)))
    if sa.protocol == AH:
        aligned = 4 if sa.align4 and sa.outer == 4 else 8
        parts.append(("AH", -(-(AH_HEADER + sa.icv) // aligned) * aligned))
    elif sa.cipher not in CIPHERS:
        raise ValueError(f"cipher {sa.cipher or 'none'} of its SA")
    else:
        block, vector = CIPHERS[sa.cipher]
        parts += [("ESP", ESP_HEADER), ("IV", vector), ("ICV", sa.icv)]
        own = 0 if tunnel else HEADER[sa.outer]  # transport and beet: the outer header is not encrypted
        encrypted = underlay - sum(size for _, size in parts) - own
        parts += [("padding", encrypted % (-(-block // 4) * 4)), ("trailer", ESP_TRAILER)]
    counted = tuple((name, size) for name, size in parts if size)
    return MtuSum(underlay - sum(size for _, size in counted), ((device, underlay), *counted), tunnel)


def sum_text(total: MtuSum) -> str:
    """`eth0 1500 - IPv4 20 - ESP 8 - IV 8 - ICV 16 - trailer 2 = 1446`."""
    text = " - ".join(f"{name} {size}" for name, size in total.parts)
    return f"{text} = {total.size}" + ("" if total.tunnel else " (not tunnel mode: a packet's own header stays)")


def wants(tunnel: Tunnel) -> tuple[Mtu, ...]:
    """From a number, the daemon's mtu=, or the SA's sum. On a device that serves several peers the mtu= of one says nothing."""
    sa, settings, devices = tunnel.sa, tunnel.settings, tunnel.devices
    names = [wanted.link.name for wanted in devices if not wanted.by_daemon]
    if settings.mtu != AUTO:
        of_daemon = 0 if tunnel.deletion.any_remote or any(wanted.link.kind == "xfrm" for wanted in devices) else sa.mtu
        fixed = settings.mtu or of_daemon
        return tuple(Mtu(name, fixed) for name in names if fixed)
    total, six = sa.mtu_sum, has_ipv6(sa, settings)
    return tuple(Mtu(name, total.size, six, total) for name in names if total)


def route_mtu(sa: SaInfo, settings: Settings) -> int:
    """The MTU of a tunnel's routes, in bytes, by the family inside; 0 is none."""
    if settings.mtu != AUTO:
        return settings.mtu
    if sa.mtu_sum is None:
        return 0
    return max(sa.mtu_sum.size, IPV6_LEAST) if sa.inner_family == 6 else sa.mtu_sum.size


def has_ipv6(sa: SaInfo, settings: Settings) -> bool:
    """Whether IPv6 is inside the tunnel or on its device."""
    inside = [*sa.interface_addresses, *settings.address]
    return sa.inner_family == 6 or any(family(address) == 6 for address in inside)


def warnings(sa: SaInfo, settings: Settings, device: str, why: str) -> tuple[Notice, ...]:
    """What is to be said of `mtu = auto`. `why`: what of the SA cannot be counted, empty where it was."""
    total, said = sa.mtu_sum, []
    if why:
        stays = f"stays {total.size}" if total else "is the kernel's choice"
        said.append(f"{device}: mtu = auto cannot count {why}. It {stays}; `mtu = NUMBER` sets it")
    if total and total.size < IPV6_LEAST and has_ipv6(sa, settings):
        fit = f"{total.size} fit ({sum_text(total)})"
        said.append(f"{device}: {fit}; IPv6 needs {IPV6_LEAST}, so larger ones go in fragments")
    return tuple(Notice("mtu", text) for text in said)


def total_of(wants: Iterable[Resource], device: str, size: int) -> MtuSum | None:
    """The sum behind a device's MTU, where it is that of these wants."""
    return next((want.total for want in wants if isinstance(want, Mtu) and (want.device, want.size) == (device, size)), None)


def device_mtu(least4: int, least6: int) -> int:
    """The MTU of a device of which tunnels without and with IPv6 inside ask for these least ones; 0 is none."""
    least = min(filter(None, (least4, least6)), default=0)
    return max(least, IPV6_LEAST) if least6 else least


def key(asked: Mtu) -> str:
    """The device, then what puts the keys in the order of their sizes."""
    return f"{asked.device} {'six' if asked.six else 'any'} {asked.size:05}"


def load(fields: list[Any]) -> Mtu:
    """From what JSON made of it."""
    asked = Mtu(*fields)
    return asked._replace(total=load_sum(fields[-1]))


CONCERN = Concern("mtu", Mtu, key, wants, load=load)
