"""Recorded tunnels, by the thousand: what live daemons sent for one, with the names, ends, networks and marks of others."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from tests.recordings import Recording

Environment = dict[str, str]
SETTINGS = """
[defaults]
delete = last
[connection vti-*]
interface = v{mark_out}
routing = yes
[connection xfrm-*]
interface = x{if_id}
routing = yes
"""
"""strongSwan's tunnels get their devices from here; libreswan's name theirs."""
KINDS = (
    Recording("libreswan-4.10", "vti-basic", "west"),
    Recording("libreswan-main", "vti-basic", "west"),
    Recording("strongswan-5.9.8", "vti-mark", "west"),
    Recording("libreswan-main", "async", "west"),
    Recording("libreswan-4.10", "mark-in-out", "west"),
    Recording("strongswan-5.9.8", "if-id-unique", "west"),
    Recording("libreswan-main", "ipv6-in-ipv6", "west"),
    Recording("libreswan-main", "two-conns-shared", "west"),
    Recording("libreswan-4.10", "route-ondemand", "west"),
    Recording("libreswan-main", "multi-ts-46", "west"),
    Recording("strongswan-5.9.8", "multi-ts", "west"),
)


class Replayed(NamedTuple):
    """What the daemon calls when the tunnel comes, and when it goes; its device, and what must be routed into it meanwhile."""

    comes: list[Environment]
    with_last: list[Environment]
    device: str
    networks: set[str]


@cache
def once(recording: Recording) -> tuple[tuple[Environment, ...], int]:
    """The calls of one coming and going of a connection, and how many of them are of the coming."""
    calls = recording.calls()
    calls = [call for call in calls if call.environment["PLUTO_CONNECTION"] == calls[0].environment["PLUTO_CONNECTION"]]
    verbs = [call.verb.split("-")[0] for call in calls]
    goes = verbs.index("down")
    again = next((n for n in range(goes, len(verbs)) if verbs[n] not in ("down", "unroute")), len(verbs))
    return tuple(call.environment for call in calls[:again]), goes


def tunnel(number: int) -> Replayed:
    """The calls of tunnel `number`, 1 to 12000."""
    recording = KINDS[number % len(KINDS)]
    calls, goes = once(recording)
    rewritten = [rewrite(call, number) for call in calls]
    comes = rewritten[:goes]
    one = comes[0]
    mark = one.get("PLUTO_MARK_OUT", "").split("/")[0]
    device = one.get("VTI_IFACE") or (f"x{one['PLUTO_IF_ID_OUT']}" if "PLUTO_IF_ID_OUT" in one else f"v{mark}")
    return Replayed(comes, rewritten[goes:], device, {call["PLUTO_PEER_CLIENT"] for call in comes})


def rewrite(call: Environment, number: int) -> Environment:
    """The same call for another tunnel, with a peer, networks and numbers of its own; unless it shares its device, also with
    marks, if_ids, a device and an address of its own."""
    high, low = divmod(number, 250)
    nets = {f"10.2.{net}.0": f"10.{16 + net * 50 + high}.{low}.0" for net in (0, 1)}
    nets["fd00:2::"] = f"fd01:{number:x}::"
    peers = {"198.51.100.2": f"203.{high}.113.{1 + low}", "2001:db8:0:1::2": f"2001:db8:0:2::{number:x}"}
    values = {**nets, **peers}
    values.update({f"{net}/{length}": f"{new}/{length}" for net, new in nets.items() for length in (24, 64)})
    own = 0 if call.get("VTI_SHARED") == "yes" else number
    if own:
        values["10.99.0.1/30"] = f"172.{16 + high}.{low}.1/30"
        values["fd00:99::1/64"] = f"fd02:{number:x}::1/64"
    found = {name: values.get(value, value) for name, value in call.items()}
    for name in ("CONNMARK_IN", "CONNMARK_OUT", "PLUTO_MARK_IN", "PLUTO_MARK_OUT"):
        if found.get(name):
            mark, mask = found[name].split("/")
            found[name] = f"{int(mark) + 100 * own}/{mask}"
    for name in ("PLUTO_IF_ID_IN", "PLUTO_IF_ID_OUT"):
        if found.get(name):
            found[name] = str(int(found[name]) + 100 * number)
    for name in ("PLUTO_SA_REQID", "PLUTO_REQID", "PLUTO_UNIQUEID"):
        if found.get(name):
            found[name] = str(int(found[name]) + 4 * number)
    for name in ("SPI_IN", "SPI_OUT"):
        spi = int(found.get(name, "0"), 16)
        if spi:  # a call for a trap has none
            found[name] = f"{(spi + number) % 2**32:#x}"
    kind = "t" if "VTI_IFACE" in found else "xfrm" if found.get("PLUTO_IF_ID_OUT") else "vti"
    found["PLUTO_CONNECTION"] = f"{kind}-{number}"
    if kind == "t" and own:
        found["VTI_IFACE"] = f"vti{number}"
    if "PLUTO_VERSION" in found:
        found["PLUTO_PEER_ID"] = f"east{number}"
    return found
