"""Whole tables of the kernel, through pyroute2: for `status`, `check`, `reconcile` and conflicts, never in an event.

The only module that imports pyroute2 (0.7.2 to 0.9.x), and only when called: the import costs 110 to 150 ms."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from updown.kernel import namespace
from updown.kernel.netlink.route_messages import RouteSeen
from updown.kernel.netlink.wire import AF_INET, AF_INET6
from updown.model.errors import KernelError, UpdownError
from updown.model.objects import TUNNELS, Link, placed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    _Record = TypeVar("_Record")

IFF_UP, IFF_MULTICAST = 1, 0x1000


def links(netns: str = "") -> list[Link]:
    """All links of a network namespace (empty: the current one), their names placed there. Raises UpdownError without pyroute2,
    else KernelError."""
    found = _dump("links", lambda kernel: [_link(message) for message in kernel.get_links()], netns)
    return [link._replace(name=placed(link.name, netns)) for link in found]


def routes(protocol: int, netns: str = "") -> list[RouteSeen]:
    """All routes with this protocol number, of both families and every table; raises as `links` does."""

    def ask(kernel: Any) -> list[RouteSeen]:
        families = [kernel.get_routes(family=family, proto=protocol) for family in (AF_INET, AF_INET6)]
        return [_route(message) for found in families for message in found if message["proto"] == protocol]

    return _dump("routes", ask, netns)


def import_pyroute2() -> tuple[Any, Any]:
    """pyroute2's IPRoute and NetlinkError: before the ledger is locked, the import keeps nobody waiting. Raises UpdownError
    where pyroute2 is missing."""
    try:
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError
    except ImportError:
        hint = "apt-get install python3-pyroute2, or pip install pyroute2 into the interpreter that runs the hook"
        raise UpdownError("pyroute2 is missing", hint) from None
    return IPRoute, NetlinkError


def _dump(what: str, ask: Callable[[Any], list[_Record]], netns: str) -> list[_Record]:
    ip_route, netlink_error = import_pyroute2()
    try:
        with namespace.inside(netns), ip_route() as kernel:
            return ask(kernel)
    except (netlink_error, OSError) as error:
        number = getattr(error, "code", None) or getattr(error, "errno", None) or errno.EIO
        raise KernelError(f"{what}: {os.strerror(number)}", number) from None


def _link(message: Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    kind = (info.get_attr("IFLA_INFO_KIND") if info else None) or ""
    link = Link(
        name=message.get_attr("IFLA_IFNAME") or "",
        kind=kind,
        ifindex=message["index"],
        mtu=message.get_attr("IFLA_MTU") or 0,
        up=bool(message["flags"] & IFF_UP),
        multicast=bool(message["flags"] & IFF_MULTICAST),
        alias=message.get_attr("IFLA_IFALIAS") or "",
    )
    data = info.get_attr("IFLA_INFO_DATA") if kind in TUNNELS else None
    if not data:
        return link
    if kind == "xfrm":
        if_id = data.get_attr("IFLA_XFRM_IF_ID") or 0
        # pyroute2 does not know IFLA_XFRM_COLLECT_METADATA, but no other interface is without an if_id
        return link._replace(parent=data.get_attr("IFLA_XFRM_LINK") or 0, if_id=if_id, external=not if_id)
    empty: dict[str, Any] = {"local": "", "remote": "", "ikey": 0, "okey": 0}
    found = {name: data.get_attr(f"IFLA_VTI_{name.upper()}") or nothing for name, nothing in empty.items()}
    return link._replace(**found, parent=data.get_attr("IFLA_VTI_LINK") or 0)


def _route(message: Any) -> RouteSeen:
    metrics = message.get_attr("RTA_METRICS")
    via = message.get_attr("RTA_VIA")
    anywhere = "::" if message["family"] == AF_INET6 else "0.0.0.0"
    return RouteSeen(
        destination=f"{message.get_attr('RTA_DST') or anywhere}/{message['dst_len']}",
        oif=message.get_attr("RTA_OIF") or 0,
        gateway=message.get_attr("RTA_GATEWAY") or (via["addr"] if via else ""),
        table=message.get_attr("RTA_TABLE") or 0,
        metric=message.get_attr("RTA_PRIORITY") or 0,
        mtu=(metrics.get_attr("RTAX_MTU") if metrics else 0) or 0,
        source=message.get_attr("RTA_PREFSRC") or "",
        protocol=message["proto"],
        type=message["type"],
        hops=tuple(hop["oif"] for hop in message.get_attr("RTA_MULTIPATH") or ()),
    )
