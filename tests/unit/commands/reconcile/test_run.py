"""reconcile against the kernel model: what happened behind our back, and what is put right."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any, cast

import pytest

from tests.kit.charon import Child as CharonChild
from tests.kit.charon import charon_call
from tests.kit.commands import Command
from tests.kit.kernel_model import Kill
from tests.kit.machine import EAST, NOW, THIRD, WEST, Machine, Tunnel, call, establish, withdraw
from tests.kit.reconciling import LATER, child, database, foreign, reconcile, reconcile_with, said, settled
from tests.recordings import recordings
from updown.commands.arguments import Arguments, parse
from updown.commands.reconcile import run as reconcile_run
from updown.commands.reconcile.decide import GRACE, Evidence
from updown.commands.reconcile.report import outcome_json, outcome_lines
from updown.commands.reconcile.run import reconcile_ledger
from updown.daemons.answer import ABSENT, ANSWERED, SILENT, ChildSa, DaemonAnswer
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger.file import copy_ledger
from updown.model.errors import Refused
from updown.model.ipsec import Database
from updown.model.objects import Link, Route

T = Tunnel()
U = T._replace(connection="u", mine="10.1.1.0/24", theirs="10.3.0.0/24", reqid=16392)
SHARED = T._replace(shared="yes", device="vti9", mark_in="9/0xffffffff", mark_out="9/0xffffffff")


def test_a_tunnel_that_is_up_is_left_as_it_is(machine: Machine) -> None:
    machine.send_all(establish(T._replace(address="10.99.0.1/30", source="10.1.0.1")))
    before = machine.kernel.picture()
    changes = len(machine.kernel.changes)
    outcome = reconcile(machine, said(child(T)), database(T))
    assert outcome.report.operations == ()
    assert outcome.report.warnings == ()
    assert machine.kernel.picture() == before
    assert len(machine.kernel.changes) == changes
    assert outcome_lines(outcome, False) == ["# nothing to do"]


def test_an_empty_machine(machine: Machine) -> None:
    assert outcome_lines(reconcile(machine, DaemonAnswer(ABSENT)), False) == ["# nothing to do"]


def test_a_deleted_device_is_made_with_everything_on_it(machine: Machine) -> None:
    machine.send_all(establish(T._replace(address="10.99.0.1/30", source="10.1.0.1")))
    before = machine.kernel.picture(indexes=False)
    machine.kernel.remove(machine.kernel.named("vti5").ifindex)
    reconcile(machine, said(child(T)), database(T))
    assert machine.kernel.picture(indexes=False) == before
    settled(machine, said(child(T)), database(T))


def test_what_a_link_set_down_lost_is_put_back(machine: Machine) -> None:
    machine.send_all(establish(T._replace(address="10.99.0.1/30")))
    index = machine.kernel.named("vti5").ifindex
    machine.kernel.set_link(index, up=False)
    assert machine.routes() == set()
    reconcile(machine, said(child(T)), database(T))
    assert machine.routes() == {("10.2.0.0/24", "vti5")}
    assert machine.kernel.named("vti5").up
    settled(machine, said(child(T)), database(T))


def test_a_deleted_route_address_alias_and_sysctl_are_put_back(machine: Machine) -> None:
    machine.send_all(establish(T._replace(address="10.99.0.1/30")))
    before = machine.kernel.picture()
    index = machine.kernel.named("vti5").ifindex
    machine.kernel.delete_route(Route("10.2.0.0/24", "vti5"), index)
    machine.kernel.delete_address(index, "10.99.0.1/30")
    machine.kernel.set_link(index, alias="")
    machine.kernel.files["net/ipv4/conf/vti5/forwarding"] = "0"
    outcome = reconcile(machine, said(child(T)), database(T))
    assert machine.kernel.picture() == before
    assert all(operation.reason for operation in outcome.report.operations)
    settled(machine, said(child(T)), database(T))


def test_a_trap_s_route_is_put_back(machine: Machine) -> None:
    machine.send_all([call(T, "prepare", child=False), call(T, "route", child=False)])
    machine.kernel.delete_route(Route("10.2.0.0/24", "vti5"), machine.kernel.named("vti5").ifindex)
    reconcile(machine, said(held=("t",)))
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


def test_a_device_of_others_in_the_place_of_ours_is_told_and_keeps_nothing_else_waiting(machine: Machine) -> None:
    machine.send_all(establish(T) + establish(U._replace(device="vti6", mark_in="6/0xff", peer=THIRD)))
    machine.kernel.remove(machine.kernel.named("vti5").ifindex)
    machine.kernel.remove(machine.kernel.named("vti6").ifindex)
    machine.kernel.add_link(Link("vti5", "vti", local=WEST, remote=EAST, ikey=77, okey=77))
    outcome = reconcile(machine, said(child(T), child(U)))
    assert [warning for warning in outcome.report.warnings if "key 77, wanted 5" in warning]
    assert machine.routes() == {("10.3.0.0/24", "vti6")}


def test_a_stale_claim_goes_with_its_device(machine: Machine) -> None:
    bare = machine.kernel.picture(indexes=False)
    machine.send_all(establish(T))
    outcome = reconcile(machine, said())
    assert machine.kernel.picture(indexes=False) == bare
    assert machine.claims() == []
    assert machine.made() == {}
    assert outcome_lines(outcome, False)[0] == ("# t: claim sa (10.1.0.0/24 <-> 10.2.0.0/24) ends: pluto has no child SA of it")
    settled(machine, said())


def test_a_trap_whose_unroute_was_omitted_ends_by_reconcile(machine: Machine) -> None:
    """Two pairs with one remote network: pluto calls no `unroute`, not even when the connection is deleted."""
    pair = T._replace(mine="10.1.1.0/24")
    machine.send_all([call(one, verb, child=False) for verb in ("prepare", "route") for one in (T, pair)])
    machine.send_all([call(one, "up", wishes=("ROUTE",)) for one in (T, pair)])
    machine.send_all([call(one, "down", wishes=("ROUTE",)) for one in (T, pair)])
    assert reconcile(machine, said(held=("t",))).report.operations == ()
    reconcile(machine, said())
    assert machine.claims() == []
    assert machine.devices() == set()


def test_what_the_recording_of_four_pairs_leaves_ends_by_one_reconcile(machine: Machine) -> None:
    """5.x omits every `unroute` where pairs of selectors share their remote network."""
    (recording,) = [one for one in recordings("libreswan-main") if (one.scenario, one.node) == ("multi-ts-2x2", "west")]
    machine.kernel.physical("eth1", f"{recording.calls()[0].environment['PLUTO_ME']}/24")
    machine.send_all([one.environment for one in recording.calls()])
    assert machine.claims()
    reconcile(machine, said())
    assert machine.claims() == []
    assert machine.devices() == set()
    assert machine.routes() == set()
    settled(machine, said())


def test_a_late_joined_call_of_a_tunnel_that_was_rekeyed_meanwhile_is_made_good(machine: Machine) -> None:
    """`down` and `unroute` have the newest SPIs, nothing tells that the call's SA was that tunnel's too."""
    ends = [call(T, "down", spi=0x2000), call(T, "unroute", spi=0x2000)]
    machine.send_all([*ends, call(T, "prepare-route-up", spi=0x1000)])
    assert machine.kinds() == {("t", "sa")}
    assert machine.devices() == {"vti5"}
    reconcile(machine, said(), database())
    assert machine.claims() == []
    assert machine.devices() == set()
    assert machine.routes() == set()
    settled(machine, said(), database())


def test_after_a_crash_the_kernel_decides(machine: Machine) -> None:
    """--leave-state: the SAs are still there, and so is the device; flushed, both go."""
    machine.send_all(establish(T))
    kept = reconcile(machine, DaemonAnswer(ABSENT), database(T))
    assert kept.report.operations == ()
    assert machine.kinds() == {("t", "sa")}
    reconcile(machine, DaemonAnswer(ABSENT), Database(), now=NOW, before_start=True)
    assert machine.kinds() == set()
    assert machine.devices() == set()


def test_one_of_two_tunnels_on_a_device_goes(machine: Machine) -> None:
    machine.send_all(establish(SHARED) + establish(SHARED._replace(connection="u", theirs="10.3.0.0/24", reqid=16392)))
    reconcile(machine, said(child(SHARED._replace(connection="u"))))
    assert machine.kinds() == {("u", "sa")}
    assert machine.routes() == {("10.3.0.0/24", "vti9")}


def test_both_tunnels_on_a_device_go_at_once(machine: Machine) -> None:
    machine.send_all(establish(SHARED) + establish(SHARED._replace(connection="u", theirs="10.3.0.0/24", reqid=16392)))
    assert len(reconcile(machine, said()).decision.ended) == 2
    assert machine.kinds() == set()
    assert machine.routes() == set()
    assert machine.devices() == {"vti9"}


def test_a_young_claim_s_device_stays(machine: Machine) -> None:
    machine.send_all(establish(T))
    outcome = reconcile(machine, said(), now=NOW + GRACE - 1)
    assert outcome.report.operations == ()
    assert machine.kinds() == {("t", "sa")}
    (line,) = outcome_lines(outcome, False)
    assert line == ("# t: claim sa: no tunnel is behind it, but younger than 60 s it is left alone: its event may be under way")
    told: Any = outcome_json(outcome, 0)["claims_young"]
    assert [claim["connection"] for claim in told] == ["t"]
    assert outcome_lines(reconcile(machine, said(), now=NOW + GRACE), False)[0].startswith("# t: claim sa (10.1.0.0/24")


def test_a_silent_daemon_s_tunnels_stay_and_that_is_told(machine: Machine) -> None:
    machine.send_all(establish(T))
    outcome = reconcile(machine, DaemonAnswer(SILENT, "no answer"), database(T))
    assert outcome.report.operations == ()
    assert [warning for warning in outcome.report.warnings if "pluto runs but says nothing" in warning]


def test_a_dry_run_says_the_same_and_does_nothing(machine: Machine) -> None:
    machine.send_all(establish(T._replace(address="10.99.0.1/30", source="10.1.0.1")))
    foreign(machine)
    before = machine.kernel.picture(), machine.claims()
    with copy_ledger(str(machine.folder), "1") as ledger:
        facts = Evidence({"libreswan": said()}, database(T))
        would = reconcile_ledger(ledger, cast(Netlink, machine.kernel), lambda _: (), facts, LATER, dry=True)
    assert (machine.kernel.picture(), machine.claims()) == before
    does = reconcile(machine, said(), database(T))
    assert outcome_lines(would, True) == outcome_lines(does, True)


def test_a_device_follows_a_peer_that_moved(machine: Machine) -> None:
    machine.send_all(establish(T))
    word = said(child(T, peer=THIRD))
    reconcile(machine, word)
    assert machine.kernel.named("vti5").remote == THIRD
    assert machine.routes() == {("10.2.0.0/24", "vti5")}
    settled(machine, word)


def test_a_device_follows_our_own_address(machine: Machine) -> None:
    machine.send_all(establish(T))
    machine.kernel.add_address(machine.kernel.named("eth0").ifindex, "198.51.100.9/24")
    reconcile(machine, said(child(T, me="198.51.100.9")))
    assert machine.kernel.named("vti5").local == "198.51.100.9"


def test_killed_at_any_moment_the_next_one_ends_right(machine: Machine) -> None:
    machine.send_all(establish(T) + establish(U._replace(device="vti6", mark_in="6/0xff", mark_out="6/0xff", peer=THIRD)))
    machine.kernel.remove(machine.kernel.named("vti6").ifindex)
    foreign(machine, "vti8", "198.51.100.77")
    word = said(child(U))
    for moment in range(60):
        machine.moments = []
        machine.dies_at = moment
        try:
            reconcile(machine, word)
            died = False
        except Kill:
            died = True
            machine.revive()
        machine.dies_at, machine.dead = None, False
        if not died:
            break
    assert not died
    reconcile(machine, word)
    assert machine.kinds() == {("u", "sa")}
    assert machine.devices() == {"vti6"}
    assert machine.routes() == {("10.3.0.0/24", "vti6")}
    settled(machine, word)


def test_reconcile_by_hand(machine: Machine, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    machine.send_all(establish(T))
    assert command("reconcile", "--dry-run") == 0
    assert machine.devices() == {"vti5"}
    assert command("reconcile") == 0
    one, two = capsys.readouterr().out.split("# t: claim")[1:]
    assert one == two
    assert "ip link del vti5" in one
    assert machine.devices() == set()
    assert command("reconcile", "--json") == 0
    assert json.loads(capsys.readouterr().out)["claims_ended"] == []


RANDOM = bytes(number * 37 % 251 for number in range(6000))


def spoil(ledger: Path, how: str) -> None:
    """Damage a ledger: as a whole, or one row of it."""
    if how == "another file":
        ledger.write_bytes(RANDOM)
    else:
        with contextlib.closing(sqlite3.connect(ledger)) as base:
            base.execute("UPDATE claim SET sa = '[]'")
            base.commit()


@pytest.mark.parametrize("how", ["another file", "a row"])
@pytest.mark.parametrize("word", ["reconcile", "clean"])
def test_a_damaged_ledger_is_set_aside_and_told(
    machine: Machine, command: Command, capsys: pytest.CaptureFixture[str], word: str, how: str
) -> None:
    machine.send_all(establish(T))
    spoil(machine.folder / "net-1" / "ledger", how)
    assert command(word) == 1
    assert "the ledger was damaged" in " ".join(capsys.readouterr().out.split())
    assert len(list(machine.folder.glob("net-1/ledger.damaged-*"))) == 1
    assert machine.devices() == set(), "by its alias"


def test_of_two_sas_of_one_child_the_newer_one_s_mark_stays(machine: Machine) -> None:
    """strongSwan's %unique marks: both are up, as between duplicates or in a reauthentication."""
    machine.settings("[defaults]\ninterface = vti{mark}\nrouting = yes\n")
    old = CharonChild("u", mark_in="101/0xffffffff", mark_out="101/0xffffffff")
    new = old._replace(mark_in="102/0xffffffff", mark_out="102/0xffffffff")
    machine.send_all([charon_call(old, "up", 1), charon_call(new, "up", 2)])
    both = tuple(
        ChildSa("strongswan", "u", WEST, EAST, unique_id=number, mark_in=mark, mark_out=mark, remote_ts=("10.2.0.0/24",))
        for number, mark in ((1, 101), (2, 102))
    )
    found = Evidence({"strongswan": DaemonAnswer(ANSWERED, children=both)}, Database())
    outcome = reconcile_with(machine, found)
    assert outcome.report.operations == ()
    assert machine.kernel.named("vti101").okey == 102


