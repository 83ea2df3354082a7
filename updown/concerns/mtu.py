"""The largest packet a tunnel carries without fragments: from its SA and the underlay, to the byte. Pure.

The arithmetic is the kernel's own (net/xfrm/xfrm_state.c xfrm_state_mtu; header lengths from esp4.c, esp6.c and ah4.c, ah6.c),
written as the sum that a person reads. docs/mtu.md says what it cannot know.
"""

from __future__ import annotations

from collections.abc import Iterable

from updown.model.concern import Concern
from updown.model.context import Context
from updown.model.ipsec import Sa
from updown.model.objects import Route, family
from updown.model.record import NamedTuple
from updown.model.resources import Device, Mtu, Resource, Resources
from updown.model.values import AUTO
from updown.settings.keys import Settings

IPV6_LEAST = 1280
"""Bytes: below it the kernel takes IPv6 off a device (RFC 8200, net/ipv6/addrconf.c)."""

ESP, AH = 50, 51
NO_TUNNEL = "not tunnel mode"  # in a sum: reconcile reads there how the event counted
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
    "rfc4106(gcm(aes))": (1, 8),
    "rfc4106(gcm(sm4))": (1, 8),
    "rfc4309(ccm(aes))": (1, 8),
    "rfc4309(ccm(sm4))": (1, 8),
    "rfc4543(gcm(aes))": (1, 8),
    "rfc7539esp(chacha20,poly1305)": (1, 8),
}
"""Block and IV, in bytes, of each cipher by the name the kernel gives it (net/xfrm/xfrm_algo.c)."""


class MtuFacts(NamedTuple):
    """What was found out for `mtu = auto`; `why` says, where there is no SA or no underlay, what is missing."""

    sa: Sa | None = None
    underlay: int = 0  # bytes
    device: str = ""  # the physical one
    why: str = ""


class MtuSum(NamedTuple):
    """The bytes that are left, and how that comes about."""

    mtu: int
    text: str


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
        return as_sum(underlay, device, parts, tunnel)
    if sa.cipher not in CIPHERS:
        raise ValueError(f"cipher {sa.cipher or 'none'} of its SA")
    block, vector = CIPHERS[sa.cipher]
    parts += [("ESP", ESP_HEADER), ("IV", vector), ("ICV", sa.icv)]
    block = -(-block // 4) * 4
    own = 0 if tunnel else HEADER[sa.outer]  # transport and beet: the outer header is not encrypted
    encrypted = underlay - sum(size for _, size in parts) - own
    parts += [("padding", encrypted % block), ("trailer", ESP_TRAILER)]
    return as_sum(underlay, device, parts, tunnel)


def as_sum(underlay: int, device: str, parts: Iterable[tuple[str, int]], tunnel: bool) -> MtuSum:
    """`eth0 1500 - IPv4 20 - ESP 8 - IV 8 - ICV 16 - trailer 2 = 1446`; what is 0 is left out."""
    shown = [(name, size) for name, size in parts if size]
    left = underlay - sum(size for _, size in shown)
    text = " - ".join([f"{device} {underlay}", *(f"{name} {size}" for name, size in shown)])
    return MtuSum(left, f"{text} = {left}" + ("" if tunnel else f" ({NO_TUNNEL}: a packet's own header stays)"))


class MtuDemand(NamedTuple):
    """What one tunnel asks for: the MTU of its devices, that of its routes, and warnings."""

    resources: tuple[Mtu, ...] = ()
    routes: int = 0  # bytes; 0 is none
    warnings: tuple[str, ...] = ()


def wants(
    context: Context,
    settings: Settings,
    devices: tuple[Device, ...],
    facts: MtuFacts | None,
    several: bool,
    before: Iterable[Resource],
) -> MtuDemand:
    """From a number, the daemon's mtu=, or the SA. `several`: the device serves several peers, for which the mtu= of one says
    nothing; `before`: what the claim asked for until now, which stays where no SA can be seen."""
    name = devices[0].link.name if devices else ""
    names = [wanted.link.name for wanted in devices if not wanted.by_daemon]
    if settings.mtu != AUTO:
        of_daemon = 0 if several or any(wanted.link.kind == "xfrm" for wanted in devices) else context.mtu
        fixed = settings.mtu or of_daemon
        return MtuDemand(tuple(Mtu(name, fixed) for name in names if fixed), settings.mtu)
    found, why = compute(facts)
    if found is None:
        earlier = next((want for want in before if isinstance(want, Mtu)), None)
        found = MtuSum(earlier.size, earlier.reason) if earlier else None
    warnings: tuple[str, ...] = ()
    if why and "up" in context.verb.steps:  # before, there may be no SA
        stays = f"stays {found.mtu}" if found else "is the kernel's choice"
        warnings = (f"{name}: mtu = auto cannot count {why}. It {stays}; `mtu = NUMBER` sets it",)
    if found is None:
        return MtuDemand((), 0, warnings)
    inside = [*context.interface_addresses, *settings.address]
    six = context.inner_family == 6 or any(family(address) == 6 for address in inside)
    if six and found.mtu < IPV6_LEAST and "up" in context.verb.steps:
        warnings += (
            f"{name}: {found.mtu} fit ({found.text}); IPv6 needs {IPV6_LEAST}, so larger ones go in fragments",
        )
    return MtuDemand(
        tuple(Mtu(device, found.mtu, six, found.text) for device in names),
        route_mtu(found.mtu, context.inner_family),
        warnings,
    )


def route_mtu(size: int, inner: int) -> int:
    """The MTU of a tunnel's routes, by the family inside."""
    return max(size, IPV6_LEAST) if inner == 6 else size


def with_mtu(wants: Resources, inner: int, found: MtuSum) -> Resources:
    """The wants of a claim with another sum: for its devices, and for the routes that had what the sum gave them before."""
    old = next((want for want in wants if isinstance(want, Mtu) and want.reason), None)
    if old is None or old.size == found.mtu:
        return wants
    before, now = route_mtu(old.size, inner), route_mtu(found.mtu, inner)
    changed: list[Resource] = []
    for want in wants:
        if isinstance(want, Mtu) and want.reason:
            want = want._replace(size=found.mtu, reason=found.text)
        elif isinstance(want, Route) and want.mtu == before:
            want = want._replace(mtu=now)
        changed.append(want)
    return tuple(changed)


def compute(facts: MtuFacts | None) -> tuple[MtuSum | None, str]:
    """The sum, or what cannot be counted; neither where nothing was asked."""
    if facts is None or facts.sa is None or facts.why:
        return None, facts.why if facts else ""
    try:
        return tunnel_mtu(facts.sa, facts.underlay, facts.device), ""
    except ValueError as error:
        return None, str(error)


def why(wants: Iterable[Resource], device: str, size: int) -> str:
    """The reason for a device's MTU: the sum, where it is that of these wants."""
    sums = [want.reason for want in wants if isinstance(want, Mtu) and (want.device, want.size) == (device, size)]
    return f"mtu: {sums[0]}" if sums and sums[0] else "as it should be"


def device_mtu(least4: int, least6: int) -> int:
    """The MTU of a device of which tunnels without and with IPv6 inside ask for these least ones; 0 is none."""
    least = min(filter(None, (least4, least6)), default=0)
    return max(least, IPV6_LEAST) if least6 else least


def key(asked: Mtu) -> str:
    """The device, then what puts the keys in the order of their sizes."""
    return f"{asked.device} {'six' if asked.six else 'any'} {asked.size:05}"


CONCERN = Concern("mtu", Mtu, key)
