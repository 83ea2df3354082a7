"""What both daemons print about connections that tests make up: `whack --status` of 4.10 and 5.2, and vici's list-sa events,
with any text where an administrator or a peer may choose it; and what is to be read from that, which is known without."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from tests.kit.machine import EAST, WEST
from updown.daemons.answer import ChildSa


class Connection(NamedTuple):
    """One connection that pluto has loaded: `name` and `my_id` its administrator chose, `peer_id` and `user` a peer. An
    `instance` is a template's, if above 0. `spis` of a child that is up: that of packets to us, that of packets to the peer."""

    name: str = "t"
    instance: int = 0
    me: str = WEST
    peer: str = EAST
    my_id: str = ""
    peer_id: str = ""
    user: str = ""
    routed: bool = False
    wished: bool = False
    asks: bool = False
    spis: tuple[int, int] = (0, 0)
    used: bool = False

    def child(self) -> ChildSa:
        """What is to be read of its child."""
        device = "vti5" if self.asks else ""
        child = ChildSa("libreswan", self.name, self.me, self.peer, *self.spis, device=device)
        return child._replace(wants_device=self.asks, calls_us=self.asks)


ROUTING = {4: ("unrouted", "prospective erouted"), 5: ("unrouted", "routed-ondemand")}


def whack_status(release: int, connections: Sequence[Connection]) -> str:
    """The status of these connections, in the form of 4.10 (`release` 4) or 5.2 (5)."""
    told = [line for number, one in enumerate(connections, 1) for line in lines_of(release, one, number)]
    up = [(number, one) for number, one in enumerate(connections, 2) if any(one.spis)]
    states = [line for number, one in up for line in states_of(release, one, number)]
    lines = [
        "using kernel interface: xfrm",
        "Connection list:",
        " ",
        *told,
        f"Total IPsec connections: loaded {len(connections)}, active {len(up)}",
        " ",
        f"IKE SAs: total({len(up)}), half-open(0), open(0), authenticated({len(up)}), anonymous(0)",
        f"IPsec SAs: total({len(up)}), authenticated({len(up)}), anonymous(0)",
        *states,
        "Bare Shunt list:",
    ]
    code = "000 " if release == 4 else ""
    return "".join(f"{code}{line}\n" for line in lines)


def lines_of(release: int, one: Connection, serial: int) -> list[str]:
    """What the list of connections has of one."""
    head = f'"{one.name}"' + (f"[{one.instance}]" if one.instance else "") + ":"
    mine, theirs = (f"{end}[{who}]" if who else end for end, who in ((one.me, one.my_id), (one.peer, one.peer_id)))
    ends = f"10.1.0.0/24==={mine}...{theirs}===10.2.0.0/24"
    routing = ROUTING[release][one.routed]
    updown = "/usr/libexec/vti-updown" if one.asks else "ipsec _updown"
    if release == 4:
        first = [
            f"{head} {ends}; {routing}; eroute owner: #0",
            f"{head}     oriented; my_ip=unset; their_ip=unset; my_updown={updown};",
        ]
        last = f"{head}   newest IKE SA: #0; newest IPsec SA: #0; conn serial: ${serial};"
    else:
        first = [
            f"{head} {ends}; {routing}; my_ip=unset; their_ip=unset;",
            f"{head}   host: oriented; local: {one.me}; remote: {one.peer};",
            f"{head}   my_updown={updown};",
        ]
        last = f"{head}   conn serial: ${serial};"
    device = "vti5" if one.asks else "unset"
    return [
        *first,
        f"{head}   xauth us:none, xauth them:none,  my_username={one.my_id or '[any]'}; their_username=[any]",
        f"{head}   policy: IKEv2+PSK+ENCRYPT+TUNNEL+PFS{'+UP' if one.wished else ''}+ESN_NO;",
        f"{head}   nflog-group: unset; mark: 5/0xffffffff, 5/0xffffffff; vti-iface:{device}; nic-offload:no;",
        f"{head}   our idtype: ID_FQDN; our id={one.my_id}; their idtype: ID_FQDN; their id={one.peer_id}",
        last,
    ]


def states_of(release: int, one: Connection, number: int) -> list[str]:
    """What the list of states has of one that is up."""
    story = ("STATE_V2_" if release == 4 else "") + "ESTABLISHED_CHILD_SA (established Child SA)"
    head = f'#{number}: "{one.name}"' + (f"[{one.instance}] {one.peer}" if one.instance else "")
    dot = ":" if ":" in one.me else "."
    inward, outward = one.spis
    said = f"esp{dot}{outward:x}@{one.peer} esp{dot}{inward:x}@{one.me} tun{dot}0@{one.peer} tun{dot}0@{one.me}"
    used = " used 5s ago;" if one.used else ""
    user = f"username={one.user}" if one.user else ""
    return [f"{head}:500 {story}; newest; idle;", f"{head}{used} {said} Traffic: ESPin=0B ESPmax=2^63B {user}"]


def vici_message(message: dict[str, Any]) -> bytes:
    """Text, lists and sections as vici has them; text that is no UTF-8 as surrogates."""
    out = b""
    for name, value in message.items():
        short = name.encode("utf-8", "surrogateescape")
        short = bytes([len(short)]) + short
        if isinstance(value, dict):
            out += b"\x01" + short + vici_message(value) + b"\x02"
        elif isinstance(value, list):
            out += b"\x04" + short + b"".join(b"\x05" + long(item) for item in value) + b"\x06"
        else:
            out += b"\x03" + short + long(value)
    return out


def long(text: str) -> bytes:
    """A value with its length, two bytes."""
    coded = text.encode("utf-8", "surrogateescape")
    return struct.pack(">H", len(coded)) + coded


def list_sa(child: ChildSa, version: str = "2") -> dict[str, Any]:
    """The event that tells of an IKE SA with this child."""
    marks = {
        name.replace("_", "-"): f"{getattr(child, name):x}"
        for name in ("mark_in", "mark_out", "if_id_in", "if_id_out", "spi_in")
    }
    inner = {
        "name": child.connection,
        "uniqueid": "12",
        "reqid": str(child.reqid),
        "state": "INSTALLED",
        **marks,
        "spi-out": f"{child.spi_out:x}",
        "local-ts": ["10.1.0.0/24"],
        "remote-ts": list(child.remote_ts),
    }
    mine, theirs = child.ids
    outer = {"uniqueid": str(child.unique_id), "version": version, "local-host": child.me, "remote-host": child.peer}
    return {"home": {**outer, "local-id": mine, "remote-id": theirs, "child-sas": {"net-12": inner}}}
