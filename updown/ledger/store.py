"""The ledger: the durable set of claims, and what we made. One SQLite file for each network namespace (file.py).

SQLite because it is the standard library's own crash-safe, indexed store: an event reads and writes its own claims, however
many there are. `synchronous` is off: a killed process loses nothing that way, and what a power cut takes, the kernel's devices
and routes go with."""

from __future__ import annotations

import _sqlite3 as sqlite3
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from updown.concerns import routes
from updown.concerns.catalogue import dump, key_of, load
from updown.ledger.schema import LIFE, child_row, claim_in
from updown.model.claims import MADE, REVIVE, SA, TRAP, CandidateClaims, Claim, ClaimQuery, FormerHolder, Holder
from updown.model.objects import Route
from updown.model.record import Any, dumps, loads
from updown.model.resources import DeletionRule, Resource, device_of, split

TAKEN_FOR = 600  # seconds that SPIs of a finished tunnel are remembered, for an async call that comes late
FORGET = 8  # old ones that one event forgets at most
MOST_LONGER = 1000  # that are remembered for longer, the latest

LedgerError = sqlite3.Error
"""What any method may raise while it writes: a full disk, a damaged file."""


class Ledger:
    """An open ledger. `note` says, where that is so, why it was taken as empty; `anew`, that it was begun anew by us; `lost`,
    that the lock, or the file, is not ours any more."""

    def __init__(self, base: sqlite3.Connection, lock: int | None = None, note: str = "") -> None:
        self.base = base
        self.lock = lock
        self.note = note
        self.anew = False
        self.lost = False
        self.seen: dict[int, Claim] = {}  # read since the last write: several resources of one ask for the same ones

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the lock goes with its descriptor."""
        self.base.close()
        if self.lock is not None:
            os.close(self.lock)

    # -- reading

    def column(self, query: str, *values: object) -> list[Any]:
        """The first column of what an SQL query finds, without NULLs."""
        return [row[0] for row in self.base.execute(query, values) if row[0] is not None]

    def held(self, sought: ClaimQuery) -> CandidateClaims:
        """The claims one context may speak of: its tunnel's (found by its keys too), and its group's."""
        if sought.sa:
            places = sorted(self.places(sought))
            return CandidateClaims(tuple(claim for order in places for claim in self.claim_at(order)))
        keys = ", ".join("?" * len(sought.keys))
        mine = tuple(self.claims(f"tunnel = ? OR key IN ({keys})", sought.tunnel, *sought.keys))
        return CandidateClaims(mine, tuple(self.claims("grp = ?", sought.group)))

    def places(self, sought: ClaimQuery) -> set[int]:
        """Of a tunnel of strongSwan's the places of the first claim and of the last two (of which one may end), of the child's
        those of the same IKE SA, and the oldest with the same selectors, also if an end moved with them."""
        assert sought.sa is not None
        child, number, pair, place = sought.sa
        tunnel = "SELECT ordering FROM claim WHERE tunnel = ? ORDER BY ordering"
        asked = (
            (f"{tunnel} LIMIT 1", (sought.tunnel,)),
            (f"{tunnel} DESC LIMIT 2", (sought.tunnel,)),
            ("SELECT claim FROM child WHERE child = ? AND number = ?", (child, number)),
            ("SELECT min(claim) FROM child WHERE child = ? AND pair = ?", (child, pair)),
            ("SELECT min(claim) FROM child WHERE child = ? AND place = ?", (child, place)),
        )
        return {order for query, values in asked for order in self.column(query, *values)}

    def vti_between(self, tunnel: str, local: str, remote: str) -> str:
        """The VTI that the first of a tunnel's claims with these ends asks for; empty where there is none."""
        first = "SELECT min(claim) FROM child WHERE tunnel = ? AND ends = ?"
        found = self.column(f"SELECT device FROM claim WHERE ordering = ({first})", tunnel, f"{local} {remote}")
        return str(found[0]) if found else ""

    def claims(self, condition: str = "1", *values: object) -> Iterator[Claim]:
        """Claims in order of arrival, all or those that meet an SQL condition."""
        names = "ordering, key, kind, connection, tunnel, grp, device, row, routed, since, sa"
        query = f"SELECT {names} FROM claim WHERE {condition} ORDER BY ordering"
        for row in self.base.execute(query, values).fetchall():
            try:
                yield claim_in(row, self.column("SELECT value FROM want WHERE claim = ? ORDER BY position", row[0]))
            except (ValueError, TypeError) as error:
                raise LedgerError(f"malformed claim: {error}") from None

    def holders(self, name: str, newest: str, each_device: bool = False) -> list[Holder]:
        """Who asks for a resource, first come first: the first claim, the one with key `newest`, and, of those that ask for
        something else than it, at most two; on a device, two of other tunnels too, since those may be its own tunnel's. That
        decides everything, and it stays as cheap when thousands hold it. With `each_device`, of a route, the first claim of
        each kind on each device as well, where the first of all may not do."""
        claims = self.column("SELECT min(claim) FROM want WHERE resource = ?", name)
        device = split(name)[1] if claims and name.startswith("device ") else ""
        mine = self.base.execute(
            "SELECT claim, value FROM want WHERE resource = ? AND claim = (SELECT ordering FROM claim WHERE key = ?)",
            (name, newest),
        ).fetchone()
        tunnel = "SELECT tunnel FROM claim WHERE ordering = ?"
        if mine:
            claims.append(mine[0])
            for other in ("<", ">"):
                differs = f"SELECT claim FROM want WHERE resource = ? AND value {other} ? LIMIT 1"
                claims += self.column(differs, name, mine[1])
        elif device:
            latest = f"SELECT max(ordering) FROM claim WHERE tunnel = ({tunnel}) AND device = ?"
            claims += self.column(latest, claims[0], device)
        speaks = mine[0] if mine else claims[0] if claims else 0
        for other in ("<", ">") if device else ():
            sharer = f"SELECT ordering FROM claim WHERE device = ? AND tunnel {other} ({tunnel}) LIMIT 1"
            claims += self.column(sharer, device, speaks)
        claims += self.first_of_each(name) if each_device else []
        return [
            Holder(claim, want)
            for order in sorted(set(claims))
            for claim in self.claim_at(order)
            for want in claim.resources
            if key_of(want) == name
        ]

    def first_of_each(self, name: str) -> list[int]:
        """Of each device that a route is asked for on, the first claim of each kind; by leaps in an index."""
        leap = "SELECT device, claim FROM want WHERE resource = ? AND kind = ? AND device > ? ORDER BY device, claim LIMIT 1"
        found: list[int] = []
        for kind in (SA, TRAP, REVIVE, MADE):
            row: tuple[str, int] | None = ("", 0)
            while row is not None:
                row = self.base.execute(leap, (name, kind, row[0])).fetchone()
                found += [row[1]] if row is not None else []
        return found

    def claim_at(self, order: int) -> list[Claim]:
        """The claim with this place in the order, if there is one; read once between writes."""
        if order not in self.seen:
            self.seen.update({claim.order: claim for claim in self.claims("ordering = ?", order)})
        return [self.seen[order]] if order in self.seen else []

    def keys_on(self, device: str) -> list[str]:
        """The keys of everything that hangs on a device; only read when it is made anew or loses an address."""
        return self.column("SELECT DISTINCT resource FROM want WHERE device = ?", device)

    def rule_on(self, connection: str, device: str, but: Sequence[int] = ()) -> DeletionRule | None:
        """The row of a connection's first claim on a device: its template's, or another instance's. `but`: claims in whose
        place comes another, by their order."""
        others = f"AND ordering NOT IN ({', '.join('?' * len(but))})"
        first = f"SELECT ordering FROM claim WHERE connection = ? AND device = ? {others} ORDER BY ordering LIMIT 1"
        found = self.claims(f"ordering = ({first})", dumps(connection), device, *but)
        return next((claim.deletion for claim in found), None)

    def least_mtus(self, device: str) -> tuple[int, int]:
        """The least MTU that claims ask for on a device, and the least of those with IPv6 inside; 0 where there is none."""
        found: list[int] = []
        for kind in ("any", "six"):
            head = f"mtu {device} {kind} "
            least = "SELECT min(resource) FROM want WHERE device = ? AND resource > ? AND resource < ?"
            found += [int(name[len(head) :]) for name in self.column(least, device, head, f"{head}~")] or [0]
        return found[0], found[1]

    def keys_beside(self, name: str) -> list[str]:
        """The keys of everything on the same device that the holders of a resource ask for."""
        return self.column(
            "SELECT DISTINCT other.resource FROM want AS mine JOIN want AS other ON other.claim = mine.claim"
            " WHERE mine.resource = ? AND other.device = mine.device",
            name,
        )

    def made(self, name: str) -> int | None:
        """None where we did not make the resource; a device's index, or 0 where a killed call may have made it."""
        return next(map(int, self.column("SELECT value FROM made WHERE resource = ?", name)), None)

    def owner(self, device: str) -> str:
        """Who holds a device, for a message."""
        for claim in self.claims("ordering = (SELECT min(ordering) FROM claim WHERE device = ?)", device):
            return f"for {claim.connection}"
        return "ours" if self.made(f"device {device}") is not None else "not ours"

    def all_made(self) -> dict[str, int]:
        """Everything we made, for status and clean."""
        return {name: int(value) for name, value in self.base.execute("SELECT resource, value FROM made")}

    def unfinished(self) -> dict[str, FormerHolder]:
        """Resources of events that were begun and not finished (killed, or failed in their undoing), as they were asked for."""
        rows = self.base.execute("SELECT resource, connection, value FROM unfinished")
        try:
            return {name: FormerHolder(loads(who), load(loads(value))) for name, who, value in rows}
        except (ValueError, TypeError) as error:
            raise LedgerError(f"malformed note of an event: {error}") from None

    def was_ended(self, spis: str, now: int) -> bool:
        """Whether the SA with these SPIs was taken down in the last ten minutes."""
        return any(now - at <= TAKEN_FOR for at in self.column("SELECT at FROM taken WHERE spis = ?", spis))

    # -- writing; nothing is durable before commit()

    def begin(self) -> None:
        """Start a transaction; SQLite's own wait covers a reader such as `status`."""
        self.seen.clear()
        self.base.execute("BEGIN IMMEDIATE")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is written here is durable at its end, and forgotten where something fails; who opens one closes it by that."""
        self.begin()
        try:
            yield
            self.commit()
        finally:
            self.seen.clear()
            if self.base.in_transaction:
                self.base.execute("ROLLBACK")

    def commit(self) -> None:
        """Make all that was written since begin() durable."""
        self.base.execute("COMMIT")

    def put(self, claim: Claim) -> None:
        """Write a claim, or renew the one with its key; one that was there before keeps its place in the order."""
        self.seen.clear()
        places = (dumps(claim.connection), claim.tunnel, claim.group, claim.device)
        rest = (dumps(claim.deletion), int(claim.routed), claim.since, dumps(claim.sa))
        self.base.execute(
            "INSERT INTO claim (ordering, key, kind, connection, tunnel, grp, device, row, routed, since, sa)"
            " VALUES (nullif(?, 0), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET kind = excluded.kind,"
            " tunnel = excluded.tunnel, grp = excluded.grp, device = excluded.device, row = excluded.row,"
            " routed = excluded.routed, sa = excluded.sa",
            (claim.order, claim.key, claim.kind, *places, *rest),
        )
        (order,) = self.column("SELECT ordering FROM claim WHERE key = ?", claim.key)
        self.base.execute("DELETE FROM want WHERE claim = ?", (order,))
        rows = [
            (order, key_of(want), device_of(want), position, dumps(dump(want)), *route_columns(want, claim.kind))
            for position, want in enumerate(claim.resources)
        ]
        values = f"?1, ?2, ?3, ?4, ?5, ?6, ?7, {LIFE.format('?7', '?3')}"
        self.base.executemany(f"INSERT OR IGNORE INTO want VALUES ({values})", rows)
        self.base.execute("DELETE FROM carries WHERE claim = ?", (order,))
        on = {want.link.name for want in claim.devices if claim.kind == SA}
        self.base.executemany("INSERT INTO carries VALUES (?, ?)", [(device, order) for device in sorted(on)])
        row = child_row(claim, order)
        if row is not None:
            self.base.execute("INSERT OR REPLACE INTO child VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def end(self, key: str) -> None:
        """Remove the claim with this key, if there is one."""
        self.seen.clear()
        for table in ("want", "carries", "child"):
            self.base.execute(f"DELETE FROM {table} WHERE claim = (SELECT ordering FROM claim WHERE key = ?)", (key,))
        self.base.execute("DELETE FROM claim WHERE key = ?", (key,))

    def set_made(self, name: str, value: int | None) -> None:
        """Note that we made a resource (with a device's index, else 0), or, by None, that it is gone."""
        if value is None:
            self.base.execute("DELETE FROM made WHERE resource = ?", (name,))
        else:
            self.base.execute("INSERT OR REPLACE INTO made VALUES (?, ?)", (name, value))

    def start(self, wants: Iterable[FormerHolder]) -> None:
        """What these ask for is being worked on."""
        rows = [(key_of(want), dumps(connection), dumps(dump(want))) for connection, want in wants]
        self.base.executemany("INSERT OR REPLACE INTO unfinished VALUES (?, ?, ?)", rows)

    def finish(self, names: Iterable[str]) -> None:
        """The work on these resources is over."""
        self.base.executemany("DELETE FROM unfinished WHERE resource = ?", [(name,) for name in names])

    def note_ended(self, spis: str, now: int, longer: int = 0) -> None:
        """Remember the SPIs of an SA that was taken down, for ten minutes and `longer` seconds, and forget some old ones: more
        than come, so that they do not pile up, and few, so that no event pays for thousands."""
        old = "SELECT spis FROM taken WHERE at < ? ORDER BY at LIMIT ?"
        self.base.execute(f"DELETE FROM taken WHERE spis IN ({old})", (now - TAKEN_FOR, FORGET))
        self.base.execute("INSERT OR REPLACE INTO taken VALUES (?, ?)", (spis, now + longer))
        if longer:  # one that is refused again and again by a daemon that tries for days
            most = "SELECT spis FROM taken WHERE at > ? ORDER BY at DESC LIMIT -1 OFFSET ?"
            self.base.execute(f"DELETE FROM taken WHERE spis IN ({most})", (now, MOST_LONGER))

    def forget_ended(self, first: str, last: str) -> None:
        """Forget those whose text is one of these two or between them."""
        self.base.execute("DELETE FROM taken WHERE spis BETWEEN ? AND ?", (first, last))


def route_columns(want: Resource, kind: str) -> tuple[str | None, str | None]:
    """What the columns `place` and `kind` say of a route."""
    return (routes.place(want), kind) if isinstance(want, Route) else (None, None)
