"""The ledger's tables, and a claim from its row."""

from __future__ import annotations

from updown.concerns.catalogue import load
from updown.model.claims import REVIVE, STRONGSWAN, Claim, SaInfo, sa_query
from updown.model.record import Any, loads
from updown.model.resources import DeletionRule, load_sum

VERSION = 9  # of the tables below (PRAGMA user_version)

MISSES = 3
"""Probes in a row that a far end has to miss before it counts as silent."""

WAITS = "waits"
"""The `life` of a route whose claim waits for its peer, or whose device's far end is silent; else it is the claim's kind."""

HEARD_NOTHING = f"EXISTS (SELECT 1 FROM probe WHERE probe.device = {{}} AND misses >= {MISSES})"
LIFE = f"CASE WHEN {{0}} = '{REVIVE}' OR {HEARD_NOTHING.format('{1}')} THEN '{WAITS}' ELSE {{0}} END"
"""By the claim's kind and the device, as SQL."""

TABLES = """
CREATE TABLE claim (
    ordering INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE NOT NULL, kind TEXT NOT NULL, connection TEXT NOT NULL,
    tunnel TEXT NOT NULL, grp TEXT NOT NULL, device TEXT NOT NULL, row TEXT NOT NULL, routed INTEGER NOT NULL,
    since INTEGER NOT NULL, sa TEXT NOT NULL);
CREATE INDEX claim_tunnel ON claim (tunnel);
CREATE INDEX claim_grp ON claim (grp);
CREATE INDEX claim_device ON claim (device);
CREATE TABLE want (claim INTEGER NOT NULL, resource TEXT NOT NULL, device TEXT NOT NULL, position INTEGER NOT NULL,
    value TEXT NOT NULL, place TEXT, kind TEXT, life TEXT, PRIMARY KEY (claim, resource)) WITHOUT ROWID;
CREATE INDEX want_resource ON want (resource, claim);
CREATE INDEX want_value ON want (resource, value);
CREATE INDEX want_device ON want (device, resource);
CREATE TABLE made (resource TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE unfinished (resource TEXT PRIMARY KEY, connection TEXT NOT NULL, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE taken (spis TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX taken_at ON taken (at);
CREATE TABLE carries (device TEXT NOT NULL, claim INTEGER NOT NULL, PRIMARY KEY (device, claim)) WITHOUT ROWID;
CREATE INDEX carries_claim ON carries (claim);
CREATE INDEX want_holder ON want (resource, kind, device, claim);
CREATE INDEX want_place ON want (life, place, resource);
CREATE TABLE probe (device TEXT PRIMARY KEY, misses INTEGER NOT NULL, since INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX claim_connection ON claim (connection, device);
CREATE INDEX claim_sharer ON claim (device, tunnel);
CREATE TABLE child (claim INTEGER PRIMARY KEY, child TEXT NOT NULL, number INTEGER NOT NULL, pair TEXT NOT NULL,
    place TEXT NOT NULL, tunnel TEXT NOT NULL, ends TEXT NOT NULL);
CREATE INDEX child_number ON child (child, number);
CREATE INDEX child_pair ON child (child, pair);
CREATE INDEX child_place ON child (child, place);
CREATE INDEX child_ends ON child (tunnel, ends);
CREATE INDEX claim_place ON claim (tunnel, device);
CREATE TABLE boot (id TEXT NOT NULL);
""" + "\n".join(
    f"CREATE TRIGGER probe_{verb} AFTER {verb} ON probe BEGIN UPDATE want SET life = {LIFE.format('kind', 'want.device')}"
    f" WHERE device = {row}.device AND resource BETWEEN 'route ' AND 'route ~'; END;"
    for verb, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD"))
)
"""`boot` has one row, the boot that all of it is of: devices, indexes, SPIs and clock begin anew with the next.

`carries` and `probe` decide over link and routes of a device: the `sa` claims on it, whether its far end answers. An event
finds by an index each: who else asks for a route (`want_holder`), which routes into tunnels that live or wait are around and
within a prefix (`want_place`: `place` as in concerns/routes.py, and `life`, which triggers keep), a connection's claim on a
device, another tunnel's on it (`claim_connection`, `claim_sharer`), and in a tunnel of thousands of claims one of strongSwan's
child SAs (SaQuery) or a VTI by its ends (`child`)."""


def sa_in(stored: str) -> SaInfo:
    """What a daemon told, from its column; raises ValueError or TypeError for what we did not write."""
    fields = loads(stored)
    sa = SaInfo(*fields)
    if len(fields) != len(sa):
        raise ValueError("a claim has other facts")
    return sa._replace(interface_addresses=tuple(sa.interface_addresses), mtu_sum=load_sum(fields[-1]))


def child_row(claim: Claim, order: int) -> tuple[Any, ...] | None:
    """The row of a claim in `child`; None for one that is not strongSwan's."""
    if claim.sa.daemon != STRONGSWAN:
        return None
    links = [want.link for want in claim.devices if want.link.local]
    ends = f"{links[0].local} {links[0].remote}" if links else ""
    return order, *sa_query(loads(claim.key)[1], claim.sa), claim.tunnel, ends


def claim_in(row: tuple[Any, ...], wants: list[str]) -> Claim:
    """A claim from its row; raises ValueError or TypeError for one that we did not write."""
    order, key, kind, connection, tunnel, group, device, rule, routed, since, sa = row
    resources = tuple(load(loads(value)) for value in wants)
    deletion, told = DeletionRule(*loads(rule)), sa_in(sa)
    by = (loads(connection), tunnel, group, device)
    return Claim(key, kind, *by, deletion, bool(routed), since, resources, told, order)
