"""A small honest kernel in memory: what kernel/netlink/rtnetlink.Netlink asks of the real one, with the real one's rules.

The rules are peers-and-field.md section 5 of the contracts; each refusal here is one that Linux 6.1 gives. What is not
modelled: dead hops, neighbours, VRFs, and of namespaces only that a device which left still holds its identity.
tests/kernel/test_model.py compares the model with the real kernel.
"""

import errno
import ipaddress
import os
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Callable, NamedTuple, NoReturn, Optional, Union

from updown.kernel.netlink.route_messages import LOCAL, UNICAST, RouteSeen
from updown.kernel.netlink.routing import Match
from updown.model.errors import KernelError
from updown.model.ipsec import Policy
from updown.model.objects import MAIN_TABLE, Link, Path, Route, Rule, is_any, netns_of
from updown.model.resources import Clamp

LOCAL_TABLE = 255
KERNEL_PROTOCOL = 2
DEFAULT_SYSCTLS = {
    "ipv4": {
        "disable_policy": "0",
        "forwarding": "0",
        "rp_filter": "0",
        "disable_xfrm": "0",
        "send_redirects": "1",
        "accept_redirects": "1",
    },
    "ipv6": {"disable_policy": "0", "forwarding": "0", "addr_gen_mode": "0", "accept_ra": "1", "accept_redirects": "1"},
}
KEEP = "net/ipv6/conf/default/keep_addr_on_down"
"""Shown only where a test sets it."""
HEADERS = {"vti": 20, "vti6": 40}
VALUES = re.compile("[0-9]+")


class Kill(BaseException):
    """The process died at this very moment: nothing after it ran, not even an `except Exception`."""


class Entry(NamedTuple):
    """A route in the table: as it was asked for, and through which device."""

    route: Route
    oif: int
    more: tuple[int, ...] = ()  # further devices


Fault = Callable[[int, str], None]
"""Called before every change with its number (from 0) and its text; may raise."""


