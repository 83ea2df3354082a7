"""Claims: which tunnel holds what, what a daemon told of it, and the shape of each daemon's rules (daemons/*/claims.py). Pure:
the ledger's content in, the change out. docs/claims.md gives the reason for each variable that identifies a claim."""

from __future__ import annotations

from collections.abc import Callable

from updown.model.context import Context
from updown.model.objects import family
from updown.model.record import NamedTuple, dumps
from updown.model.resources import DeletionRule, Device, MtuSum, Resource, Resources
from updown.model.values import Mark

SA = "sa"
TRAP = "trap"
REVIVE = "revive"
MADE = "made"  # of `vti-updown make`: by the administrator, whatever tunnels do

LIBRESWAN, STRONGSWAN = "libreswan", "strongswan"


class SaInfo(NamedTuple):
    """What a daemon told of a tunnel and its child SA: all that concerns read, so that what a claim asks for can be derived
    from it again. The names are the context's; selectors are text, marks values."""

    daemon: str
    me: str
    peer: str
    my_client: str
    peer_client: str
    reqid: int
    spi_in: int
    spi_out: int
    unique_id: int = 0  # strongSwan's IKE SA at the time
    connection: str = ""
    generation: int = 0
    mark_in: int | None = None
    mark_out: int | None = None
    if_id_in: int = 0
    if_id_out: int = 0
    interface: str | None = None
    daemon_device: str | None = None
    routing: bool | None = None
    shared: bool | None = None
    interface_addresses: tuple[str, ...] = ()
    underlay: str | None = None
    source_address: str | None = None
    metric: int = 0
    mtu: int = 0  # bytes
    config: str = ""
    fwmark: int = 0  # of what pluto sends to the peer itself, past its own interface; with a mask of 0 none
    fwmask: int = 0
    tunnel_mode: bool = False  # as IKE agreed: with IPComp, ESP itself is in transport mode
    local_source: str = ""  # of this machine, within our selector, when it was last looked for
    mtu_sum: MtuSum | None = None  # of `mtu = auto`, when the SA was last seen

    @property
    def outer_family(self) -> int:
        """4 or 6: the family of the tunnel's ends, independent of what is inside."""
        return family(self.me)

    @property
    def inner_family(self) -> int:
        """4 or 6: the family of what the tunnel carries."""
        return family(self.peer_client)


NO_SA = SaInfo("", "", "", "", "", 0, 0, 0)


class Claim(NamedTuple):
    """One tunnel's hold. `tunnel` and `group` are what later verbs find it by; `since` is in seconds since boot."""

    key: str
    kind: str
    connection: str
    tunnel: str
    group: str
    device: str
    deletion: DeletionRule
    routed: bool = False
    since: int = 0
    resources: Resources = ()
    sa: SaInfo = NO_SA
    order: int = 0  # of arrival; the first to hold a resource comes first

    @property
    def devices(self) -> list[Device]:
        """The devices it asks for; the one that packets leave by comes first."""
        return [want for want in self.resources if isinstance(want, Device)]


Claims = tuple[Claim, ...]


class ClaimQuery(NamedTuple):
    """What the ledger is asked for: the tunnel, the group where it matters, the claims a context may have; and, of a tunnel
    that may have thousands of claims, the one child SA that the context is of."""

    tunnel: str
    group: str = ""
    keys: tuple[str, ...] = ()
    sa: SaQuery | None = None


class CandidateClaims(NamedTuple):
    """What the ledger has that one context may speak of."""

    tunnel: Claims = ()  # of the same connection and reqid; of strongSwan's those that its rules look at
    group: Claims = ()  # of the same remote selector and marks
    served: bool = False  # the end of this very SA was told in the last ten minutes


class Holder(NamedTuple):
    """A claim that asks for a resource, and what exactly it asks for."""

    claim: Claim
    resource: Resource


class FormerHolder(NamedTuple):
    """What a connection asked for before this event, or before one that was not finished."""

    connection: str
    resource: Resource


class Change(NamedTuple):
    """Claims to write (new, renewed or of another kind) and claims to end."""

    put: Claims = ()
    end: Claims = ()


class RememberedSa(NamedTuple):
    """What an SA's end is remembered by, and one whose verb was refused, since its end is no other claim's; empty where there
    is none. Remembered ends from `first` to `last` mean nothing once a verb makes."""

    ended: str
    refused: str
    first: str
    last: str


