"""`vti-updown make`: devices that the settings describe, held by a claim of their own."""

from __future__ import annotations

import json
from typing import cast

import pytest

from tests.kit.charon import Child, charon_call
from tests.kit.commands import Command
from tests.kit.kernel_model import Kill
from tests.kit.machine import EAST, EAST6, NOW, THIRD, WEST, Machine, Tunnel, call, establish, withdraw
from tests.kit.reconciling import child, reconcile, said
from tests.kit.settings_text import parse
from updown.commands import run
from updown.commands.make import make_device, missing_keys
from updown.commands.reconcile.decide import Evidence, decide
from updown.daemons.answer import ABSENT, DaemonAnswer
from updown.kernel import path_mtu
from updown.kernel.netlink.rtnetlink import Netlink
from updown.model.errors import Conflict, Refused
from updown.model.ipsec import Database, Sa, State
from updown.model.objects import Link
from updown.model.resources import Clamp
from updown.settings.file import resolve

T = Tunnel()
ANYONE = f"[device vti5]\nlocal = {WEST}\nmark = 5\n"
ONE = ANYONE + f"remote = {EAST}\n"
XFRM = "[device ipsec7]\nif_id = 7\naddress = fd00:7::1/127\nmtu = 1400\n"


def test_a_described_device_is_made_with_all_that_its_section_says(machine: Machine, command: Command) -> None:
    machine.settings(ANYONE + "address = 10.99.0.1/30 fd00:99::1/64\nmtu = 1400\nrp_filter = 2\n")
    assert command("make", "vti5") == 0
    link = machine.kernel.named("vti5")
    assert link._replace(ifindex=0) == Link(
        "vti5", "vti", local=WEST, remote="0.0.0.0", ikey=5, okey=5, mtu=1400, up=True, alias="vti-updown"
    )
    assert machine.addresses("vti5") == ["10.99.0.1/30", "fd00:99::1/64"]
    assert machine.kernel.files["net/ipv4/conf/vti5/rp_filter"] == "2"
    assert machine.kinds() == {("make", "made")}


def test_made_again_it_is_as_it_should_be(machine: Machine, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    machine.settings(ONE)
    command("make", "vti5")
    before, changes = machine.kernel.picture(), len(machine.kernel.changes)
    capsys.readouterr()
    assert command("make", "vti5") == 0
    assert capsys.readouterr().out == "# vti5 is as it should be\n"
    assert (machine.kernel.picture(), len(machine.kernel.changes)) == (before, changes)


def test_a_changed_section_changes_the_device(machine: Machine, command: Command) -> None:
    machine.settings(ONE + "address = 10.99.0.1/30\n")
    command("make", "vti5")
    index = machine.kernel.named("vti5").ifindex
    machine.settings(ONE + "mark_out = 6\naddress = 10.99.0.5/30\n")
    assert command("make", "vti5") == 0
    assert machine.kernel.named("vti5")[2:7] == (index, WEST, EAST, 5, 6)
    assert machine.addresses("vti5") == ["10.99.0.5/30"]


def test_a_dry_run_says_the_same_and_does_nothing(
    machine: Machine, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.settings(ONE)
    assert command("make", "vti5", "--dry-run") == 0
    said = capsys.readouterr().out
    assert machine.devices() == set()
    assert machine.claims() == []
    command("make", "vti5")
    assert capsys.readouterr().out == said
    assert "ip link add vti5 type vti local 198.51.100.1 remote 198.51.100.2 key 5" in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"[device d]\nlocal = {WEST}\nmark = 5\n", ""),
        (f"[device d]\nlocal = {WEST}\nmark_in = 5\nmark_out = 6\n", ""),
        (f"[device d]\nlocal = {WEST}\nmark_in = 5\n", "a VTI needs `mark_out` (an XFRM interface `if_id`)"),
        (f"[device d]\nlocal = {WEST}\n", "a VTI needs `mark` (an XFRM interface `if_id`)"),
        ("[device d]\nmark = 5\n", "a VTI needs `local` (an XFRM interface `if_id`)"),
        ("[device d]\ndelete = never\n", "a VTI needs `local` and `mark` (an XFRM interface `if_id`)"),
        ("[device d]\nif_id = 7\n", ""),
        ("[device d]\nexternal = yes\n", ""),
        ("[device d]\nkind = xfrm\nmark = 5\n", "an XFRM interface needs `if_id`"),
        ("[device d*]\nif_id = 0x7\n", ""),
        (f"[device d]\nlocal = {WEST}\nremote = {EAST6}\nmark = 5\n", "two families"),
        ("[connection d]\nif_id = 7\n", "a VTI needs `local` and `mark`"),
    ],
)
def test_what_a_section_has_to_say(text: str, says: str) -> None:
    found = missing_keys(resolve(tuple(parse(text, "f")), "", "d"))
    assert says in found
    assert bool(says) == bool(found)