class Kernel:
    """Links, addresses, routes and /proc/sys of one network namespace."""

    def __init__(self) -> None:
        self.table: list[Entry] = []
        self.policy: set[Rule] = set()
        self.addressed: dict[int, list[str]] = {}
        self.by_index: dict[int, Link] = {}
        self.away: list[Link] = []  # made here, moved to another namespace
        self.files: dict[str, str] = {}
        self.tables: dict[str, Clamp] = {}  # nftables tables of ours, by device
        self.ipsec: tuple[Policy, ...] = ()
        self.read_only_sysctls = False
        self.promotes = False  # promote_secondaries
        self.changes: list[str] = []
        self.dumped: list[str] = []
        self.asked = 0  # questions, dumps among them
        self.fault: Optional[Fault] = None
        self.next_index = 1
        for name in ("all", "default"):
            self._files_of(name)
        lo = self._new(Link("lo", mtu=65536, up=True))
        self.addressed[lo] = ["127.0.0.1/8", "::1/128"]

    # -- for tests: the world before we come, and pictures of it

    def physical(self, name: str, *addresses: str) -> int:
        """A device with a cable in it."""
        index = self._new(Link(name, mtu=1500, up=True))
        self.addressed[index] = list(addresses)
        return index

    def fallback(self, name: str = "ip_vti0", kind: str = "vti") -> int:
        """The device that comes with the module: both ends any."""
        anywhere = "0.0.0.0" if kind == "vti" else "::"
        return self._new(Link(name, kind, local=anywhere, remote=anywhere, mtu=1480))

    def named(self, name: str) -> Link:
        """The link, which must be there."""
        link = self.link(name)
        assert link is not None, f"{name} is missing"
        return link

    def move_away(self, name: str) -> None:
        """`ip link set NAME netns OTHER`: here everything on it is gone, but its identity stays taken."""
        link = self.named(name)
        self.remove(link.ifindex)
        self.away.append(link)

    def routes_by(self, name: str) -> set[str]:
        """Destinations of the routes through a device that the kernel did not make by itself."""
        link = self.link(name)
        return {entry.route.destination for entry in self.table if link and entry.oif == link.ifindex}

    def picture(self, indexes: bool = True) -> tuple[object, ...]:
        """Everything there is, for comparison."""
        names = {index: link.name for index, link in self.by_index.items()}
        return (
            sorted(link if indexes else link._replace(ifindex=0) for link in self.by_index.values()),
            sorted((names[index], tuple(sorted(found))) for index, found in self.addressed.items() if index in names),
            sorted((entry.route, names.get(entry.oif, "")) for entry in self.table),
            sorted(self.policy),
            dict(self.files),
            dict(self.tables),
        )

    # -- the interface of Netlink

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *_: object) -> None:
        return

    def close(self) -> None:
        """Nothing is open."""

    def namespace_cookie(self) -> Optional[int]:
        return 1

    def at(self, device: str) -> "Kernel":
        """There is one namespace."""
        if "@" in device:
            raise KernelError(f"network namespace {netns_of(device)} does not exist", errno.ENOENT)
        return self

    def reaches(self, device: str) -> bool:
        return "@" not in device

    def policies(self) -> list[Policy]:
        """Of the socket that is beside Netlink: what a test says there is."""
        return list(self.ipsec)

    def vrf_table(self, name: str) -> int:
        self.at(name)
        refuse(f"vrf {name}", errno.ENODEV)

    def rules(self, family: int) -> list[Rule]:
        self.asked += 1
        return sorted(rule for rule in self.policy if rule.family == family)

    def add_rule(self, rule: Rule) -> None:
        self._change(f"rule add {rule}")
        if rule._replace(device="") in self.policy:
            refuse("rule add", errno.EEXIST)
        self.policy.add(rule._replace(device=""))

    def delete_rule(self, rule: Rule) -> None:
        self._change(f"rule delete {rule}")
        if rule._replace(device="") not in self.policy:
            refuse("rule delete", errno.ENOENT)
        self.policy.remove(rule._replace(device=""))

    def link(self, name: str) -> Optional[Link]:
        self.asked += 1
        return next((told(link) for link in self.by_index.values() if link.name == name), None)

    def link_at(self, index: int) -> Optional[Link]:
        self.asked += 1
        found = self.by_index.get(index)
        return found and told(found)

    def links(self, netns: str = "") -> list[Link]:
        """The dump of updown.kernel.netlink.dumps."""
        assert not netns
        self.asked += 1
        self.dumped.append("links")
        return list(self.by_index.values())

    def add_link(self, link: Link) -> Link:
        self._change(f"link add {link.name}")
        if self.link(link.name):
            refuse(f"link add {link.name}", errno.EEXIST)
        if not name_fits(link.name) or link.kind not in ("vti", "vti6", "xfrm", "dummy"):
            refuse(f"link add {link.name}", errno.EINVAL)
        self._check_identity(link, 0)
        index = self._new(link._replace(mtu=link.mtu or 1500 - HEADERS.get(link.kind, 0), dormant=False))
        return self.by_index[index]

    def change_link(self, link: Link) -> Link:
        self._change(f"link change {link.name}")
        index = link.ifindex or self.named(link.name).ifindex
        have = self.by_index.get(index)
        if have is None:
            refuse(f"link change {link.name}", errno.ENODEV)
        if self._is_fallback(have) or have.kind != link.kind:
            refuse(f"link change {link.name}", errno.EINVAL)
        if link.kind == "vti" and is_any(have.remote) != is_any(link.remote):
            refuse(f"link change {link.name}", errno.EINVAL)
        if link.kind == "xfrm" and (have.parent != link.parent or have.external != link.external):
            refuse(f"link change {link.name}", errno.EINVAL)
        self._check_identity(link, index)
        self.by_index[index] = have._replace(
            local=link.local,
            remote=link.remote,
            ikey=link.ikey,
            okey=link.okey,
            parent=link.parent,
            if_id=link.if_id,
            mtu=link.mtu or have.mtu,
            up=link.up or have.up,
            alias=link.alias or have.alias,
        )
        return self.by_index[index]

    def set_multicast(self, index: int, on: bool) -> None:
        self._change(f"link set {index}")
        if index not in self.by_index:
            refuse(f"link set {index}", errno.ENODEV)
        self.by_index[index] = self.by_index[index]._replace(multicast=on)

    def set_state(self, index: int, dormant: bool) -> None:
        self.set_link(index)
        self.by_index[index] = self.by_index[index]._replace(dormant=dormant)

    def set_link(
        self, index: int, up: Optional[bool] = None, mtu: int = 0, alias: Optional[str] = None, master: int = 0
    ) -> None:
        assert not master
        have = self.by_index.get(index)
        self._change(f"link set {have.name if have else index}")
        if have is None:
            refuse(f"link set {index}", errno.ENODEV)
        if mtu and not 68 <= mtu <= 65536:
            refuse(f"link set {have.name}", errno.EINVAL)
        if up is False and have.up:
            self.table = [entry for entry in self.table if entry.more or entry.oif != index]  # such a hop only rests
            self._flush_ipv6(index, have.name)
        self.by_index[index] = have._replace(
            up=have.up if up is None else up, mtu=mtu or have.mtu, alias=have.alias if alias is None else alias
        )

    def delete_link(self, index: int, device: str = "") -> None:
        have = self.by_index.get(index)
        self._change(f"link delete {have.name if have else device or index}")
        if have is None:
            refuse(f"link delete {index}", errno.ENODEV)
        if not self._is_fallback(have):
            self.remove(index)

    def addresses(self, index: int, family: int = 0) -> list[str]:
        self.asked += 1
        if index not in self.by_index:
            refuse(f"addresses of link {index}", errno.ENODEV)
        return [address for address in self.addressed[index] if not family or (":" in address) == (family == 6)]

    def all_addresses(self) -> list[tuple[int, str]]:
        self.asked += 1
        return [(index, address) for index, found in self.addressed.items() for address in found]

    def lasting_addresses(self, family: int, index: int = 0) -> list[str]:
        self.asked += 1
        self.dumped += [] if index else [f"addresses {family}"]
        each = [text for at, found in self.addressed.items() if index in (0, at) for text in found]
        return [text.split("/")[0].split(" ")[0] for text in each if (":" in text) == (family == 6)]

    def add_address(self, index: int, address: str, replace: bool = False, device: str = "") -> None:
        self._change(f"address add {address}")
        if index not in self.by_index:
            refuse(f"address add {address} {device}", errno.ENODEV)
        if address in self.addressed[index]:
            if not replace:
                refuse(f"address add {address}", errno.EEXIST)
            return
        self.addressed[index].append(address)

    def delete_address(self, index: int, address: str, device: str = "") -> None:
        self._change(f"address delete {address}")
        if index not in self.by_index:
            refuse(f"address delete {address} {device}", errno.ENODEV)
        if address not in self.addressed[index]:
            refuse(f"address delete {address}", errno.EADDRNOTAVAIL)
        same = [other for other in self.addressed[index] if subnet(other) == subnet(address)]
        # an IPv4 subnet's primary address takes the secondary ones with it, unless promote_secondaries is 1
        gone = same if ":" not in address and same[0] == address and not self.promotes else [address]
        self.addressed[index] = [other for other in self.addressed[index] if other not in gone]
        self._lose({other.split("/")[0] for other in gone}, index)
        if ":" not in address and not any(":" not in other for other in self.addressed[index]):
            self.table = [entry for entry in self.table if entry.oif != index or ":" in entry.route.destination]

    def add_route(
        self, route: Route, oif: int = 0, replace: bool = False, hops: Sequence[int] = (), beside: bool = False
    ) -> None:
        what = f"route add {route.destination}"
        self._change(what)
        link = self.by_index.get(oif or self.named(route.device).ifindex)
        if link is None:
            refuse(what, errno.ENODEV)
        if not link.up or any(not self.by_index[index].up for index in hops):
            refuse(what, errno.ENETDOWN)
        if route.source and route.source not in self._local_addresses():
            refuse(what, errno.EINVAL)
        asked = kept(route, link.name)
        slot = [entry for entry in self.table if place(entry.route) == place(asked)]
        if beside:
            assert not (asked.gateway and ":" in asked.destination), "the kernel would make one route of the two"
            if any(entry.oif == link.ifindex for entry in slot):
                refuse(what, errno.EEXIST)
            self.table.insert(0 if ":" not in asked.destination else len(self.table), Entry(asked, link.ifindex))
            return
        if slot and not replace:
            refuse(what, errno.EEXIST)
        self.table = [entry for entry in self.table if entry not in slot[:1]] + [Entry(asked, link.ifindex, tuple(hops))]

    def delete_route(self, route: Route, oif: int = 0) -> None:
        what = f"route delete {route.destination}"
        self._change(what)
        index = oif or self.named(route.device).ifindex
        asked = kept(route, route.device)
        for entry in self.table:
            have = entry.route
            fits = (have.destination, have.table) == (asked.destination, asked.table) and entry.oif == index
            same = have.protocol == asked.protocol and have.gateway == asked.gateway
            if fits and same and route.metric in (0, have.metric):
                self.table.remove(entry)
                return
        refuse(what, errno.ESRCH)

    def match(self, address: str, oif: int = 0, fib: bool = True, mark: int = 0) -> Match:
        self.asked += 1
        if address == "0.0.0.0":  # an IPv4 lookup of no address is answered with the loopback (ip_route_output_key)
            return Match(RouteSeen("127.0.0.1/32", self.named("lo").ifindex, table=LOCAL_TABLE, type=LOCAL))
        best = self._best(address, oif, mark)
        if best is None:
            return Match(None, errno.ENETUNREACH)
        if fib:
            return Match(best)
        if best.type == LOCAL:  # the entry names the address's device, the outcome the loopback
            best = best._replace(oif=self.named("lo").ifindex)
        return Match(best._replace(source=best.source or self._preferred(best.oif, address)))

    def path(self, address: str, device: str = "") -> Optional[Path]:
        self.asked += 1
        oif = 0
        if device:
            link = self.link(device)
            if link is None:
                return None
            oif = link.ifindex
        seen = self.match(address, oif, fib=False).route
        if seen is None:
            return None
        link = self.link_at(seen.oif)
        return Path(link.name if link else "", seen.gateway, seen.source, seen.type == LOCAL)

    def routes(self, family: int, table: int = 0, oif: int = 0, protocol: int = 0) -> list[RouteSeen]:
        self.asked += 1
        self.dumped.append(f"routes {family} {table}")
        return [
            seen
            for seen in self._everything()
            if (":" in seen.destination) == (family == 6)
            and table in (0, seen.table)
            and oif in (0, seen.oif)
            and protocol in (0, seen.protocol)
        ]

    def routes_of(self, protocol: int, netns: str = "") -> list[RouteSeen]:
        """The dump of updown.kernel.netlink.dumps."""
        assert not netns
        return self.routes(4, protocol=protocol) + self.routes(6, protocol=protocol)

    # -- /proc/sys

    def read_sysctl(self, path: str) -> Optional[str]:
        self.asked += 1
        return self.files.get(path)

    def write_sysctl(self, path: str, value: str) -> None:
        self._change(f"sysctl {path}={value}")
        if self.read_only_sysctls:
            raise KernelError(f"sysctl {path}={value}: {os.strerror(errno.EROFS)}", errno.EROFS)
        if path not in self.files:
            refuse(f"sysctl {path}={value}", errno.ENOENT)
        if not VALUES.fullmatch(value):
            refuse(f"sysctl {path}={value}", errno.EINVAL)
        self.files[path] = value

    # -- nft

    def table_of(self, device: str) -> Optional[Clamp]:
        self.asked += 1
        return self.tables.get(device)

    def put_table(self, clamp: Clamp) -> None:
        self._change(f"nft table {clamp.device}")
        self.tables[clamp.device] = clamp

    def remove_table(self, device: str) -> None:
        self._change(f"nft delete table {device}")
        if device not in self.tables:
            refuse(f"nft delete table {device}", errno.ENOENT)
        del self.tables[device]

    # -- inside

    def remove(self, index: int) -> None:
        """A device goes, with everything on it."""
        link = self.by_index.pop(index)
        self.addressed.pop(index)
        six = [without(entry, index) for entry in self.table if ":" in entry.route.destination and entry.more]
        self.table = [entry for entry in self.table if index not in (entry.oif, *entry.more)]
        self.table += [entry for entry in six if entry is not None]
        self._lose({entry.route.source for entry in self.table} - {""}, index)
        for path in [path for path in self.files if f"/conf/{link.name}/" in path]:
            del self.files[path]

    def _lose(self, addresses: set[str], index: int) -> None:
        """IPv4 routes that prefer a lost address go (fib_sync_down_addr); IPv6 routes of the device only forget it
        (fib6_remove_prefsrc)."""
        lost = addresses - self._local_addresses()
        table: list[Entry] = []
        for entry in self.table:
            if entry.route.source in lost and ":" in entry.route.destination:
                entry = Entry(entry.route._replace(source=""), entry.oif) if entry.oif == index else entry
            elif entry.route.source in lost:
                continue
            table.append(entry)
        self.table = table

    def _flush_ipv6(self, index: int, name: str) -> None:
        """A link that goes down loses its IPv6 addresses, unless it keeps those that are not link-local."""
        keeps = self.files.get(f"net/ipv6/conf/{name}/keep_addr_on_down", "0") > "0"
        gone = [text for text in self.addressed[index] if ":" in text and not (keeps and not text.startswith("fe80:"))]
        self.addressed[index] = [text for text in self.addressed[index] if text not in gone]
        self._lose({text.split("/")[0] for text in gone}, index)

    def _change(self, text: str) -> None:
        number = len(self.changes)
        self.changes.append(text)
        if self.fault:
            self.fault(number, text)

    def _new(self, link: Link) -> int:
        index = self.next_index
        self.next_index += 1
        self.by_index[index] = link._replace(ifindex=index)
        self.addressed[index] = []
        self._files_of(link.name)
        return index

    def _files_of(self, name: str) -> None:
        for family, keys in DEFAULT_SYSCTLS.items():
            for key, value in keys.items():
                default = self.files.get(f"net/{family}/conf/default/{key}", value)
                self.files[f"net/{family}/conf/{name}/{key}"] = default
        keeps = self.files.get(KEEP)
        if keeps is not None:
            self.files[KEEP.replace("/default/", f"/{name}/")] = keeps

    def _check_identity(self, link: Link, but: int) -> None:
        for have in (*self.by_index.values(), *self.away):
            if have.ifindex == but or have.kind != link.kind:
                continue
            if identity(have) == identity(link):
                refuse(f"link {link.name}", errno.EEXIST)

    def _is_fallback(self, link: Link) -> bool:
        return link.kind in HEADERS and is_any(link.local) and is_any(link.remote)

    def _local_addresses(self) -> set[str]:
        return {address.split("/")[0] for found in self.addressed.values() for address in found}

    def _preferred(self, oif: int, towards: str) -> str:
        own = [address.split("/")[0] for address in self.addressed.get(oif, []) if (":" in address) == (":" in towards)]
        return own[0] if own else ""

    def _everything(self) -> Iterator[RouteSeen]:
        """All routes: the local ones, the connected ones, and those in the table."""
        lo = self.named("lo").ifindex
        for index, found in self.addressed.items():
            subnets: set[object] = set()  # an IPv4 subnet's secondary addresses have no route of their own
            for address in found:
                host, length = address.split("/")
                full = 128 if ":" in host else 32
                yield RouteSeen(f"{host}/{full}", index, table=LOCAL_TABLE, protocol=KERNEL_PROTOCOL, type=LOCAL)
                network = str(subnet(address))
                connected = int(length) < full or ":" in host
                if self.by_index[index].up and connected and index != lo and network not in subnets:
                    subnets.add(network)
                    metric = 256 if ":" in host else 0
                    source = "" if ":" in host else host
                    yield RouteSeen(network, index, table=MAIN_TABLE, metric=metric, source=source, protocol=KERNEL_PROTOCOL)
        for route, oif, more in self.table:
            yield RouteSeen(
                route.destination,
                0 if more else oif,
                route.gateway,
                route.table,
                route.metric,
                route.mtu,
                route.source,
                route.protocol,
                UNICAST,
                hops=(oif, *more) if more else (),
            )

    def _best(self, address: str, oif: int, mark: int = 0) -> Optional[RouteSeen]:
        """The longest match in the local table, then in those of rules, then in main; the lowest metric of those."""
        wanted = bare(address)
        ruled = [rule.table for rule in sorted(self.policy, key=lambda rule: rule.priority) if leads(rule, address, mark)]
        for table in (LOCAL_TABLE, *ruled, MAIN_TABLE):
            fit: list[tuple[int, int, RouteSeen]] = []
            for seen in self._everything():
                if seen.table != table:
                    continue
                network = subnet(seen.destination)
                if network.version != wanted.version or wanted not in network:
                    continue
                if oif and seen.oif != oif and seen.type != LOCAL:
                    continue
                fit.append((-network.prefixlen, seen.metric, seen))
            if fit:
                return min(fit, key=lambda found: found[:2])[2]
        return None