class Rules(NamedTuple):
    """How a daemon's calls become changes of claims."""

    sought: Callable[[Context], ClaimQuery]
    remembered: Callable[[Context], RememberedSa]
    renewed: Callable[[Context, CandidateClaims], Claim | None]
    make: Callable[[Context, CandidateClaims, Claim], Change]
    down: Callable[[Context, CandidateClaims], Change]
    siblings: Callable[[Claim, CandidateClaims], Claims]  # that hear by it what their daemon calls once for all
    # strongSwan has no such verb, nor instances of a template, of which a new one ends another's claims
    unroute: Callable[[Context, CandidateClaims], Change] = lambda _context, _held: Change()
    replaced: Callable[[Context, CandidateClaims], Claims] = lambda _context, _held: ()


def is_permanent(claim: Claim) -> bool:
    """Whether the connection is one tunnel, and no template's instance."""
    return claim.tunnel == dumps([claim.connection])


def complete(new: Claim, before: Claim | None) -> Claim:
    """`new`, of this moment; a renewal keeps the time and the place of the one before."""
    return new._replace(since=before.since, order=before.order) if before else new


def same_hosts(one: Claim, other: Claim) -> bool:
    """Whether two claims are strongSwan's and between the same two identities (its group): where their ends differ, one
    moved."""
    return one.sa.daemon == other.sa.daemon == STRONGSWAN and one.group == other.group


def same_key(claims: Claims, key: str) -> Claim | None:
    """The claim with this key."""
    return next((claim for claim in claims if claim.key == key), None)


class SaQuery(NamedTuple):
    """strongSwan's child SA, by what it is found among many of its tunnel: who it is beside the selectors, the IKE SA's number,
    the selectors, and the same with `me` and `peer` for a network that is an end itself and moves with it."""

    child: str
    number: int
    pair: str
    place: str


def sa_info(context: Context) -> SaInfo:
    """What a context tells of its tunnel."""
    told = {field: getattr(context, field) for field in SaInfo._fields if field in Context._fields}
    told.update(my_client=context.my_client.text, peer_client=context.peer_client.text)
    told.update(mark_in=value_of(context.mark_in), mark_out=value_of(context.mark_out))
    told.update(fwmark=value_of(context.fwmark) or 0, fwmask=context.fwmark.mask if context.fwmark else 0)
    return SaInfo(**told, tunnel_mode=context.compressed or context.connection_type == "tunnel")


def value_of(mark: Mark | None) -> int | None:
    """A mark without its mask, as a device's key is."""
    return mark.value if mark else None


def is_same_or_moved(context: Context, before: SaInfo) -> bool:
    """Whether the selectors of `context` are those of `before`, or a host's own address where they were its address then."""
    mine = same_selector(before.my_client, before.me, context.my_client.text, context.me)
    return mine and same_selector(before.peer_client, before.peer, context.peer_client.text, context.peer)


def same_selector(was: str, end: str, now: str, new: str) -> bool:
    """Whether one side's selector is as it was, or was the tunnel's end itself, and moved with it."""
    return was == now or host_part(was, end) == host_part(now, new) is not None


def host_part(selector: str, end: str) -> str | None:
    """What a selector says of protocol and port, where its network is `end` alone; else None."""
    network, _, rest = selector.partition(" ")
    return rest if network == f"{end}/{32 if family(end) == 4 else 128}" else None


def with_ends(was: SaInfo, me: str, peer: str) -> SaInfo:
    """The same with these ends; a selector that is an end itself moves with it, so that later verbs find it."""
    sides: list[str] = []
    for selector, old, new in ((was.my_client, was.me, me), (was.peer_client, was.peer, peer)):
        rest = host_part(selector, old)
        sides.append(selector if rest is None else f"{new}/{32 if family(new) == 4 else 128} {rest}".rstrip())
    return was._replace(me=me, peer=peer, my_client=sides[0], peer_client=sides[1])


def sa_query(child: str, was: SaInfo) -> SaQuery:
    """By what strongSwan's child SA with these facts is found."""
    mine, theirs = host_part(was.my_client, was.me), host_part(was.peer_client, was.peer)
    place = [was.my_client if mine is None else ["me", mine], was.peer_client if theirs is None else ["peer", theirs]]
    return SaQuery(child, was.unique_id, dumps([was.my_client, was.peer_client]), dumps(place))