def test_a_device_that_is_not_described_is_refused(machine: Machine, command: Command) -> None:
    machine.settings("[device vti5]\nlocal = 192.0.2.1\n")
    with pytest.raises(Refused, match="vti5: a VTI needs `mark`") as refusal:
        command("make", "vti5")
    assert "[device vti5]" in refusal.value.hint
    assert machine.devices() == set()


def test_boot_makes_what_it_can_and_tells_of_the_rest(
    machine: Machine, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.kernel.add_link(Link("vti6", "vti", local=WEST, remote=THIRD, ikey=77, okey=77))
    machine.settings(
        f"[device vti6]\nlocal = {WEST}\nremote = {THIRD}\nmark = 6\n"
        + "[device vti7]\ndelete = never\n[device *]\nforwarding = no\n"
        + ONE
        + XFRM
    )
    assert command("make", "--boot") == 3
    said = capsys.readouterr().out
    assert "# error: vti6 is not ours and has key 77, wanted 6" in said
    assert "# vti7 is not made: a VTI needs `local` and `mark`" in said
    assert machine.devices() == {"vti6", "vti5", "ipsec7"}
    assert machine.kernel.named("ipsec7").if_id == 7
    assert machine.kernel.named("vti6").ikey == 77


def test_a_device_in_the_way_is_a_conflict_and_nothing_is_left(machine: Machine, command: Command) -> None:
    machine.kernel.add_link(Link("vti5", "vti", local=WEST, remote=EAST, ikey=77, okey=77))
    machine.settings(ONE)
    before = machine.kernel.picture()
    with pytest.raises(Conflict, match="vti5 is not ours and has key 77, wanted 5"):
        command("make", "vti5")
    assert machine.kernel.picture() == before
    assert machine.claims() == []


def test_json_tells_of_each_device(machine: Machine, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    machine.settings(ONE + "[device vti7]\ndelete = never\n")
    command("make", "--boot", "--json")
    said = json.loads(capsys.readouterr().out)
    assert [(each["name"], each["made"]) for each in said["devices"]] == [("vti5", True), ("vti7", False)]
    assert said["operations"][0]["command"].startswith("ip link add vti5")


@pytest.mark.parametrize("shared", ["yes", "no"])
def test_a_made_device_stays_however_many_tunnels_come_and_go(machine: Machine, command: Command, shared: str) -> None:
    machine.settings((ANYONE if shared == "yes" else ONE) + "address = 10.99.0.1/30\ndelete = last\n")
    command("make", "vti5")
    before = machine.kernel.picture()
    tunnel = T._replace(shared=shared, address="10.98.0.1/30")
    for _ in range(2):
        machine.send_all(establish(tunnel))
        assert machine.addresses("vti5") == ["10.99.0.1/30", "10.98.0.1/30"]
        assert machine.routes() == {("10.2.0.0/24", "vti5")}
        machine.send_all(withdraw(tunnel))
        assert machine.kernel.picture() == before
    assert machine.kinds() == {("make", "made")}


def test_it_stays_for_strongswan_too(machine: Machine, command: Command) -> None:
    machine.settings(ONE + "[connection c]\ninterface = vti5\nrouting = yes\n")
    command("make", "vti5")
    before = machine.kernel.picture()
    child = Child(mark_in="5", mark_out="5")
    machine.send(charon_call(child, "up"))
    assert len(machine.routes()) == 1
    machine.send(charon_call(child, "down"))
    assert machine.kernel.picture() == before


def test_reconcile_leaves_what_was_made(machine: Machine, command: Command) -> None:
    machine.settings(ONE)
    command("make", "vti5")
    facts = Evidence({"libreswan": DaemonAnswer(ABSENT), "strongswan": DaemonAnswer(ABSENT)}, Database())
    assert decide(machine.claims(), facts, 2_000_000_000).ended == ()


def test_release_lets_go_of_it(machine: Machine, command: Command) -> None:
    machine.settings(ONE)
    command("make", "vti5")
    assert command("release", "vti5") == 0
    assert machine.claims() == []
    assert machine.kernel.named("vti5").alias == ""
    machine.send_all(establish(T) + withdraw(T))
    assert machine.devices() == {"vti5"}


def test_clean_takes_it(machine: Machine, command: Command) -> None:
    machine.settings(ONE)
    command("make", "vti5")
    assert command("clean") == 0
    assert machine.devices() == set()
    assert machine.claims() == []


def test_status_shows_it(machine: Machine, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    machine.settings(ANYONE)
    command("make", "vti5")
    capsys.readouterr()
    command("status")
    said = capsys.readouterr().out.splitlines()
    assert said[1].split()[:5] == ["vti5", "vti", WEST, "any", "5"]
    assert "stays" in said[1]
    assert said[4].split()[:5] == ["make", "made", "vti5", "-", "-"]


def test_killed_at_any_moment_the_next_one_makes_it(machine: Machine) -> None:
    """The process dies before each change of the kernel and around each commit; what it left is finished."""
    machine.settings(ONE + "address = 10.99.0.1/30\n")
    at, died = 0, True
    while died:
        machine.moments, machine.dies_at = [], at
        try:
            with machine.ledger() as ledger:
                make_device("vti5", machine.lines, ledger, cast(Netlink, machine.kernel), NOW, False)
            died = False
        except Kill:
            machine.revive()
        machine.dies_at, machine.dead = None, False
        machine.send_all(establish(T) + withdraw(T))
        with machine.ledger() as ledger:
            again = make_device("vti5", machine.lines, ledger, cast(Netlink, machine.kernel), NOW, False)
        assert again.error is None
        link = machine.kernel.named("vti5")
        assert (link.up, link.alias, machine.addresses("vti5")) == (True, "vti-updown", ["10.99.0.1/30"])
        assert machine.unfinished() == []
        assert run.run_command(machine.arguments._replace(command="clean"), {}) == 0
        assert machine.devices() == set()
        at += 1
    assert at > 8


def test_an_old_word_of_the_settings_names_the_command_that_mends_it(machine: Machine, command: Command) -> None:
    machine.settings(ONE)
    command("make", "vti5")
    machine.settings(ONE.replace("mark = 5", "mark = 7"))
    seven = T._replace(mark_in="7/0xff", mark_out="7/0xff")
    with pytest.raises(Conflict, match="vti5 has key 5, wanted 7, for make") as refusal:
        machine.send(call(seven, "up"))
    assert "vti-updown make vti5" in refusal.value.hint
    command("make", "vti5")
    machine.send_all(establish(seven))


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("local = 198.51.100.9\n", ("198.51.100.9", "0.0.0.0")),
        ("remote = any\n", ("198.51.100.8", "0.0.0.0")),
        ("", ("198.51.100.8", THIRD)),
    ],
)
def test_reconcile_moves_no_end_that_the_section_says(machine: Machine, text: str, ends: tuple[str, str]) -> None:
    """The tunnel has moved at both ends, and only its daemon knows."""
    machine.settings(f"[device vti5]\n{text}")
    machine.send_all(establish(T))
    for address in ("198.51.100.8/24", "198.51.100.9/24"):
        machine.kernel.add_address(machine.kernel.named("eth0").ifindex, address)
    reconcile(machine, said(child(T, me="198.51.100.8", peer=THIRD)))
    link = machine.kernel.named("vti5")
    assert (link.local, link.remote) == ends


def test_a_made_device_has_the_kernels_mtu_until_a_tunnel_is_up_and_its_table_at_once(
    machine: Machine, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table stays when the tunnel goes: the device asks for it by itself."""
    monkeypatch.setattr(
        path_mtu, "outgoing_sa", lambda _context: State(WEST, EAST, 0x1001, 1, Sa(50, 1, 4, "rfc4106(gcm(aes))", 16))
    )
    machine.settings(ONE + "mtu = auto\nmss = clamp\n")
    assert command("make", "vti5") == 0
    assert machine.kernel.named("vti5").mtu == 1480
    assert machine.kernel.tables == {"vti5": Clamp("vti5")}
    machine.send_all(establish(T))
    assert machine.kernel.named("vti5").mtu == 1446
    assert machine.kernel.tables == {"vti5": Clamp("vti5", 1446)}
    machine.send_all(withdraw(T))
    assert machine.kernel.tables == {"vti5": Clamp("vti5")}
    assert command("make", "vti5") == 0
    assert machine.kernel.tables == {"vti5": Clamp("vti5")}
