"""Policy rules that lead packets to the tunnel's table: by mark, source or the device they come in by."""

from __future__ import annotations

from updown.model.claims import SaInfo
from updown.model.errors import Refused
from updown.model.objects import MAIN_TABLE, Rule, family
from updown.model.operations import Operation
from updown.model.resources import Observed
from updown.settings.keys import Settings


def wants(sa: SaInfo, settings: Settings, device: str) -> tuple[Rule, ...]:
    """Each `rule` of the settings: of its source's family, else of that which the tunnel carries. Raises Refused for rules that
    lead nowhere else."""
    if settings.rule and settings.table == MAIN_TABLE:
        raise Refused("rule needs table = NUMBER: the main table is where every packet looks", "set table, or vrf")
    return tuple(
        Rule(
            family=family(asked.source) if asked.source else sa.inner_family,
            device=device,
            table=settings.table,
            priority=asked.priority,
            source=asked.source,
            iif=asked.iif,
            fwmark=asked.fwmark,
            fwmask=asked.fwmask,
        )
        for asked in settings.rule
    )


def plan(want: Rule, observed: Observed, claim: str) -> Operation | None:
    """Add the rule, unless one like it is there, whoever made it."""
    if any(have._replace(protocol=want.protocol) == want for have in observed.rules):
        return None
    return Operation("rule add", want, reason=f"{claim}: such packets look into table {want.table}")


def plan_removal(want: Rule, observed: Observed, why: str) -> list[Operation]:
    """Remove a rule of ours."""
    return [Operation("rule delete", want, reason=why)] if want in observed.rules else []
