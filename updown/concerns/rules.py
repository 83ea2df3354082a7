"""Policy rules that lead packets to the tunnel's table: by mark, source, destination or the device they come in by; and those
that lead pluto's own packets past its interface."""

from __future__ import annotations

from updown.concerns.device_request import Tunnel
from updown.concerns.peer_routes import slot_of
from updown.model.concern import Concern, in_row, ip, there, told_as, verb
from updown.model.errors import Refused
from updown.model.objects import MAIN_TABLE, Rule, family
from updown.model.operations import Operation, Reason
from updown.model.resources import Left

PAST = 100
"""The priority of libreswan's own rule of this kind."""

IKE_PORTS = (500, 4500)


def wants(tunnel: Tunnel) -> tuple[Rule, ...]:
    """Each `rule` of the settings: of its networks' family, else of that which the tunnel carries. Raises Refused for rules
    that lead nowhere else. And those that lead pluto's own packets to a peer's way in a table of its own: ESP by its mark, IKE
    by the same (programs/pluto/iface_udp.c) or, before 5.0, by its ports."""
    settings = tunnel.settings
    if settings.rule and settings.table == MAIN_TABLE:
        raise Refused("rule needs table = NUMBER: the main table is where every packet looks", "set table, or vrf")
    sa, device = tunnel.sa, tunnel.device
    ports = IKE_PORTS if sa.generation < 5 else ()
    past: list[Rule] = []
    for way in (one for one in tunnel.routing.peers if one.table != MAIN_TABLE):
        rule = Rule(family(way.peer), device, way.table, PAST, destination=slot_of(way).destination)
        past.append(rule._replace(fwmark=sa.fwmark, fwmask=sa.fwmask))
        past += [rule._replace(source_port=port) for port in ports]
    return tuple(past) + tuple(
        Rule(
            family=family(asked.source or asked.destination or sa.peer_client),
            device=device,
            table=settings.table,
            **asked._asdict(),
        )
        for asked in settings.rule
    )


def key(rule: Rule) -> str:
    """Everything that the kernel tells rules apart by, and their namespace."""
    said = f"{'not ' if rule.inverted else ''}{rule.source or 'all'} {rule.iif or '-'} {rule.fwmark}/{rule.fwmask}"
    said += f" to {rule.destination}" if rule.destination else ""
    said += f" udp {rule.source_port}" if rule.source_port else ""
    return f"{rule.family} {rule.priority} {said} {rule.table}{there(rule.device)}"


def diff(want: Rule, by: str, left: Left) -> list[Operation]:
    """Add the rule, unless one like it is there, whoever made it."""
    if any(have._replace(protocol=want.protocol) == want for have in left.things.get("rule", ())):
        return []
    return [Operation("rule add", want, reason=Reason("looks into table", by, str(want.table)))]


def remove(asked: Rule, reason: Reason, left: Left) -> list[Operation]:
    """Remove a rule of ours."""
    return [Operation("rule delete", asked, reason=reason)] if asked in left.things.get("rule", ()) else []


def command(operation: Operation) -> str:
    """`ip rule add|del`."""
    rule: Rule = operation.subject
    six = "-6 " if rule.family == 6 else ""
    mask = "" if rule.fwmask == 0xFFFFFFFF else f"/{rule.fwmask:#x}"
    return in_row(
        (f"{ip(rule.device)} {six}rule {verb(operation)}", True),
        ("not", rule.inverted),
        (f"priority {rule.priority}", True),
        (f"from {rule.source}", rule.source),
        (f"to {rule.destination}", rule.destination),
        (f"iif {rule.iif}", rule.iif),
        (f"ipproto udp sport {rule.source_port}", rule.source_port),
        (f"fwmark {rule.fwmark:#x}{mask}", rule.fwmask),
        (f"lookup {rule.table} protocol {rule.protocol}", True),
    )


told = told_as(lambda rule: f"rule {rule.priority} for table {rule.table}")

CONCERN = Concern("rule", Rule, key, wants, diff=diff, remove=remove, command=command, told=told)
