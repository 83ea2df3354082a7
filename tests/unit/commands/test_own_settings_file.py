"""A hook that names its settings by --config, and commands that do not: each claim goes by the file that its calls name."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from tests.kit.machine import THIRD, Machine, Tunnel, establish
from tests.kit.reconciling import LATER, child, database, said
from updown.commands.probe import targets
from updown.commands.reconcile.decide import Evidence
from updown.commands.reconcile.report import Outcome, outcome_lines
from updown.commands.reconcile.run import reconcile_ledger
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger import spool
from updown.ledger.liveness import missed_probes, set_missed_probes
from updown.settings.file import settings_lines, settings_of

T = Tunnel(device="", routing="")
SITE = "[connection t]\ninterface = vti5\naddress = 10.99.0.1/30\nprobe = 10.99.0.2\n"


@pytest.fixture
def site(machine: Machine, tmp_path: Path) -> Path:
    """The file of a tunnel that is up."""
    path = tmp_path / "site.conf"
    path.write_text(SITE)
    for environment in establish(T):
        machine.serve(environment, config=str(path))
    assert machine.addresses("vti5") == ["10.99.0.1/30"]
    return path


def reconcile(machine: Machine, config: str = "") -> Outcome:
    """With --config, or with a default file that has no line."""
    facts = Evidence({"libreswan": said(child(T))}, database(T))
    lines = settings_lines(config) if config else ()
    with machine.ledger() as ledger:
        lines_of = settings_of(config, lines, {})
        return reconcile_ledger(ledger, cast(Netlink, machine.kernel), lines_of, facts, LATER)


def test_reconcile_and_probe_go_by_the_file_that_the_calls_name(machine: Machine, site: Path) -> None:
    assert outcome_lines(reconcile(machine), False) == ["# nothing to do"]
    with machine.ledger() as ledger:
        assert targets(ledger, settings_of("", (), {})) == {"vti5": "10.99.0.2"}
    site.write_text(SITE.replace("10.99.0.1/30", "10.99.0.1/29"))
    (edited,) = reconcile(machine).decision.edited
    assert [edit.lines for edit in edited[1]] == [(f"{site}:3",)]
    assert machine.addresses("vti5") == ["10.99.0.1/29"]


def test_a_file_that_is_named_now_counts_for_all(machine: Machine, site: Path) -> None:
    other = site.with_name("other.conf")
    other.write_text(SITE.replace("10.99.0.1/30", "10.99.0.5/30"))
    reconcile(machine, str(other))
    assert machine.addresses("vti5") == ["10.99.0.5/30"]
    reconcile(machine)
    assert machine.addresses("vti5") == ["10.99.0.1/30"]


@pytest.mark.parametrize("how", ["gone", "broken"])
def test_where_the_file_cannot_be_read_the_tunnel_keeps_what_it_has(machine: Machine, site: Path, how: str) -> None:
    if how == "gone":
        site.unlink()
        why = f"{site}: no such file; write it, or name another one by --config FILE"
    else:
        site.write_text(SITE.replace("address", "adress"))
        why = f"{site}:3: unknown key adress; did you mean address?"
    with machine.ledger() as ledger:
        set_missed_probes(ledger, "vti5", 3, 0)
    outcome = reconcile(machine)
    with machine.ledger() as ledger:
        assert set(missed_probes(ledger)) == {"vti5"}, "whether it is probed is not known"
    (warning,) = outcome.report.warnings
    assert (warning.kind, str(warning)) == (
        "settings do not fit",
        f"t: the settings do not fit, and it keeps what it has: {why}",
    )
    assert machine.addresses("vti5") == ["10.99.0.1/30"]


def test_an_event_that_was_kept_has_its_file(machine: Machine, site: Path) -> None:
    late = Tunnel(connection="late", peer=THIRD, device="", routing="", mark_in="6/0xffffffff", mark_out="6/0xffffffff")
    site.write_text(SITE.replace("connection t", "defaults").replace("vti5", "vti6"))
    place = machine.folder / "net-1"
    for environment in establish(late):
        spool.write_event(str(place), spool.new_name(), environment, str(site))
    with machine.opened() as ledger:
        assert {claim.sa.config for claim in ledger.claims()} == {str(site)}
    assert machine.addresses("vti6") == ["10.99.0.1/30"]
