"""The kernel's rtnetlink, one request at a time: links, addresses and routes of the network namespace of the opener.

Point queries instead of dumps, since a daemon stands still meanwhile; how a request goes and fails is in socket.py."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import suppress

from updown.kernel import namespace
from updown.kernel.netlink import link_messages as rt
from updown.kernel.netlink import route_messages as routing
from updown.kernel.netlink.route_messages import RouteSeen
from updown.kernel.netlink.routing import Lookup, Match
from updown.kernel.netlink.socket import refusal
from updown.kernel.netlink.wire import Request, canonical
from updown.model.concern import ip
from updown.model.errors import KernelError
from updown.model.objects import MAIN_TABLE, ON_ITS_WAY, Link, Path, Route, bare, host, is_any, netns_of

__all__ = ["Match", "Netlink", "RouteSeen"]

_MODULES = {
    "vti": "module ip_vti (CONFIG_NET_IPVTI)",
    "vti6": "module ip6_vti (CONFIG_IPV6_VTI)",
    "xfrm": "module xfrm_interface (CONFIG_XFRM_INTERFACE)",
}


class Netlink(Lookup):
    """A NETLINK_ROUTE socket. `device` of a method is only for the text of its error. Names may be placed in another namespace
    (`vti5@red`); indexes count in the namespace of the socket: see `at`."""

    def __init__(self) -> None:
        super().__init__()
        self._others: dict[str, Netlink] = {}

    def close(self) -> None:
        """Close this socket and those of other namespaces."""
        for other in self._others.values():
            other.close()
        self._others.clear()
        super().close()

    def at(self, device: str) -> Netlink:
        """The socket of the namespace that `device` is in. Raises KernelError: ENOENT without one, EPERM."""
        name = netns_of(device)
        if not name:
            return self
        if name not in self._others:
            with namespace.inside(name):
                self._others[name] = Netlink()
        return self._others[name]

    def reaches(self, device: str) -> bool:
        """Whether the namespace that `device` is in exists."""
        return not netns_of(device) or namespace.exists(netns_of(device))

    def link(self, name: str) -> Link | None:
        """The link with this name, None without one, or without its namespace."""
        if netns_of(name):
            found = self.at(name).link(bare(name)) if self.reaches(name) else None
            return found._replace(name=name) if found else None
        return self._link(rt.link_get(name), f"link {name}")

    def link_at(self, index: int) -> Link | None:
        """The link with this index, None without one."""
        return self._link(rt.link_get(index=index), f"link {index}")

    def _link(self, request: Request, what: str) -> Link | None:
        try:
            payload = self._one(request, what)
        except KernelError as error:
            if error.errno != errno.ENODEV:
                raise
            return None
        link, master = rt.decode_link(payload), rt.decode_master(payload)
        owner = self.link_at(master) if master else None
        return link._replace(vrf=owner.name) if owner and owner.kind == "vrf" else link

    def vrf_table(self, name: str) -> int:
        """The routing table of the VRF `name`; raises KernelError: ENODEV without it, ENOENT without its namespace."""
        found, there = 0, self.at(name)
        if there.link(bare(name)) is not None:
            found = rt.decode_vrf_table(there._one(rt.link_get(bare(name)), f"link {name}"))
        if not found:
            hint = f"{ip(name)} link add {bare(name)} type vrf table NUMBER, and set it up, before the tunnel"
            raise KernelError(f"vrf {name}: there is no VRF of that name", errno.ENODEV, hint)
        return found

    def add_link(self, link: Link) -> Link:
        """Make a device and give it as it is then, index and MTU included. Everything asked for is read back and compared; a
        difference takes the device away again and raises EPROTO. EEXIST means the name, or the identity: local, remote and
        parent of a VTI, both ends of a VTI6, if_id of an XFRM interface; never the keys. The identity may be held by a device
        moved to another namespace."""
        if netns_of(link.name):
            return self._add_and_move(link)
        what = f"link add {link.name}"
        try:
            self._change(rt.link_add(link), what, _MODULES.get(link.kind, ""))
        except KernelError as error:
            if link.external and error.errno == errno.EINVAL:
                hint = "external needs Linux 6.1; without it, an interface for each if_id"
                raise KernelError(error.text, error.errno, hint) from None
            raise
        made = self.link(link.name)
        if made is None or made.kind != link.kind:
            raise _gone(what)
        try:
            if link.alias:
                self.set_link(made.ifindex, alias=link.alias)
                made = self._read_back(made.ifindex, what)
            _compare(what, link._replace(ifindex=0), made, created=True)
        except KernelError:
            with suppress(KernelError):  # the first error says why
                self.delete_link(made.ifindex)
            raise
        return made

    def _add_and_move(self, link: Link) -> Link:
        """Make a device here and move it: made there, its packets would leave there too (IFLA_NET_NS_FD at creation, before
        Linux 6.15). Its alias tells a device that a killed call left on the way, which is removed first."""
        name, there = bare(link.name), self.at(link.name)
        on_its_way = ON_ITS_WAY + netns_of(link.name)
        left = self.link(name)
        if left is not None and left.alias == on_its_way:
            self.delete_link(left.ifindex)
        made = self.add_link(link._replace(name=name, alias=on_its_way, up=False))
        try:
            with namespace.opened(netns_of(link.name)) as descriptor:
                self._change(rt.link_move(made.ifindex, descriptor), f"link set {name} netns {netns_of(link.name)}")
        except KernelError:
            with suppress(KernelError):
                self.delete_link(made.ifindex)
            raise
        moved = there.link(name)
        if moved is None:
            raise _gone(link.name, "there")
        return moved._replace(name=link.name)

    def change_link(self, link: Link) -> Link:
        """Give the device with this `ifindex` all of its kind's data anew; see `link_messages.link_change`. A device that reads
        back otherwise raises EPROTO. EINVAL for VTI between any and a certain remote (POINTOPOINT, ip_tunnel_changelink), for
        XFRM another parent; EEXIST if another device has the new identity."""
        what = f"link change {link.name}"
        self._change(rt.link_change(link.ifindex, link), what)
        changed = self._read_back(link.ifindex, what)
        _compare(what, link, changed, created=False)
        return changed

    def _read_back(self, index: int, what: str) -> Link:
        link = self.link_at(index)
        if link is None:
            raise _gone(what)
        return link

    def set_link(self, index: int, up: bool | None = None, mtu: int = 0, alias: str | None = None, master: int = 0) -> None:
        """Admin state, MTU in bytes, alias ("" removes it), index of its VRF. Down flushes routes and IPv6 addresses."""
        self._change(rt.link_set(index, up, mtu, alias, master), f"link set {index}")

    def set_state(self, index: int, dormant: bool) -> None:
        """The operational state; dormant takes nothing away."""
        self._change(rt.link_state(index, dormant), f"link set {index}")

    def set_multicast(self, index: int, on: bool) -> None:
        """Whether packets to groups may leave by it."""
        self._change(rt.link_multicast(index, on), f"link set {index}")

    def delete_link(self, index: int, device: str = "") -> None:
        """Remove a device. A fallback device (ip_vti0) stays, and the kernel says nothing (ip_tunnel_dellink)."""
        self._change(rt.link_delete(index), f"link delete {device or index}")

    def addresses(self, index: int, family: int = 0) -> list[str]:
        """A device's addresses in interface notation; `family` is 4, 6 or 0 for both. ENODEV without the device."""
        what = f"addresses of link {index}"
        seen = self._all(rt.addresses_get(index, family), rt.NEW_ADDRESS, what)
        found = (rt.decode_address(payload) for payload in seen)
        return [text for owner, text in found if owner == index and (not family or (":" in text) == (family == 6))]

    def all_addresses(self) -> list[tuple[int, str]]:
        """Every address of the namespace, each with the index of its device."""
        seen = self._all(rt.addresses_get(0), rt.NEW_ADDRESS, "addresses")
        return [rt.decode_address(payload) for payload in seen]

    def lasting_addresses(self, family: int, index: int = 0) -> list[str]:
        """The addresses of family 4 or 6, of one device or of all, but for those of IPv6 that go again by themselves, or may
        not be sent from."""
        seen = self._all(rt.addresses_get(index, family), rt.NEW_ADDRESS, "addresses")
        found = [rt.decode_address(payload) for payload in seen if rt.is_lasting(payload)]
        return [host(text) for owner, text in found if index in (0, owner) and (":" in text) == (family == 6)]

    def add_address(self, index: int, address: str, replace: bool = False, device: str = "") -> None:
        """Add `10.99.0.1/30`; EEXIST if the device has it. IPv6 without duplicate address detection."""
        self._change(rt.address_add(index, address, replace), f"address add {address} dev {device or index}")

    def delete_address(self, index: int, address: str, device: str = "") -> None:
        """Remove an address, and with it the routes that prefer it as source; EADDRNOTAVAIL if it is not there."""
        self._change(rt.address_delete(index, address), f"address delete {address} dev {device or index}")

    def add_route(
        self, route: Route, oif: int = 0, replace: bool = False, hops: Sequence[int] = (), beside: bool = False
    ) -> None:
        """Add a route through `oif`, else through `route.device` looked up now; EEXIST as in `route_messages.route_add`.
        `replace` takes the place of the first route with this destination, table and metric, through any device; `beside` lets
        it stand for a moment beside another device's."""
        what = f"route {'replace' if replace else 'add'} {_route_text(route)}"
        self._change(routing.route_add(route, oif or self._oif(route, what), replace, hops, beside), what)

    def delete_route(self, route: Route, oif: int = 0) -> None:
        """Remove a route that agrees in `route_messages.route_delete`'s fields; ESRCH if there is none."""
        what = f"route delete {_route_text(route)}"
        self._change(routing.route_delete(route, oif or self._oif(route, what)), what)

    def _oif(self, route: Route, what: str) -> int:
        link = self.link(route.device)
        if link is None:
            raise refusal(what, errno.ENODEV)
        return link.ifindex

    def path(self, address: str, device: str = "") -> Path | None:
        """How a packet to `address` would go now, through `device` if given; None if it would not."""
        oif = 0
        if device:
            link = self.link(device)
            if link is None:
                return None
            oif = link.ifindex
            if ":" not in address and self.match(address, oif).route is None:
                return None
        seen = self.match(address, oif, fib=False).route
        if seen is None or seen.type not in (routing.UNICAST, routing.LOCAL):
            return None
        link = self.link_at(seen.oif)
        return Path(link.name if link else "", seen.gateway, seen.source, seen.type == routing.LOCAL)


def _gone(what: str, where: str = "here") -> KernelError:
    return KernelError(f"{what}: it was gone at once", errno.ENODEV, f"something else manages devices {where}")


def _route_text(route: Route) -> str:
    return f"{route.destination} dev {route.device}" + (f" table {route.table}" if route.table != MAIN_TABLE else "")


def _compare(what: str, asked: Link, seen: Link, created: bool) -> None:
    """Raise KernelError (EPROTO) at the first attribute that is not as asked; unasked are 0 and "" outside the data."""
    fields = ["kind", "local", "remote", "ikey", "okey", "parent", "if_id", "external"]
    fields += [name for name in ("name", "mtu", "alias") if getattr(asked, name)]
    fields += ["up"] if created or asked.up else []
    for name in fields:
        want, have = getattr(asked, name), getattr(seen, name)
        if name in ("local", "remote"):
            want, have = "" if is_any(want) else canonical(want), "" if is_any(have) else have
        if want != have:
            said = f"{what}: asked for {name} {getattr(asked, name)}, the kernel has {getattr(seen, name)}"
            raise KernelError(said, errno.EPROTO, "please report this kernel")
