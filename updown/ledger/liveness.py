"""What decides whether a device is up and routes lead into it: the tunnels with an SA on it, and whether its far end answers.

Facts of the ledger, each found by one look into an index, however many claims there are."""

from __future__ import annotations

from updown.ledger.schema import sa_in
from updown.ledger.store import Ledger
from updown.model.claims import SaInfo
from updown.model.record import NamedTuple

MISSES = 3
"""Probes in a row that the far end has to miss before routes leave the device."""


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


def devices_with_sa(ledger: Ledger) -> dict[str, SaInfo]:
    """The devices on which there is an SA, each with what was told of the first to come."""
    rows = ledger.base.execute(
        "SELECT first.device, claim.sa FROM claim JOIN"
        " (SELECT device, min(claim) AS claim FROM carries GROUP BY device) AS first ON first.claim = claim.ordering"
    )
    return {device: sa_in(told) for device, told in rows}


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
