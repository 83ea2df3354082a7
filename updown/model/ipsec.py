"""Whether the kernel's XFRM database has what a claim stands for. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from updown.model import values
from updown.model.claims import SA, Claim
from updown.model.objects import Link
from updown.model.record import NamedTuple

WITH_PORTS = (6, 17, 33, 132, 136)  # TCP, UDP, DCCP, SCTP, UDP-Lite: elsewhere ports are types, or nothing


class SelectorSide(NamedTuple):
    """One selector of a claim: the prefixes that cover it, its IP protocol and port, 0 is any."""

    prefixes: tuple[str, ...]
    protocol: int
    port: int


class IpsecIndex(NamedTuple):
    """The XFRM database by what is looked for: outbound policies by their prefixes, the reqids that these lead to, the
    reqid of each state by the end that receives and the SPI, and all reqids and SPIs of states."""

    policies: dict[tuple[str, str], list[Policy]]
    led_to: frozenset[int]
    reqid_of: dict[tuple[str, int], int]
    reqids: frozenset[int]
    spis: frozenset[int]


def index(xfrm: Database) -> IpsecIndex:
    """The index of a database: thousands of claims are looked up in it."""
    policies: dict[tuple[str, str], list[Policy]] = {}
    outbound = [policy for policy in xfrm.policies if policy.direction == "out"]
    for policy in outbound:
        policies.setdefault((policy.source, policy.destination), []).append(policy)
    led_to = frozenset(reqid for policy in outbound for reqid in policy.reqids)
    reqid_of = {(state.destination, state.spi): state.reqid for state in xfrm.states}
    return IpsecIndex(policies, led_to, reqid_of, frozenset(reqid_of.values()), frozenset(spi for _, spi in reqid_of))


def selector_side(text: str) -> SelectorSide | None:
    """`10.2.0.0/24` or `10.2.0.0/24 6/443`; None for anything else."""
    network, _, rest = text.partition(" ")
    protocol, _, port = rest.partition("/")
    try:
        return SelectorSide(values.network(network).prefixes, int(protocol or 0), int(port) if port.isdigit() else 0)
    except ValueError:
        return None


def policies_of(claim: Claim, xfrm: IpsecIndex) -> tuple[Policy, ...]:
    """The outbound policies with the claim's selectors and its device's key."""
    mine, theirs = selector_side(claim.sa.my_client), selector_side(claim.sa.peer_client)
    link = next((want.link for want in claim.devices), None)
    if mine is None or theirs is None:
        return ()
    return tuple(
        policy
        for source in mine.prefixes
        for destination in theirs.prefixes
        for policy in xfrm.policies.get((source, destination), ())
        if (link is None or serves_device(policy.key, link)) and same_ports(policy, mine, theirs)
    )


def same_ports(policy: Policy, mine: SelectorSide, theirs: SelectorSide) -> bool:
    """Whether protocol and ports are those of the claim; a range of ports counts as any."""
    protocol = mine.protocol or theirs.protocol
    same = mine.port in (0, policy.source_port) and theirs.port in (0, policy.destination_port)
    return policy.protocol == protocol and (same or protocol not in WITH_PORTS)


def serves_device(key: Key, link: Link) -> bool:
    """Whether a policy with this key is for what the device sends."""
    if link.kind == "xfrm":
        return not link.if_id or key.if_id == link.if_id
    return key.mask != 0 and key.mark == link.okey & key.mask


def in_use(link: Link, xfrm: Database) -> bool:
    """Whether any policy is, or may be, for this device, whoever's tunnel that is."""
    if link.kind == "xfrm":
        return any(policy.key.if_id and (link.external or policy.key.if_id == link.if_id) for policy in xfrm.policies)
    return any(policy.direction == "out" and serves_device(policy.key, link) for policy in xfrm.policies)


def without_policies_of(ended: Sequence[Claim], policies: Sequence[Policy]) -> Database:
    """The policies but those of these claims: which are other tunnels'."""
    by_prefixes = index(Database(tuple(policies)))
    theirs = {id(policy) for claim in ended for policy in policies_of(claim, by_prefixes)}
    return Database(tuple(policy for policy in policies if id(policy) not in theirs))


def reqids_of(claim: Claim) -> frozenset[int]:
    """The reqids its states may have: libreswan counts ESP and IPCOMP from an automatic base."""
    reqid = claim.sa.reqid
    if claim.sa.daemon == "libreswan" and reqid >= FIRST_AUTOMATIC_REQID:
        return frozenset((reqid, reqid + 1, reqid + 2))
    return frozenset((reqid,)) if reqid else frozenset()


def has_policy_and_state(claim: Claim, xfrm: IpsecIndex) -> bool:
    """Whether the tunnel, or the trap, is in the kernel: a policy, and for an `sa` a state that it leads to."""
    policies = policies_of(claim, xfrm)
    if claim.kind != SA or not policies:
        return bool(policies)
    return bool(({reqid for policy in policies for reqid in policy.reqids if reqid} or reqids_of(claim)) & xfrm.reqids)


def has_any_trace(claim: Claim, xfrm: IpsecIndex) -> bool:
    """Whether there is anything of the claim: a policy with its selectors, or a state with its SPI or reqid."""
    spis = {claim.sa.spi_in, claim.sa.spi_out} - {0}
    return bool(policies_of(claim, xfrm) or reqids_of(claim) & xfrm.reqids or spis & xfrm.spis)


class Key(NamedTuple):
    """What ties a policy or state to a device: the mark with its mask (VTI), the if_id (XFRM interface); 0 is none."""

    mark: int = 0
    mask: int = 0
    if_id: int = 0


class Sa(NamedTuple):
    """What of an SA counts for the size of packets. `outer` and `selected` are families; `icv` is in bytes, as the kernel tells
    it (of HMACs the truncated length); `compressed`: IPComp in tunnel mode stands above this SA, which is then in transport
    mode."""

    protocol: int  # 50 ESP, 51 AH, 108 IPCOMP
    mode: int  # XFRM_MODE_*
    outer: int  # 4 or 6
    cipher: str = ""
    icv: int = 0
    encapsulation: int = 0  # UDP_ENCAP_*, 0 none
    selected: int = 4  # of its selector; beet counts it
    align4: bool = False  # AH over IPv4: aligned to 4, not 8
    compressed: bool = False
    added: int = 0  # seconds since the epoch


class State(NamedTuple):
    """A security association, with what it is picked by, and the mark its packets get (value, mask)."""

    source: str
    destination: str
    spi: int
    reqid: int
    sa: Sa
    key: Key = Key()
    output_mark: tuple[int, int] = (0, 0)


class Policy(NamedTuple):
    """A policy: `direction` in, out or fwd; prefixes, IP protocol (0 any) and ports (0 any) of its selector; of each
    template the reqid and both tunnel ends (0.0.0.0 where a trap leaves them open)."""

    direction: str
    source: str
    destination: str
    protocol: int = 0
    source_port: int = 0
    destination_port: int = 0
    reqids: tuple[int, ...] = ()
    ends: tuple[tuple[str, str], ...] = ()
    key: Key = Key()


class Database(NamedTuple):
    """Everything the kernel has, but the policies of single sockets."""

    policies: tuple[Policy, ...] = ()
    states: tuple[State, ...] = ()


FIRST_AUTOMATIC_REQID = 16384
"""Automatic reqids are above 16383 and multiples of 4; 5.x adds 1 (ESP) or 2 (IPCOMP) once there is a child SA."""