@lru_cache(maxsize=1000)
def subnet(address: str) -> Union[ipaddress.IPv4Network, ipaddress.IPv6Network]:
    """The network of an address in interface notation."""
    return ipaddress.ip_interface(address).network


@lru_cache(maxsize=1000)
def bare(address: str) -> Union[ipaddress.IPv4Address, ipaddress.IPv6Address]:
    """An address as a number."""
    return ipaddress.ip_address(address)


def identity(link: Link) -> tuple[object, ...]:
    """What may be there once; keys are no part of it."""
    if link.kind == "vti":
        return (link.local, link.remote, link.parent)
    if link.kind == "vti6":
        return (link.local, link.remote)
    return (link.if_id,) if link.kind == "xfrm" else (link.name,)


def without(entry: Entry, index: int) -> Optional[Entry]:
    """What is left of an IPv6 route when a device goes; None where that changes nothing."""
    left = [hop for hop in (entry.oif, *entry.more) if hop != index]
    return Entry(entry.route, left[0], tuple(left[1:])) if len(left) <= len(entry.more) else None


def leads(rule: Rule, address: str, mark: int) -> bool:
    """Whether a packet of this machine without a source yet looks into the table of a rule."""
    if rule.source or rule.iif or rule.source_port or (rule.family == 6) != (":" in address):
        return False
    return (mark & rule.fwmask) == rule.fwmark and (not rule.destination or bare(address) in subnet(rule.destination))


def place(route: Route) -> tuple[str, int, int]:
    """What makes two routes one: not the device."""
    return (route.destination, route.table, route.metric)


def kept(route: Route, device: str) -> Route:
    """The route as the kernel keeps it."""
    six = ":" in route.destination
    return route._replace(device=device, metric=route.metric or (1024 if six else 0))


def name_fits(name: str) -> bool:
    """dev_valid_name(): 1 to 15 bytes, no slash, colon or white space, not . or .."""
    return 0 < len(name.encode()) < 16 and not set(name) & set("/: \t\n") and name not in (".", "..")


def told(link: Link) -> Link:
    """What the kernel says of a link: of one that is down, only that (net/core/rtnetlink.c rtnl_fill_ifinfo)."""
    return link if link.up else link._replace(dormant=False)


def refuse(what: str, number: int) -> NoReturn:
    """The kernel says no."""
    raise KernelError(f"{what}: {os.strerror(number)}", number)
