"""What decides whether a device is up and routes lead into it: the tunnels with an SA on it, and whether its far end answers.

Facts of the ledger, each found by one look into an index, however many claims there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from updown.concerns import routes
from updown.concerns.catalogue import load
from updown.ledger import schema
from updown.ledger.schema import WAITS, sa_in
from updown.ledger.store import Ledger
from updown.model.claims import REVIVE, SA, TRAP, SaInfo
from updown.model.errors import Refused
from updown.model.objects import Route, bare
from updown.model.record import NamedTuple, loads
from updown.settings.file import Line, resolver

MISSES = schema.MISSES


class Missed(NamedTuple):
    """Probes in a row that were not answered, and when the first was sent (seconds since boot)."""

    probes: int
    since: int


def is_up(ledger: Ledger, device: str) -> bool:
    """Whether a tunnel with an SA is on the device."""
    return bool(ledger.column("SELECT EXISTS (SELECT 1 FROM carries WHERE device = ?)", device)[0])


def is_silent(ledger: Ledger, device: str) -> bool:
    """Whether the far end of a device has missed so many probes that nothing is to be routed to it."""
    return any(misses >= MISSES for misses in ledger.column("SELECT misses FROM probe WHERE device = ?", device))


def living_over(ledger: Ledger, route: Route) -> list[str]:
    """The keys of routes for its prefix and for wider ones, of any metric, that claims with an SA and an answer ask for."""
    return [key for place in routes.places_over(route) for key in route_keys(ledger, SA, place, place)]


def waiting_within(ledger: Ledger, route: Route) -> list[str]:
    """The keys of routes for its prefix and for narrower ones, of any metric, that claims ask for which wait for their peer, or
    hear nothing of it."""
    return route_keys(ledger, WAITS, *routes.places_within(route))


def route_keys(ledger: Ledger, life: str, first: str, last: str) -> list[str]:
    """The keys of routes of such claims between two places; by leaps in an index, however many ask for one."""
    found: list[str] = []
    head = "SELECT place, resource FROM want WHERE life = ? AND place"
    place, key = first, ""
    while True:
        row = ledger.base.execute(f"{head} = ? AND resource > ? ORDER BY resource LIMIT 1", (life, place, key)).fetchone()
        if row is None:
            between = f"{head} > ? AND place <= ? ORDER BY place, resource LIMIT 1"
            row = ledger.base.execute(between, (life, place, last)).fetchone()
        if row is None:
            return found
        place, key = row
        found.append(key)


def devices_with_sa(ledger: Ledger) -> dict[str, SaInfo]:
    """The devices on which there is an SA, each with what was told of the first to come."""
    rows = ledger.base.execute(
        "SELECT first.device, claim.sa FROM claim JOIN"
        " (SELECT device, min(claim) AS claim FROM carries GROUP BY device) AS first ON first.claim = claim.ordering"
    )
    return {device: sa_in(told) for device, told in rows}


def sas_on_devices(ledger: Ledger) -> dict[str, list[SaInfo]]:
    """By the device that SAs send by, what was told of each."""
    rows = ledger.base.execute(
        "SELECT claim.device, claim.sa FROM carries JOIN claim ON claim.ordering = carries.claim"
        " WHERE claim.device = carries.device ORDER BY claim.ordering"
    )
    found: dict[str, list[SaInfo]] = {}
    for device, told in rows:
        found.setdefault(device, []).append(sa_in(told))
    return found


def route_sources(ledger: Ledger) -> dict[str, list[str]]:
    """By device, the addresses that routes into it prefer as source."""
    rows = ledger.base.execute("SELECT device, value FROM want WHERE resource > 'route ' AND resource < 'route~'")
    found: dict[str, list[str]] = {}
    for device, value in rows:
        asked = load(loads(value))
        if isinstance(asked, Route) and asked.source:
            found.setdefault(device, []).append(asked.source)
    return found


def receiving_devices(ledger: Ledger) -> dict[str, tuple[str, ...]]:
    """By the device that SAs send by, those that they receive by: itself, or another where if_id_in and if_id_out differ."""
    other = "SELECT device FROM carries WHERE carries.claim = claim.ordering AND carries.device != claim.device"
    rows = ledger.base.execute(
        f"SELECT DISTINCT device, coalesce(({other}), device) FROM claim"
        " WHERE EXISTS (SELECT 1 FROM carries WHERE carries.claim = claim.ordering) ORDER BY 1, 2"
    )
    found: dict[str, tuple[str, ...]] = {}
    for sends, hears in rows:
        found[sends] = (*found.get(sends, ()), hears)
    return found


def missed_probes(ledger: Ledger) -> dict[str, Missed]:
    """The devices whose far end did not answer the last probe."""
    rows = ledger.base.execute("SELECT device, misses, since FROM probe ORDER BY device")
    return {device: Missed(misses, since) for device, misses, since in rows}


def set_missed_probes(ledger: Ledger, device: str, probes: int, now: int) -> None:
    """Note how many probes in a row were not answered; 0: the last one was."""
    if not probes:
        ledger.base.execute("DELETE FROM probe WHERE device = ?", (device,))
        return
    ledger.base.execute(
        "INSERT INTO probe VALUES (?, ?, ?) ON CONFLICT (device) DO UPDATE SET misses = excluded.misses", (device, probes, now)
    )


def unprobed(ledger: Ledger, devices: Iterable[str], lines_of: Callable[[str], tuple[Line, ...] | None]) -> list[str]:
    """Of these devices those with a count that have no tunnel any more, or whose first one, up or waiting, is not probed by the
    settings. `lines_of`: by the file that its calls name; where that is not known here (None), or has mistakes, it is."""
    found: list[str] = []
    far_in: dict[str, Callable[[str, str], str] | None] = {}  # by that file
    for device in devices:
        if not ledger.column("SELECT 1 FROM probe WHERE device = ?", device):
            continue
        first = "SELECT sa FROM claim WHERE ordering = (SELECT min(claim) FROM carries WHERE device = ?)"
        waiting = f"SELECT sa FROM claim WHERE device = ? AND kind = '{REVIVE}' ORDER BY ordering LIMIT 1"
        told = [sa_in(sa) for sa in ledger.column(first, device) or ledger.column(waiting, device)]
        for config in [one.config for one in told if one.config not in far_in]:
            far_in[config] = None
            with suppress(Refused):
                lines = lines_of(config)
                far_in[config] = None if lines is None else resolver(lines, "probe")
        far_of = far_in[told[0].config] if told else None
        if not told or (far_of and not far_of(told[0].connection, bare(device))):
            found.append(device)
    return found


def forget_left(ledger: Ledger, devices: Iterable[str]) -> list[str]:
    """Forget the count of those of these devices that have no SA and no tunnel that its daemon brings back by itself: who comes
    next is a new tunnel, and a trap's routes have to lead into it, as traffic wakes it. Those that were silent."""
    found: list[str] = []
    for device in devices:
        misses = ledger.column("SELECT misses FROM probe WHERE device = ?", device)
        if misses and not is_up(ledger, device):
            kinds = ledger.column("SELECT DISTINCT kind FROM claim WHERE device = ?", device)
            if REVIVE not in kinds or TRAP in kinds:
                ledger.base.execute("DELETE FROM probe WHERE device = ?", (device,))
                found += [device] if misses[0] >= MISSES else []
    return found


def forget_all(ledger: Ledger) -> None:
    """Forget every count."""
    ledger.base.execute("DELETE FROM probe")
