"""`vti-updown status`: devices, and the claims that hold them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from updown.commands.arguments import Arguments
from updown.commands.reconcile.orphans import netnses
from updown.concerns.catalogue import key_of
from updown.kernel.netlink import dumps
from updown.ledger import clock, failures, spool
from updown.ledger.liveness import MISSES, is_silent, is_up, missed_probes
from updown.ledger.store import Ledger
from updown.model import errors
from updown.model.claims import REVIVE, Claim
from updown.model.errors import UpdownError
from updown.model.objects import MAIN_TABLE, Link, Route, has_our_alias, is_any
from updown.model.operations import Reason
from updown.model.record import Any
from updown.model.resources import follows_tunnels, split
from updown.model.values import escaped
from updown.output.lines import folded
from updown.output.reasons import reason_text
from updown.output.report import JSON_VERSION, claim_json, print_answer
from updown.plan.diff import withdrawn
from updown.plan.scope import Touched, look
from updown.serve import opened, present_state

DEVICE_HEADS = ("DEVICE", "KIND", "LOCAL", "REMOTE", "KEY IN/OUT", "STATE", "MADE BY", "GOES", "CLAIMS")
CLAIM_HEADS = ("CONNECTION", "CLAIM", "DEVICE", "PEER", "SELECTORS", "SINCE")


def run(arguments: Arguments, _environ: Mapping[str, str] | None = None) -> int:
    """Print both tables, or JSON."""
    with present_state(arguments.state_dir) as place, opened(place, (), dry=True) as ledger:
        held = list(ledger.claims())
        names = {claim.device for claim in held if claim.device}
        names |= {name for kind, name in map(split, ledger.all_made()) if kind == "device"}
        note = ledger.note
        try:
            for netns in ("", *netnses(ledger, ())):
                names |= {link.name for link in dumps.links(netns) if has_our_alias(link)}
        except UpdownError as error:
            note = "; ".join(filter(None, (note, f"{error.text}: devices that the ledger does not know are not shown")))
        devices = [device_row(name, place.netlink.link(name), held, ledger) for name in sorted(names)]
        waiting = len(spool.waiting_events(place.path))
        try:
            yielding = withdrawn(*look(Touched(waiting_routes(held, ledger), {}), ledger, place.netlink))
        except UpdownError as error:
            yielding, note = [], "; ".join(filter(None, (note, f"{error.text}: routes that are withdrawn are not shown")))
        failed = failures.failures(place.path, clock.now())
    booted = clock.booted()
    claims = [claim_json(claim, booted) for claim in held]
    fields = {"version": JSON_VERSION, "devices": devices, "claims": claims, "note": note, "waiting": waiting}
    fields["withdrawn"] = [yielding_json(*one) for one in yielding]
    fields["failures"] = [{**one._asdict(), "at": booted + one.at} for one in failed]
    lines = folded("# ", note) if note else []
    if waiting:
        lines.append(f"# events that got no lock and wait: {waiting}; the holder of the lock or the next event applies them")
    if devices or held:
        lines += [*table(DEVICE_HEADS, [device_cells(row) for row in devices]), ""]
        lines += table(CLAIM_HEADS, [claim_cells(claim, booted) for claim in held])
        lines += [line for one in yielding for line in folded("# ", yielding_text(*one))]
    else:
        lines.append("no devices, no claims")
    for one in failed:
        lines += ["", *folded("", failures.told(one, booted)), *(folded("    hint: ", one.hint) if one.hint else ())]
    print_answer(arguments.json, fields, lines)
    return errors.DONE


def waiting_routes(held: Sequence[Claim], ledger: Ledger) -> list[str]:
    """The keys of routes that claims ask for which wait for their peer, or hear nothing of it."""
    silent = {device for device, missed in missed_probes(ledger).items() if missed.probes >= MISSES}
    routes = [(claim, want) for claim in held for want in claim.resources if isinstance(want, Route)]
    return [key_of(want) for claim, want in routes if claim.kind == REVIVE or want.device in silent]


def yielding_text(route: Route, reason: Reason) -> str:
    """Which route of whose is withdrawn, and why."""
    table = f" table {route.table}" if route.table != MAIN_TABLE else ""
    metric = f" metric {route.metric}" if route.metric else ""
    who = escaped(reason.who, 40)
    return f"{route.destination}{table}{metric} of {who} ({route.device}) is withdrawn: {reason_text(reason)}"


def yielding_json(route: Route, reason: Reason) -> dict[str, Any]:
    """The same as a record."""
    told = {field: getattr(route, field) for field in ("destination", "table", "metric", "device")}
    return {**told, "connection": reason.who, "by": reason.what}


def device_row(name: str, link: Link | None, held: Sequence[Claim], ledger: Ledger) -> dict[str, Any]:
    """One device: what the kernel shows, who made it, and when it goes; `signal` is `idle` where it follows its tunnels and has
    none up, `silent` where its far end does not answer, else empty."""
    wants = [want for claim in held for want in claim.devices if want.link.name == name]
    made = ledger.made(f"device {name}") is not None or (link is not None and has_our_alias(link))
    by = "vti-updown" if made else "daemon or you" if wants and wants[0].by_daemon else "someone else"
    goes = "stays" if by != "vti-updown" or not wants or not all(want.with_last for want in wants) else "last claim"
    row = {"name": name, "present": link is not None, "made_by": by, "goes": goes, "claims": len(wants)}
    idle = follows_tunnels(wants) and not is_up(ledger, name)
    signal = "idle" if idle else "silent" if is_silent(ledger, name) else ""
    return {**row, "signal": signal, **(link._asdict() if link else {})}


def device_cells(row: dict[str, Any]) -> list[str]:
    """A device's row of the table."""
    about = [row["made_by"], row["goes"], str(row["claims"])]
    if not row["present"]:
        return [row["name"], "-", "-", "-", "-", "MISSING", *about]
    key = str(row["ikey"]) if row["ikey"] == row["okey"] else f"{row['ikey']}/{row['okey']}"
    if row["kind"] == "xfrm":
        key = "external" if row["external"] else f"if_id {row['if_id']}"
    ends = ["any" if is_any(row[end]) and row["kind"] != "xfrm" else row[end] or "-" for end in ("local", "remote")]
    state = "up" if row["up"] else "DOWN"
    if row["signal"] == ("silent" if row["up"] else "idle"):
        state = row["signal"]
    return [row["name"], row["kind"], *ends, key, state, *about]


def claim_cells(claim: Claim, booted: int) -> list[str]:
    """A claim's row of the table; `booted` in seconds since the epoch."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(booted + claim.since))
    selectors = f"{claim.sa.my_client} <-> {claim.sa.peer_client}" if claim.sa.my_client else "-"
    ends = (claim.device or "-", claim.sa.peer or "-")
    return [escaped(claim.connection, 40), claim.kind, *ends, escaped(selectors, 90), since]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell."""
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in (heads, *rows)]
