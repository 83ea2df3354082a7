"""The context: everything one invocation told us, immutable and validated, the same for both daemons."""

from __future__ import annotations

from updown.model.errors import Notice, Refused
from updown.model.objects import family
from updown.model.record import NamedTuple
from updown.model.values import Mark, Network


class Selector(NamedTuple):
    """One side of a traffic selector: addresses, IP protocol (0 any) and port text (`0` any)."""

    network: Network
    protocol: int = 0
    port: str = "0"

    @property
    def family(self) -> int:
        """4 or 6: the inner family, which the verb's suffix does not tell (libreswan 4.10 prints the outer one)."""
        return family(self.network.prefixes[0])

    @property
    def text(self) -> str:
        """`10.2.0.0/24`, or with protocol and port `10.2.0.0/24 6/443`."""
        narrower = self.protocol or self.port != "0"
        return f"{self.network.text} {self.protocol}/{self.port}" if narrower else self.network.text


class Context(NamedTuple):
    """One call of the hook. Absent values are None, empty text or empty tuples; units are in the names or here. `reqid` is the
    base of an automatic one (libreswan adds 1 or 2 for ESP and IPCOMP); `spi_in` is that of packets we receive. `generation` is
    the daemon's own: 4 for libreswan before 5.0, 5 from then on; 0 for strongSwan, which does not show it."""

    daemon: str
    generation: int
    verb: Verb
    connection: str
    me: str
    peer: str
    my_client: Selector
    peer_client: Selector
    instance: bool = False  # of a template: a road warrior at its server, or a client that may be narrowed
    template: bool = False  # the template itself: its peer may be unknown
    policy: frozenset[str] = frozenset()
    reqid: int = 0
    reqid_automatic: bool = False
    child: bool = False  # a child SA exists
    spi_in: int = 0
    spi_out: int = 0
    unique_id: int = 0  # of the IKE SA (strongSwan); a new one when that is rekeyed
    mark_in: Mark | None = None
    mark_out: Mark | None = None
    if_id_in: int = 0
    if_id_out: int = 0
    interface: str | None = None  # the device the daemon's configuration asks us to make (VTI_IFACE)
    daemon_device: str | None = None  # the device that the daemon makes itself (ipsec-interface)
    routing: bool | None = None
    shared: bool | None = None
    interface_addresses: tuple[str, ...] = ()  # with prefix lengths
    underlay: str | None = None  # physical device towards the peer
    next_hop: str | None = None
    source_address: str | None = None
    metric: int = 0
    mtu: int = 0  # bytes
    initiates: bool = False  # the daemon wishes this connection up, so it knows the peer's address
    revives: bool = False  # after a `down` the daemon keeps the way open: revival, on demand, failure shunt
    down_ends_trap: bool = False  # a `down` with no such wish is the end of an on-demand connection too
    way_unknown: bool = False  # strongSwan has lost track of the child: perhaps a `down` too many
    suspended: bool = False  # an `unroute` that belongs to a move of address: the tunnel lives on
    suspended_if_lost: bool = False  # it does if `me` is no address of this machine any more
    warnings: tuple[Notice, ...] = ()
    # For concerns beyond device and routes, and for people who debug:
    connection_type: str = ""
    connection_kind: str = ""
    sa_type: str = ""
    my_id: str = ""
    peer_id: str = ""
    peer_ca: str = ""
    username: str = ""
    banner: str = ""
    dns_servers: tuple[str, ...] = ()
    dns_domains: tuple[str, ...] = ()
    dns_resolver: str = ""
    nflog_group: int = 0
    client_translation: bool = False  # CAT
    config_client: bool = False
    config_server: bool = False
    cisco_peer: bool = False
    network_manager: bool = False
    xauth_failed: bool = False
    fwmark: Mark | None = None  # output mark that keeps ESP out of an XFRM interface
    virtual_addresses: tuple[str, ...] = ()  # assigned to us; `source_address` is the one this pair of selectors uses
    peer_virtual_addresses: tuple[str, ...] = ()  # that we assigned to the peer
    encapsulation_port: int = 0  # the peer's UDP port where ESP is in UDP
    compressed: bool = False  # IPComp was negotiated
    host_access: bool = False  # the firewall is to let this machine itself use the tunnel
    added: int = 0  # seconds since the epoch
    bytes_in: int = 0
    bytes_out: int = 0
    debug: bool = False
    config: str = ""  # the settings file that the call names by --config; empty for the default one


MAKING = ("prepare", "route", "up")
ENDING = ("down", "unroute")
IGNORED = ("disconnectNM",)  # 4.10 with NetworkManager and a Cisco peer: nothing of ours hangs on it


class Verb(NamedTuple):
    """What happened: `steps` in order, `scope` host, client or empty, `family` 4, 6 or 0 where the verb does not say."""

    text: str
    steps: tuple[str, ...]
    scope: str
    family: int

    @property
    def joined(self) -> bool:
        """An async call of libreswan 5.4+: its output would make `ipsec up` fail."""
        return len(self.steps) > 1

    @property
    def makes(self) -> bool:
        """Whether a step asks for something to be there afterwards."""
        return any(step in MAKING for step in self.steps)

    @property
    def routes(self) -> bool:
        """Whether routes are due: `up` alone or `route` alone can build all (promise P2), `prepare` makes the device."""
        return "route" in self.steps or "up" in self.steps


def parse_verb(text: str) -> Verb:
    """The verb in `text`; raises Refused for one that no daemon of ours sends."""
    words = text.split("-")
    family = 0
    scope = ""
    if words[-1] == "v6" and len(words) > 1 and words[-2] in ("host", "client"):
        words.pop()
        family = 6
    if words[-1] in ("host", "client"):
        scope = words.pop()
        family = family or 4
    steps = tuple(words)
    if steps == IGNORED:
        return Verb(text, (), scope, family)
    ends = len(steps) == 1 and steps[0] in ENDING
    if ends or (steps and steps == tuple(step for step in MAKING if step in steps)):
        return Verb(text, steps, scope, family)
    raise Refused(f"PLUTO_VERB: unknown verb {text!r}", "this release knows prepare, route, up, down, unroute")