def test_warnings_are_status_1(command: Command) -> None:
    command.answer = said(child(T))
    assert command("reconcile", "--before-start") == 1


def test_never_inside_a_hook(command: Command) -> None:
    with pytest.raises(Refused, match="cannot run inside a hook") as caught:
        command("reconcile", PLUTO_VERB="up-client")
    assert caught.value.status == 2
    assert max(len(caught.value.text), len(caught.value.hint)) <= 120


def test_an_event_while_the_daemons_are_asked_makes_it_ask_again(
    machine: Machine, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of before the event would end the claim that the event renewed."""
    machine.send_all(establish(T))
    answers = [said(), said(child(T))]

    def gather(_: object) -> Evidence:
        if len(answers) == 2:
            machine.send_all(establish(U._replace(device="vti6", mark_in="6/0xff", peer=THIRD)))
        return Evidence({"libreswan": answers.pop(0)}, Database())

    monkeypatch.setattr(reconcile_run, "gather", gather)
    assert command("reconcile") == 0
    assert answers == []
    assert ("t", "sa") in machine.kinds()


def test_where_events_never_cease_the_claims_that_stayed_are_served(
    machine: Machine, command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another tunnel goes and comes again each time; the answers are those of before, and know nothing of it."""
    mine, other = T._replace(device="vti7"), U._replace(device="vti6", mark_in="6/0xff", peer=THIRD)
    gone = T._replace(connection="v", reqid=16396, theirs="10.4.0.0/24", device="vti8", peer="198.51.100.88")
    machine.send_all(establish(mine) + establish(gone))
    machine.kernel.delete_link(machine.kernel.named("vti7").ifindex)
    asked: list[int] = []

    def gather(_: object) -> Evidence:
        asked.append(len(asked))
        machine.send_all([*withdraw(other), *establish(other, spi=0x2000 + 16 * len(asked))])
        return Evidence({"libreswan": said(child(mine))}, Database())

    monkeypatch.setattr(reconcile_run, "gather", gather)
    assert command("reconcile") == 0
    assert len(asked) == 3
    assert machine.kinds() == {("t", "sa"), ("u", "sa")}
    assert machine.devices() == {"vti6", "vti7"}
    assert "claims left to the next run: 1" in capsys.readouterr().out


@pytest.mark.parametrize(("kind", "since", "ends"), [("trap", NOW - 1, True), ("trap", NOW + 1, False), ("sa", NOW + 1, True)])
def test_a_claim_that_may_have_been_renewed_without_a_trace_is_left(
    machine: Machine, command: Command, monkeypatch: pytest.MonkeyPatch, kind: str, since: int, ends: bool
) -> None:
    """pluto was started after the claim was made, and the answer may be older than what it called since."""
    verbs = ("prepare", "route") if kind == "trap" else ("prepare", "route", "up")
    machine.send_all([call(T, verb, child=kind == "sa") for verb in verbs])

    def gather(_: object) -> Evidence:
        machine.send_all([*withdraw(U), *establish(U._replace(device="vti6", mark_in="6/0xff", peer=THIRD))])
        return Evidence({"libreswan": said()._replace(since=since)}, Database())

    monkeypatch.setattr(reconcile_run, "gather", gather)
    assert command("reconcile") == 0
    assert (("t", kind) not in machine.kinds()) == ends


@pytest.mark.parametrize("words", [["--before-start"], ["status", "--before-start"], ["reconcile", "x"]])
def test_before_start_belongs_to_reconcile(words: list[str]) -> None:
    with pytest.raises(Refused, match="unknown word"):
        parse(words, False)
    assert parse(["reconcile", "--before-start"], False) == Arguments("reconcile", before_start=True)
