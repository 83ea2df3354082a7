"""What the kernel looks into to route a packet, as questions and dumps: routes and policy rules of one namespace."""

from __future__ import annotations

import errno

from updown.kernel.netlink import route_messages as routing
from updown.kernel.netlink import rule_messages as policy
from updown.kernel.netlink.route_messages import RouteSeen
from updown.kernel.netlink.socket import NetlinkSocket
from updown.model.errors import KernelError
from updown.model.objects import Rule
from updown.model.record import NamedTuple

_NO_ROUTE = (errno.ENETUNREACH, errno.EOPNOTSUPP)
_BAD_ROUTE = (errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL)  # fib_props, net/ipv4/fib_semantics.c


class Match(NamedTuple):
    """Where the kernel would send a packet: `route`, or the reason why nowhere.

    `errno` is 0 with a route; ENETUNREACH: no route; EOPNOTSUPP: no IPv6 at all (ipv6.disable=1); EHOSTUNREACH,
    EACCES, EINVAL: a route of type unreachable, prohibit or blackhole, of which the kernel tells no more; ENODEV: no
    device with the index asked for."""

    route: RouteSeen | None = None
    errno: int = 0

    @property
    def answered(self) -> bool:
        """Whether the answer is exact: a route, or that there is none."""
        return self.errno == 0 or self.errno in _NO_ROUTE

    @property
    def table(self) -> int:
        """The table of the route; 0 without one."""
        return self.route.table if self.route else 0


class Lookup(NetlinkSocket):
    """A NETLINK_ROUTE socket that knows routes and rules by their numbers alone."""

    def match(self, address: str, oif: int = 0, fib: bool = True, mark: int = 0) -> Match:
        """The route to one address under the rules in force; with `fib` its entry, else the outcome (source, gateway).

        With `oif` only through that device, or a slave of it if it is a VRF. Without `fib` IPv4 then assumes a way
        where there is no route (ip_route_output_key_hash_rcu)."""
        request = routing.route_match(address, oif, fib, mark)
        try:
            seen = routing.decode_route(self._one(request, f"route get {address}"))
        except KernelError as error:
            if oif and fib and error.errno == errno.EHOSTUNREACH:
                return Match(None, errno.ENETUNREACH)
            # EINVAL with a reason is about the request
            if (not error.extended and error.errno in _NO_ROUTE + _BAD_ROUTE) or (oif and error.errno == errno.ENODEV):
                return Match(None, error.errno)
            raise
        return Match(seen)

    def routes(self, family: int, table: int = 0, oif: int = 0, protocol: int = 0) -> list[RouteSeen]:
        """A dump of the routes of family 4 or 6 that agree with what is not 0; none if the table does not exist."""
        request = routing.routes_get(family, table, oif, protocol)
        payloads = self._all(request, routing.NEW_ROUTE, "routes", (errno.ENOENT,))
        return [
            route
            for route in map(routing.decode_route, payloads)
            if table in (0, route.table) and oif in (0, route.oif) and protocol in (0, route.protocol)
            if (":" in route.destination) == (family == 6)  # with ipv6.disable=1 a dump of IPv6 is one of IPv4
        ]

    # Rules

    def rules(self, family: int) -> list[Rule]:
        """The policy rules of family 4 or 6 that lead to a table, their `device` empty; [] without that family."""
        without = (errno.EOPNOTSUPP, errno.EAFNOSUPPORT)
        payloads = self._all(policy.rules_get(family), policy.NEW_RULE, "rules", without)
        found = [policy.decode_rule(payload) for payload in payloads]
        return [rule for rule in found if rule is not None and rule.family == family]

    def add_rule(self, rule: Rule) -> None:
        """Add a policy rule; EEXIST if its like is there."""
        self._change(policy.rule_add(rule), f"rule add priority {rule.priority} table {rule.table}")

    def delete_rule(self, rule: Rule) -> None:
        """Remove a policy rule that agrees in everything; ENOENT if there is none."""
        self._change(policy.rule_delete(rule), f"rule delete priority {rule.priority} table {rule.table}")
