"""Settings that are edited under a living tunnel: reconcile applies them, and names the lines; an event, for its own tunnel."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from tests.kit.charon import Child as CharonChild
from tests.kit.charon import charon_call, charon_calls
from tests.kit.machine import EAST, THIRD, WEST, Environment, Machine, Tunnel, call, establish
from tests.kit.reconciling import LATER, child, database, reconcile, said
from tests.kit.settings_text import parse
from updown.commands.reconcile.decide import Evidence
from updown.commands.reconcile.report import Outcome, outcome_json, outcome_lines
from updown.commands.reconcile.run import reconcile_ledger
from updown.daemons.answer import ANSWERED, ChildSa, DaemonAnswer
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger.file import copy_ledger
from updown.model.ipsec import Database

T = Tunnel(device="", routing="")
ROUTED = "[defaults]\ninterface = vti5\nrouting = yes\n"

EDITS: dict[str, tuple[str, str, list[str]]] = {
    "an address": (
        f"{ROUTED}address = 10.99.0.1/30\n",
        f"{ROUTED}address = 10.99.0.5/30\n",
        ["address vti5 10.99.0.1/30 -> address vti5 10.99.0.5/30 (f:4)"],
    ),
    "an address more": (
        f"{ROUTED}address = 10.99.0.1/30\n",
        f"{ROUTED}address = 10.99.0.1/30, 10.99.0.5/30\n",
        ["no address -> address vti5 10.99.0.5/30 (f:4)"],
    ),
    "an address that no line says any more": (
        f"{ROUTED}address = 10.99.0.1/30\n",
        ROUTED,
        ["address vti5 10.99.0.1/30 -> no address (no line says it any more)"],
    ),
    "a line of the device's own section": (
        f"{ROUTED}address = 10.99.0.1/30\n",
        f"{ROUTED}address = 10.99.0.1/30\n[device vti5]\naddress = 10.99.0.9/30\n",
        ["address vti5 10.99.0.1/30 -> address vti5 10.99.0.9/30 (f:6)"],
    ),
    "a route": (
        f"{ROUTED}route = 10.8.0.0/16\n",
        f"{ROUTED}route = 10.9.0.0/16\n",
        ["route 10.8.0.0/16 -> route 10.9.0.0/16 (f:4, f:3)"],
    ),
    "routing": ("[defaults]\ninterface = vti5\n", ROUTED, ["no route -> route 10.2.0.0/24 (f:3)"]),
    "the table": (ROUTED, f"{ROUTED}table = 5\n", ["route 10.2.0.0/24: table 254 -> table 5 (f:4)"]),
    "the metric": (f"{ROUTED}metric = 50\n", ROUTED, ["route 10.2.0.0/24: metric 50 -> metric 0 (no line says it any more)"]),
    "the mtu": (
        f"{ROUTED}mtu = 1400\n",
        f"{ROUTED}mtu = 1300\n",
        ["mtu vti5: size 1400 -> size 1300 (f:4)", "route 10.2.0.0/24: mtu 1400 -> mtu 1300 (f:4)"],
    ),
    "a rule": (
        f"{ROUTED}table = 5\nrule = from 10.1.0.0/24 priority 100\n",
        f"{ROUTED}table = 5\nrule = from 10.1.0.0/24 priority 200\n",
        ["rule 4 100 10.1.0.0/24 - 0/0 5 -> rule 4 200 10.1.0.0/24 - 0/0 5 (f:5, f:4)"],
    ),
    "a sysctl": (
        ROUTED,
        f"{ROUTED}rp_filter = 2\n",
        ["sysctl net/ipv4/conf/vti5/rp_filter: rp_filter auto -> rp_filter 2 (f:4)"],
    ),
    "mss": (ROUTED, f"{ROUTED}mss = clamp\n", ["no firewall -> firewall vti5 (f:4)"]),
    "the far end": (ROUTED, f"{ROUTED}remote = {THIRD}\n", [f"device vti5: remote {EAST} -> remote {THIRD} (f:4)"]),
    "our end": (
        ROUTED,
        f"{ROUTED}local = 192.0.2.7\nremote = {EAST}\n",
        [f"device vti5: local {WEST} -> local 192.0.2.7 (f:4)"],
    ),
    "the device's name": (
        f"{ROUTED}address = 10.99.0.1/30\n",
        "[defaults]\ninterface = vti7\nrouting = yes\naddress = 10.99.0.1/30\n",
        ["device vti5 -> device vti7 (f:2)"],
    ),
}


def rehearsed(machine: Machine) -> Outcome:
    """What reconcile --dry-run shows."""
    facts = Evidence({"libreswan": said(child(T))}, database(T))
    with copy_ledger(str(machine.folder), "1") as ledger:
        return reconcile_ledger(ledger, cast(Netlink, machine.kernel), lambda _: machine.lines, facts, LATER, True)


@pytest.mark.parametrize("name", EDITS)
def test_reconcile_makes_of_a_tunnel_what_a_new_one_would_be(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before, after, lines = EDITS[name]
    machine.kernel.physical("eth1", "192.0.2.7/24")
    machine.lines = tuple(parse(before, "f"))
    machine.send_all(establish(T))
    machine.lines = tuple(parse(after, "f"))
    told = [f"t: {line}" for line in lines]
    shown = rehearsed(machine)
    assert edited_texts(shown) == told
    outcome = reconcile(machine, said(child(T)), database(T))
    assert edited_texts(outcome) == told
    assert set(outcome.report.operations) == set(shown.report.operations) != set()
    assert outcome.report.warnings == ()
    assert outcome_lines(reconcile(machine, said(child(T)), database(T)), False) == ["# nothing to do"]
    fresh = Machine(tmp_path / "fresh", monkeypatch)
    fresh.kernel.physical("eth1", "192.0.2.7/24")
    fresh.lines = tuple(parse(after, "f"))
    fresh.send_all(establish(T))
    assert machine.kernel.picture(indexes=False) == fresh.kernel.picture(indexes=False)
    assert [claim.resources for claim in machine.claims()] == [claim.resources for claim in fresh.claims()]


def edited_texts(outcome: Outcome) -> list[str]:
    """What settings change, as it is printed, in whole lines."""
    printed = " ".join(line.removeprefix("# ") for line in outcome_lines(outcome, False))
    found = [f"{claim.connection}: {edit.text}" for claim, edits in outcome.decision.edited for edit in edits]
    assert all(text.split(" (")[0].split(" -> ")[1] in printed for text in found)
    return found


def test_json_names_the_lines(machine: Machine) -> None:
    before, after, _ = EDITS["an address"]
    machine.lines = tuple(parse(before, "f"))
    machine.send_all(establish(T))
    machine.lines = tuple(parse(after, "f"))
    told = cast("list[dict[str, Any]]", outcome_json(reconcile(machine, said(child(T)), database(T)), 0)["claims_edited"])
    assert [(claim["connection"], claim["edits"]) for claim in told] == [
        ("t", [{"before": "address vti5 10.99.0.1/30", "after": "address vti5 10.99.0.5/30", "lines": ("f:4",)}])
    ]


def test_settings_that_do_not_fit_change_nothing_and_are_told(machine: Machine) -> None:
    """The rest of the device is mended all the same."""
    machine.settings(ROUTED)
    machine.send_all(establish(T))
    before = machine.claims()
    machine.kernel.set_link(machine.kernel.named("vti5").ifindex, up=False)
    machine.settings(f"{ROUTED}mark = 6\n")
    outcome = reconcile(machine, said(child(T)), database(T))
    assert outcome.report.warnings == (
        "t: the settings do not fit, and it keeps what it has: vti5: mark_in = 6 in the settings, but 5 in the tunnel: nothing"
        " would pass; give both the same: in the daemon's configuration it is mark=, or mark-in= and mark-out=",
    )
    assert machine.claims() == before
    assert machine.kernel.named("vti5").up


def test_what_the_kernel_refuses_stays_as_it_was_and_the_rest_is_mended(machine: Machine) -> None:
    machine.settings(ROUTED)
    machine.send_all(establish(T))
    before = machine.claims()
    machine.kernel.set_link(machine.kernel.named("vti5").ifindex, up=False)
    machine.kernel.physical("vti7")
    machine.settings(ROUTED.replace("vti5", "vti7"))
    outcome = reconcile(machine, said(child(T)), database(T))
    assert [text.split(" ")[0] for text in outcome.report.warnings] == ["vti7"]
    assert outcome.decision.edited == ()
    assert machine.claims() == before
    assert machine.kernel.named("vti5").up


def test_what_another_tunnel_on_the_device_contradicts_stays_and_the_rest_is_mended(machine: Machine) -> None:
    other = T._replace(connection="u", theirs="10.3.0.0/24", reqid=16392)
    machine.settings(f"{ROUTED}shared = yes\n")
    machine.send_all([*establish(T), *establish(other)])
    before = machine.claims()
    machine.kernel.set_link(machine.kernel.named("vti5").ifindex, up=False)
    machine.settings(f"{ROUTED}shared = yes\n[connection t]\nremote = {THIRD}\n")
    outcome = reconcile(machine, said(child(T), child(other)), database(T, other))
    assert outcome.report.warnings != ()
    assert outcome.decision.edited == ()
    assert machine.claims() == before
    assert machine.kernel.named("vti5").up


def test_an_xfrm_interface_renamed_in_mid_flight_takes_all_its_tunnels_along(machine: Machine) -> None:
    machine.settings("[defaults]\ninterface = ipsec5\nrouting = yes\n")
    keyed = {"mark_in": "", "mark_out": "", "if_id_in": "42", "if_id_out": "42"}
    pairs = (("10.1.0.0/24", "10.2.0.0/24"), ("10.1.0.0/24", "10.3.0.0/24"))
    one, other = CharonChild("c", **keyed), CharonChild("d", pairs=pairs[1:], **keyed)  # type: ignore[arg-type]
    machine.send(charon_call(one, "up", 1))
    machine.send(charon_call(other, "up", 2))
    machine.settings("[defaults]\ninterface = ipsec7\nrouting = yes\n")
    children = tuple(
        ChildSa("strongswan", name, one.me, one.peer, 1, 2, 1, number, if_id_in=42, if_id_out=42, remote_ts=(network,))
        for name, number, network in (("c", 1, "10.2.0.0/24"), ("d", 2, "10.3.0.0/24"))
    )
    outcome = reconcile_charon(machine, children)
    assert outcome.report.warnings == ()
    assert machine.devices() == {"ipsec7"}
    assert machine.routes() == {("10.2.0.0/24", "ipsec7"), ("10.3.0.0/24", "ipsec7")}
    assert {claim.device for claim in machine.claims()} == {"ipsec7"}
    assert outcome_lines(reconcile_charon(machine, children), False) == ["# nothing to do"]


def reconcile_charon(machine: Machine, children: tuple[ChildSa, ...]) -> Outcome:
    """With what charon says is up."""
    facts = Evidence({"strongswan": DaemonAnswer(ANSWERED, children=children)}, Database())
    with machine.ledger() as ledger:
        return reconcile_ledger(ledger, cast(Netlink, machine.kernel), lambda _: machine.lines, facts, LATER, False)


def test_a_vti_with_the_mark_in_its_name_keeps_that_name(machine: Machine) -> None:
    """With %unique its SAs have other marks, and the kernel allows one VTI between the same ends."""
    machine.settings("[defaults]\ninterface = vti{mark}\nrouting = yes\n")
    first = CharonChild("c", mark_in="77/0xff", mark_out="77/0xff")
    machine.send(charon_call(first, "up", 7))
    machine.send(charon_call(first._replace(mark_in="78/0xff", mark_out="78/0xff"), "up", 8))
    machine.settings("[defaults]\ninterface = vti{mark}\nrouting = yes\naddress = 10.99.0.1/30\n")
    children = tuple(
        ChildSa("strongswan", "c", first.me, first.peer, n, n, 1, n, mark, mark, remote_ts=("10.2.0.0/24",))
        for n, mark in ((7, 77), (8, 78))
    )
    assert reconcile_charon(machine, children).report.warnings == ()
    assert machine.devices() == {"vti77"}
    assert machine.addresses("vti77") == ["10.99.0.1/30"]


# An event


def test_an_event_derives_the_claims_of_its_tunnel_anew(machine: Machine) -> None:
    """The trap of an on-demand tunnel, whose daemon calls nothing for it."""
    machine.settings(f"{ROUTED}address = 10.99.0.1/30\n")
    machine.send(call(T, "route", child=False))
    machine.settings(f"{ROUTED}address = 10.99.0.5/30\n")
    machine.send(call(T, "up"))
    assert len(machine.claims()) == 2
    assert machine.addresses("vti5") == ["10.99.0.5/30"]


def test_an_event_of_charon_s_derives_the_other_pairs_of_its_child_anew(machine: Machine) -> None:
    machine.settings("[defaults]\ninterface = vti5\naddress = 10.99.0.1/30\n")
    pairs = (("10.1.0.0/24", "10.2.0.0/24"), ("10.1.0.0/24", "10.3.0.0/24"))
    one = CharonChild("c", mark_in="5/0xff", mark_out="5/0xff", pairs=pairs)
    calls: list[Environment] = charon_calls(one, "up", 1)
    machine.send_all(calls)
    machine.settings("[defaults]\ninterface = vti5\naddress = 10.99.0.5/30\n")
    machine.send(calls[0])
    assert machine.addresses("vti5") == ["10.99.0.5/30"]


def test_an_event_leaves_other_tunnels_to_theirs(machine: Machine) -> None:
    machine.settings(f"{ROUTED}address = 10.99.0.1/30\nshared = yes\n")
    machine.send(call(T, "up"))
    machine.settings(f"{ROUTED}address = 10.99.0.5/30\nshared = yes\n")
    machine.send(call(T._replace(connection="u", theirs="10.3.0.0/24", reqid=16392), "up"))
    assert sorted(machine.addresses("vti5")) == ["10.99.0.1/30", "10.99.0.5/30"]
