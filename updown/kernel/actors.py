"""Who reads and who changes what in the kernel: one actor for each effect, by the first word of an operation's action.

The only effects of the program are here and in what this calls. A new subsystem is one more file in this folder, and its line
in ACTORS."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from updown.concerns import sysctls
from updown.concerns.routes import is_host
from updown.kernel import nft, sysctl
from updown.kernel.netlink.rtnetlink import Netlink
from updown.model.errors import KernelError
from updown.model.objects import OUR_PROTOCOL, Address, Link, Route, Rule, bare, has_our_alias, netns_of, placed
from updown.model.operations import Operation
from updown.model.record import Any, NamedTuple
from updown.model.resources import Clamp, Sysctl


class Actor(NamedTuple):
    """`perform` does an operation, and gives the index of a device it made; it raises KernelError. `read` gives what is there
    of what is wanted, for concerns that stand alone (`disturbed` devices may be made anew); observe.py asks for others. `owned`
    gives what is ours in a namespace with these links, whoever asked for it."""

    perform: Callable[[Operation, Netlink], int | None]
    read: Callable[[Netlink, list[Any], Sequence[str]], Any] | None = None
    owned: Callable[[Netlink, str, Sequence[Link]], list[Any]] | None = None


def perform(operation: Operation, netlink: Netlink) -> int | None:
    """One operation; gives the index of a device it made. Raises KernelError."""
    return ACTORS[operation.effect].perform(operation, netlink)


def perform_sysctl(operation: Operation, _netlink: Netlink) -> None:
    """Write a file below /proc/sys."""
    sysctl.write(operation.subject.path, operation.subject.value)


def read_sysctls(_netlink: Netlink, wants: list[Sysctl], disturbed: Sequence[str]) -> dict[str, str | None]:
    """The sysctls wanted, `all` beside them where that decides, and `default` where the device is made, or made anew."""
    found: dict[str, str | None] = {}
    for want in wants:
        for path in sysctls.paths_read(want):
            if path not in found:
                found[path] = sysctl.read(path)
        if found[want.path] is None or want.device in disturbed:
            found[sysctls.default_path(want)] = sysctl.read(sysctls.default_path(want))
    return found


def perform_firewall(operation: Operation, _netlink: Netlink) -> None:
    """Make or delete a table of ours."""
    if operation.verb == "delete":
        nft.delete_table(operation.subject.device)
    else:
        nft.put_table(operation.subject)


def read_firewall(_netlink: Netlink, wants: list[Clamp], _disturbed: Sequence[str]) -> dict[str, Clamp | None]:
    """By device, the table of ours."""
    return {want.device: nft.read_table(want.device) for want in wants}


def owned_firewall(_netlink: Netlink, netns: str, _links: Sequence[Link]) -> list[Clamp]:
    """The tables of ours, by name."""
    return [Clamp(device) for device in nft.clamped_devices(netns)]


def perform_address(operation: Operation, netlink: Netlink) -> None:
    """Add or remove an address."""
    address: Address = operation.subject
    index, there = index_of(netlink, address.device), netlink.at(address.device)
    change = there.add_address if operation.verb == "add" else there.delete_address
    change(index, address.address, device=address.device)


def perform_rule(operation: Operation, netlink: Netlink) -> None:
    """Add or remove a policy rule."""
    there = netlink.at(operation.subject.device)
    (there.add_rule if operation.verb == "add" else there.delete_rule)(operation.subject)


def read_rules(netlink: Netlink, wants: list[Rule], _disturbed: Sequence[str]) -> frozenset[Rule]:
    """The wanted rules that are there, whoever made them. Linux has no question for a single rule, so all are read."""
    found: set[Rule] = set()
    dumps: dict[tuple[str, int], list[Rule]] = {}
    for want in wants:
        where = (netns_of(want.device), want.family)
        if where not in dumps:
            dumps[where] = netlink.at(want.device).rules(want.family)
        for seen in dumps[where]:
            if seen._replace(device=want.device, protocol=want.protocol) == want:
                found.add(seen._replace(device=want.device))
    return frozenset(found)


def owned_rules(netlink: Netlink, netns: str, _links: Sequence[Link]) -> list[Rule]:
    """The rules with our protocol."""
    here = placed("", netns)
    return [one._replace(device=here) for six in (4, 6) for one in netlink.at(here).rules(six) if one.protocol == OUR_PROTOCOL]


def perform_link(operation: Operation, netlink: Netlink) -> int | None:
    """Make, change, set or delete a device."""
    verb = operation.verb
    link: Link = operation.subject
    if verb == "add":
        return netlink.add_link(link._replace(ifindex=0)).ifindex
    index = index_of(netlink, link.name, link if verb == "delete" else None)
    there = netlink.at(link.name)
    if verb == "delete":
        there.delete_link(index)
    elif verb == "state":
        there.set_state(index, link.dormant)
    elif verb == "multicast":
        there.set_multicast(index, link.multicast)
    elif verb == "change":
        there.change_link(link._replace(name=bare(link.name), ifindex=index))
    else:
        master = index_of(netlink, placed(link.vrf, netns_of(link.name))) if link.vrf else 0
        there.set_link(index, up=link.up, mtu=link.mtu, alias=link.alias, master=master)
    return None


def perform_route(operation: Operation, netlink: Netlink) -> None:
    """Add, delete or replace a route. One that differs goes first: the kernel's own replace takes the first route of the
    prefix, through any device, which need not be ours. Without a difference it is put back where it may have been lost."""
    route: Route = operation.subject
    before: Route = operation.before
    netlink = netlink.at(route.device)
    index = index_of(netlink, bare(route.device))
    if operation.verb == "delete":
        netlink.delete_route(route, index)
        return
    hops = [index_of(netlink, bare(name)) for name in route.hops]
    if operation.verb == "replace" and before:
        behind = index_of(netlink, bare(before.device))
        try:
            netlink.delete_route(before, behind)
        except KernelError as error:
            if error.errno != errno.ESRCH:  # it may have gone with an address of its device just now
                raise
        try:
            netlink.add_route(route, index, hops=hops, beside=is_host(route))
        except KernelError:
            netlink.add_route(
                before, behind, hops=[index_of(netlink, bare(name)) for name in before.hops], beside=is_host(before)
            )
            raise
    else:
        verb = operation.verb
        netlink.add_route(route, index, replace=verb == "replace", hops=hops, beside=verb in ("prepend", "front"))


def owned_routes(_netlink: Netlink, netns: str, links: Sequence[Link]) -> list[Route]:
    """The routes with our protocol, as wishes, with the devices that they lead into."""
    from updown.kernel.netlink import dumps  # never on the hook's path

    names = {link.ifindex: link.name for link in links}
    found: list[Route] = []
    for one in dumps.routes(OUR_PROTOCOL, netns):
        first, *more = [names[index] for index in one.hops or (one.oif,) if index in names] or [""]
        route = Route(one.destination, first, one.gateway, one.table, one.metric, one.mtu, one.source, hops=tuple(more))
        found += [route] if first else []
    return found


def index_of(netlink: Netlink, name: str, meant: Link | None = None) -> int:
    """A device's index; raises KernelError (ENODEV), also where another is there by now than the one that is `meant`."""
    link = netlink.link(name)
    if link is None:
        raise KernelError(f"{name}: no such device", errno.ENODEV)
    if meant is not None:
        marked = has_our_alias(meant) and not has_our_alias(link)
        if marked or link.kind != meant.kind or meant.ifindex not in (0, link.ifindex):
            raise KernelError(f"{name}: another device by now", errno.ENODEV)
    return link.ifindex


ACTORS = {
    "link": Actor(perform_link),
    "address": Actor(perform_address),
    "route": Actor(perform_route, owned=owned_routes),
    "rule": Actor(perform_rule, read_rules, owned_rules),
    "sysctl": Actor(perform_sysctl, read_sysctls),
    "firewall": Actor(perform_firewall, read_firewall, owned_firewall),
}
