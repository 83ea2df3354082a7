"""Policy rules that lead packets to the tunnel's table: by mark, source, destination or the device they come in by."""

from __future__ import annotations

from updown.concerns.device_request import Tunnel
from updown.model.concern import Concern, in_row, ip, there, told_as, verb
from updown.model.errors import Refused
from updown.model.objects import MAIN_TABLE, Rule, family
from updown.model.operations import Operation, Reason
from updown.model.resources import Left


def wants(tunnel: Tunnel) -> tuple[Rule, ...]:
    """Each `rule` of the settings: of its networks' family, else of that which the tunnel carries. Raises Refused for rules
    that lead nowhere else."""
    settings = tunnel.settings
    if settings.rule and settings.table == MAIN_TABLE:
        raise Refused("rule needs table = NUMBER: the main table is where every packet looks", "set table, or vrf")
    return tuple(
        Rule(
            family=family(asked.source or asked.destination or tunnel.sa.peer_client),
            device=tunnel.device,
            table=settings.table,
            **asked._asdict(),
        )
        for asked in settings.rule
    )


def key(rule: Rule) -> str:
    """Everything that the kernel tells rules apart by, and their namespace."""
    said = f"{'not ' if rule.inverted else ''}{rule.source or 'all'} {rule.iif or '-'} {rule.fwmark}/{rule.fwmask}"
    said += f" to {rule.destination}" if rule.destination else ""
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
        (f"fwmark {rule.fwmark:#x}{mask}", rule.fwmask),
        (f"lookup {rule.table} protocol {rule.protocol}", True),
    )


told = told_as(lambda rule: f"rule {rule.priority} for table {rule.table}")

CONCERN = Concern("rule", Rule, key, wants, diff=diff, remove=remove, command=command, told=told)
