"""`vti-updown probe`: who is asked, what is counted, and which routes go and come back."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests import TOP
from tests.kit.commands import Command
from tests.kit.machine import EAST, WEST, Machine, Tunnel, call, establish, withdraw
from tests.kit.reconciling import child, said
from updown.commands import probe as module
from updown.commands.status import run as show
from updown.kernel import ping
from updown.kernel.ping import Answer, Question
from updown.ledger.liveness import MISSES, missed_probes
from updown.model.errors import KernelError, Refused
from updown.model.ipsec import Key, Policy
from updown.model.objects import Link
from updown.model.operations import Report
from updown.output.iproute2 import command

T = Tunnel()
BACKUP = Tunnel("u", peer="198.51.100.3", device="vti6", mark_in="6/0xff", mark_out="6/0xff", reqid=16392, metric="200")
INTO_IT = ("10.2.0.0/24", "vti5")
ON = "[device vti5]\nprobe = 10.2.0.2\n"


@pytest.fixture
def dead(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The far addresses that do not answer; whoever is asked is listed in `machine.asked`. This machine is a gateway: its
    address inside is beside the tunnel, whose device has none."""
    silent: set[str] = set()
    machine.asked = []  # type: ignore[attr-defined]

    def ask(questions: list[Question]) -> list[Answer]:
        assert all(asked.hears == (asked.device,) for asked in questions)
        machine.asked.append(questions)  # type: ignore[attr-defined]
        return [Answer(heard=asked.far not in silent) for asked in questions]

    machine.kernel.physical("lan0", "10.1.0.1/24", "fd00:1::1/64")
    monkeypatch.setattr(ping, "ping", ask)
    monkeypatch.setattr(module, "settings_lines", lambda _: machine.lines)
    return silent


def run(machine: Machine, *more: str, **environ: str) -> int:
    return machine.command("probe", *more, **environ)


def test_after_three_misses_the_routes_stay_where_no_other_tunnel_lives(machine: Machine, dead: set[str]) -> None:
    """So that nothing leaves in clear; routing daemons are told all the same."""
    silenced(machine, dead)
    assert machine.routes() == {INTO_IT}
    assert [report.warnings for report in machine.send_all(establish(T))] == [(), (), ()]


def test_after_three_misses_the_routes_go_and_with_an_answer_they_are_back(machine: Machine, dead: set[str]) -> None:
    machine.settings(ON)
    machine.send_all(establish(T) + establish(BACKUP))
    before = machine.kernel.picture()
    dead.add("10.2.0.2")
    for _ in range(MISSES - 1):
        assert run(machine) == 0
        assert machine.kernel.picture() == before
    run(machine)
    assert machine.routes() == {("10.2.0.0/24", "vti6")}
    link = machine.kernel.named("vti5")
    assert (link.up, link.dormant) == (True, True)
    run(machine)
    assert INTO_IT not in machine.routes()
    dead.clear()
    run(machine)
    assert machine.kernel.picture() == before
    with machine.ledger() as ledger:
        assert missed_probes(ledger) == {}


SILENT = "ip link set vti5 state dormant"
BACK = "ip link set vti5 state up"


def silenced(machine: Machine, dead: set[str], text: str = ON, tunnel: Tunnel = T) -> None:
    """The tunnel is up, and its far end has missed too many probes."""
    machine.settings(text)
    machine.send_all(establish(tunnel))
    dead.add("10.2.0.2")
    for _ in range(MISSES):
        run(machine)
    assert machine.kernel.named("vti5").dormant


def texts(report: Report) -> list[str]:
    return [command(operation) for operation in report.operations]


def test_routing_daemons_see_it_by_the_devices_state(
    machine: Machine, dead: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    silenced(machine, dead)
    assert SILENT in capsys.readouterr().out.splitlines()
    assert all(report.operations == () for report in machine.send_all(establish(T))), "events leave it so"
    dead.clear()
    run(machine)
    assert capsys.readouterr().out.splitlines() == [BACK]


def test_a_device_that_is_made_anew_meanwhile_is_dormant_too(machine: Machine, dead: set[str]) -> None:
    silenced(machine, dead)
    machine.kernel.remove(machine.kernel.named("vti5").ifindex)
    report = machine.send(call(T, "up"))
    assert SILENT in texts(report)
    assert machine.kernel.named("vti5").dormant


def test_it_is_not_left_dormant_where_no_tunnel_is_on_it(machine: Machine, dead: set[str]) -> None:
    shared = T._replace(shared="yes")
    silenced(machine, dead, tunnel=shared)
    reports = machine.send_all(withdraw(shared))
    assert BACK in [text for report in reports for text in texts(report)]
    assert machine.devices() == {"vti5"}
    assert not machine.kernel.named("vti5").dormant


def test_nor_where_it_is_set_down_with_its_last_tunnel(machine: Machine, dead: set[str]) -> None:
    shared = T._replace(shared="yes")
    silenced(machine, dead, ON + "link = follow\n", shared)
    report = machine.send(call(shared, "down", wishes=("UP",)))
    assert texts(report)[-2:] == [BACK, "ip link set vti5 down"]
    (index,) = [link.ifindex for link in machine.kernel.by_index.values() if link.name == "vti5"]
    assert not machine.kernel.by_index[index].dormant


def test_a_probe_that_is_taken_back_wakes_the_device(machine: Machine, dead: set[str]) -> None:
    silenced(machine, dead)
    machine.settings("")
    run(machine)
    assert not machine.kernel.named("vti5").dormant


def test_the_state_of_a_device_that_is_not_ours_is_left_alone(machine: Machine, dead: set[str]) -> None:
    machine.kernel.add_link(Link("vti5", "vti", local=WEST, remote=EAST, ikey=5, okey=5, up=True))
    machine.settings(ON)
    machine.send_all(establish(T) + establish(BACKUP))
    dead.add("10.2.0.2")
    for _ in range(MISSES):
        run(machine)
    assert INTO_IT not in machine.routes()
    assert not machine.kernel.named("vti5").dormant


def test_a_kernel_that_refuses_the_state_is_a_warning_and_it_is_tried_again(
    machine: Machine, dead: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.settings(ON)
    machine.send_all(establish(T) + establish(BACKUP))
    dead.add("10.2.0.2")
    set_link = machine.kernel.set_link
    refusing = True

    def refuses(index: int, **more: Any) -> None:
        if refusing:
            raise KernelError("link set vti5: Operation not supported", errno.EOPNOTSUPP)
        set_link(index, **more)

    monkeypatch.setattr(machine.kernel, "set_link", refuses)
    for _ in range(MISSES - 1):
        run(machine)
    assert run(machine) == 1
    assert (INTO_IT in machine.routes(), machine.kernel.named("vti5").dormant) == (False, False)
    refusing = False
    run(machine)
    assert machine.kernel.named("vti5").dormant


def test_an_answer_between_begins_the_count_anew(machine: Machine, dead: set[str]) -> None:
    machine.settings(ON)
    machine.send_all(establish(T))
    for answers in (False, False, True, False, False):
        dead.clear()
        dead.update(() if answers else ("10.2.0.2",))
        run(machine)
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


def test_events_and_reconcile_bring_no_route_back_before_the_answer(machine: Machine, dead: set[str]) -> None:
    machine.settings(ON)
    machine.send_all(establish(T) + establish(BACKUP))
    dead.add("10.2.0.2")
    for _ in range(MISSES):
        run(machine)
    reports = machine.send_all(establish(T))
    assert [report.operations for report in reports] == [(), (), ()]
    text = "the far end of vti5 does not answer: 10.2.0.0/24 goes by u on vti6"
    assert (text,) in [one.warnings for one in reports]
    assert machine.routes() == {("10.2.0.0/24", "vti6")}


def test_status_says_that_it_is_silent(machine: Machine, dead: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    machine.settings(ON)
    machine.send_all(establish(T))
    dead.add("10.2.0.2")
    for _ in range(MISSES):
        run(machine)
    capsys.readouterr()
    show(machine.arguments)
    assert capsys.readouterr().out.splitlines()[1].split()[5] == "silent"


@pytest.mark.parametrize(("more", "state"), [("", "silent"), ("link = follow\n", "idle")])
def test_status_says_so_too_while_its_tunnel_waits(
    machine: Machine, dead: set[str], capsys: pytest.CaptureFixture[str], more: str, state: str
) -> None:
    silenced(machine, dead, ON + more)
    machine.send(call(T, "down", wishes=("UP",)))
    capsys.readouterr()
    show(machine.arguments)
    assert capsys.readouterr().out.splitlines()[1].split()[5] == state


def test_the_route_goes_to_the_next_tunnel_meanwhile(machine: Machine, dead: set[str]) -> None:
    machine.settings(ON)
    second = Tunnel("u", peer="198.51.100.3", device="vti6", mark_in="6/0xff", mark_out="6/0xff", reqid=16392)
    machine.send_all(establish(T) + establish(second))
    dead.add("10.2.0.2")
    for _ in range(MISSES):
        run(machine)
    assert machine.routes() == {("10.2.0.0/24", "vti6")}
    dead.clear()
    run(machine)
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


def test_a_tunnel_that_goes_down_while_it_is_asked_is_not_counted(
    machine: Machine, dead: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.settings(ON)
    machine.send_all(establish(T))

    def ask(questions: list[Question]) -> list[Answer]:
        machine.send(call(T, "down", wishes=("UP",)))
        return [Answer() for _ in questions]

    monkeypatch.setattr(ping, "ping", ask)
    run(machine)
    with machine.ledger() as ledger:
        assert missed_probes(ledger) == {}
    assert dead == set()


def counts(machine: Machine) -> dict[str, int]:
    with machine.ledger() as ledger:
        return {device: missed.probes for device, missed in missed_probes(ledger).items()}


def test_a_silent_tunnel_that_waits_has_nothing_back_before_it_is_up_and_answers(machine: Machine, dead: set[str]) -> None:
    """Not by `probe`, which does not ask it, nor by `reconcile` or its daemon's calls."""
    machine.send_all(establish(BACKUP))
    silenced(machine, dead)
    machine.send(call(T, "down", wishes=("UP",)))
    dead.clear()
    asked = len(machine.asked)  # type: ignore[attr-defined]
    for _ in range(2):
        assert run(machine) == 0
    assert len(machine.asked) == asked  # type: ignore[attr-defined]
    dead.add("10.2.0.2")
    machine.send_all(establish(T))
    run(machine)
    assert (INTO_IT in machine.routes(), machine.kernel.named("vti5").dormant) == (False, True)
    dead.clear()
    run(machine)
    assert (INTO_IT in machine.routes(), machine.kernel.named("vti5").dormant) == (True, False)


def test_misses_before_a_pause_are_none_in_a_row(machine: Machine, dead: set[str]) -> None:
    machine.settings(ON)
    machine.send_all(establish(T))
    dead.add("10.2.0.2")
    for _ in range(MISSES - 1):
        run(machine)
    machine.send(call(T, "down", wishes=("UP",)))
    run(machine)
    assert counts(machine) == {}


def test_the_two_tunnel_gateway_of_the_field_keeps_its_way_by_the_one_that_lives(machine: Machine, dead: set[str]) -> None:
    """tests/cases/field/02: probe takes the route off cloud1, DPD then ends its SA."""
    folder = TOP / "tests/cases/field/02-probe-then-down-restores"
    machine.settings((folder / "vti-updown.conf").read_text())
    calls = [dict(word.split("=", 1) for word in path.read_text().split("\0") if word) for path in sorted(folder.glob("*.env"))]
    *up, down = calls
    machine.send_all(up)
    assert machine.routes() == {("10.0.0.0/16", "vti1"), ("10.0.0.0/16", "vti2")}
    dead.add("169.254.10.1")
    for _ in range(MISSES):
        run(machine)
    assert machine.asked[-1] == [Question("vti1", "169.254.10.1", ("169.254.10.2",), ("vti1",))]  # type: ignore[attr-defined]
    assert machine.routes() == {("10.0.0.0/16", "vti2")}
    machine.send(down)
    dead.clear()
    run(machine)
    assert machine.routes() == {("10.0.0.0/16", "vti2")}
    dead.add("169.254.10.1")
    machine.send_all(up[:3])
    run(machine)
    assert machine.routes() == {("10.0.0.0/16", "vti2")}
    dead.clear()
    run(machine)
    assert machine.routes() == {("10.0.0.0/16", "vti1"), ("10.0.0.0/16", "vti2")}


TRAP = call(T, "route", child=False)
END = withdraw(T)


@pytest.mark.parametrize(
    "then",
    [
        pytest.param(lambda machine: machine.send_all(END + establish(T)), id="a new tunnel"),
        pytest.param(lambda machine: machine.send_all([TRAP, call(T, "down", wishes=("ROUTE",))]), id="a trap alone"),
        pytest.param(lambda machine: (machine.command("clean"), machine.send_all(establish(T))), id="clean"),
        pytest.param(lambda machine: (machine.settings(""), machine.send(call(T, "up"))), id="an event without the key"),
        pytest.param(lambda machine: (machine.settings("[device vti6]\n" + ON[14:]), run(machine)), id="probe without the key"),
    ],
)
@pytest.mark.usefixtures("command")
def test_the_count_is_forgotten_by(machine: Machine, dead: set[str], then: Callable[[Machine], object]) -> None:
    silenced(machine, dead)
    then(machine)
    assert counts(machine) == {}
    assert (machine.routes(), machine.kernel.named("vti5").dormant) == ({("10.2.0.0/24", "vti5")}, False)


def test_reconcile_forgets_the_count_without_the_key_though_the_tunnel_waits(
    machine: Machine, dead: set[str], command: Command
) -> None:
    silenced(machine, dead)
    command.answer = said(child(T))
    assert command("reconcile") == 0
    assert (machine.kernel.named("vti5").dormant, counts(machine)) == (True, {"vti5": MISSES})
    machine.settings("")
    assert command("reconcile") == 0
    assert (machine.kernel.named("vti5").dormant, counts(machine)) == (False, {})


def test_an_event_that_ends_while_settings_have_a_mistake_forgets_nothing(machine: Machine, dead: set[str]) -> None:
    """No line of the file is known then."""
    silenced(machine, dead)
    machine.settings("")
    machine.send(call(T, "down", wishes=("UP",)))
    assert counts(machine) == {"vti5": MISSES}


CANNOT = Answer(trouble="Network is unreachable", mend="do this")


def test_what_cannot_be_sent_is_told_and_changes_no_count(
    machine: Machine, dead: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.settings(ON)
    machine.send_all(establish(T))
    dead.add("10.2.0.2")
    run(machine)
    monkeypatch.setattr(ping, "ping", lambda asked: [CANNOT for _ in asked])
    capsys.readouterr()
    for _ in range(MISSES):
        assert run(machine) == 1
        told = "# warning: vti5: 10.2.0.2 cannot be asked (Network is unreachable): do this\n"
        assert capsys.readouterr().out == told
    assert counts(machine) == {"vti5": 1}
    run(machine, "--json")
    answer = json.loads(capsys.readouterr().out)
    why = "cannot be asked (Network is unreachable)"
    assert answer["probes"] == [{"device": "vti5", "far": "10.2.0.2", "missed": 1, "why": why}]
    assert [warning["kind"] for warning in answer["warnings"]] == ["not probed"]


WIDE: dict[str, Any] = {"mine": "0.0.0.0/0", "theirs": "0.0.0.0/0", "routing": "no"}
SIX: dict[str, Any] = {"mine": "fd00:1::/64", "theirs": "fd00:2::/64"}


@pytest.mark.parametrize(
    ("more", "tunnel", "far", "source"),
    [
        ("", {}, "10.2.0.2", "10.1.0.1"),
        ("address = 10.6.106.1/30", {}, "10.2.0.2", "10.1.0.1"),
        ("address = 10.1.0.9/32", {}, "10.2.0.2", "10.1.0.9"),
        ("address = 10.1.0.9/32", {"source": "10.1.0.1"}, "10.2.0.2", "10.1.0.1"),
        ("address = 169.254.10.2/30", WIDE, "169.254.10.1", "169.254.10.2"),
        ("", WIDE, "10.2.0.2", "10.1.0.1"),
        ("", {"mine": f"{WEST}/32"}, "10.2.0.2", WEST),
        ("", {"mine": "198.51.100.0/24"}, "10.2.0.2", WEST),
        ("", {"protocol": "1"}, "10.2.0.2", "10.1.0.1"),
        ("", SIX, "fd00:2::2", "fd00:1::1"),
        ("address = fd00:1::9/128 fe80::9/64", SIX, "fd00:2::2", "fd00:1::9"),
        ("address = fd00:1::9/128 fe80::9/64", {**WIDE, "mine": "::/0", "theirs": "::/0"}, "fe80::2", "fe80::9"),
    ],
)
@pytest.mark.usefixtures("dead")
def test_it_is_asked_from_an_address_that_the_tunnel_takes(
    machine: Machine, more: str, tunnel: dict[str, Any], far: str, source: str
) -> None:
    machine.settings(f"[device vti5]\nprobe = {far}\n{more}\n")
    machine.send_all(establish(T._replace(**tunnel)))
    assert run(machine) == 0
    assert machine.asked == [[Question("vti5", far, (source,), ("vti5",))]]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("dead")
def test_of_several_addresses_beside_the_tunnel_three_are_asked_from(machine: Machine) -> None:
    """Which of them the far end has a way back to, nobody here knows; those of other tunnels, and our own end, come last."""
    other = Tunnel("u", peer="198.51.100.3", device="vti6", mark_in="6/0xff", mark_out="6/0xff", reqid=16392)
    machine.settings(f"[device vti6]\naddress = 10.1.0.0/31\n{ON}")
    machine.send_all(establish(other._replace(**WIDE)) + establish(T._replace(**WIDE)))
    for index in range(3):
        machine.kernel.add_address(machine.kernel.named("lan0").ifindex, f"10.1.{index + 1}.1/24")
    run(machine)
    ((asked,),) = machine.asked  # type: ignore[attr-defined]
    assert asked.sources == ("10.1.0.1", "10.1.1.1", "10.1.2.1")


@pytest.mark.usefixtures("dead")
def test_policies_that_no_claim_tells_of_are_heeded(machine: Machine) -> None:
    """Another connection's, without the hook, with the same marks: for the network between the two ends."""
    machine.settings("[device vti5]\nprobe = 10.6.106.2\naddress = 10.6.106.1/30\n")
    machine.send_all(establish(T))
    assert run(machine) == 1
    between = Policy("out", "10.6.106.0/30", "10.6.106.0/30", reqids=(9,), ends=((WEST, EAST),))
    machine.kernel.ipsec = (between._replace(key=Key(6, 0xFF)), between._replace(direction="in", key=Key(5, 0xFF)))
    assert run(machine) == 1
    machine.kernel.ipsec += (between._replace(key=Key(5, 0xFF)),)
    assert run(machine) == 0
    assert machine.asked == [[Question("vti5", "10.6.106.2", ("10.6.106.1",), ("vti5",))]]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "tunnel", "spoil", "why"),
    [
        ("", {}, "", ""),
        ("", {"mine": "10.9.0.0/24"}, "", "no address of this machine is in 10.9.0.0/24): put one on the device: `address`"),
        ("", {"theirs": "10.9.0.0/24"}, "", "its tunnel takes 10.9.0.0/24 only): name an address in there as `probe`"),
        ("", {"protocol": "17"}, "", "its tunnel takes 10.2.0.0/24 17/0 only): name an address"),
        ("", SIX, "", "its tunnel takes fd00:2::/64 only)"),
        ("", WIDE, "alone", "no address of this machine but the tunnel's own end is in 0.0.0.0/0): put one on the device"),
        ("", WIDE, "address", "that is an address of this machine): name the far end's as `probe`"),
        ("", {}, "down", "the device is down): ip link set vti5 up"),
        ("", {}, "gone", "the device is not here): vti-updown reconcile"),
    ],
)
def test_why_it_cannot_be_asked(
    machine: Machine,
    dead: set[str],
    capsys: pytest.CaptureFixture[str],
    text: str,
    tunnel: dict[str, Any],
    spoil: str,
    why: str,
) -> None:
    machine.settings(ON + text)
    machine.send_all(establish(T._replace(**tunnel)))
    index = machine.kernel.named("vti5").ifindex
    if spoil == "address":
        machine.kernel.add_address(machine.kernel.named("lan0").ifindex, "10.2.0.2/32")
    elif spoil == "alone":
        machine.kernel.delete_address(machine.kernel.named("lan0").ifindex, "10.1.0.1/24")
    elif spoil == "down":
        machine.kernel.set_link(index, up=False)
    elif spoil == "gone":
        machine.kernel.remove(index)
    capsys.readouterr()
    dead.add("10.2.0.2")
    for _ in range(MISSES):
        assert run(machine, "--json") == (1 if why else 0)
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [one["missed"] for one in answer["probes"]] == [0 if why else MISSES]
    assert [why in warning["text"] for warning in answer["warnings"]] == ([True] if why else [])
    assert counts(machine) == ({} if why else {"vti5": MISSES})


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        (ON, {"vti5": "10.2.0.2"}),
        ("[connection t]\nprobe = fd00::2\n", {"vti5": "fd00::2"}),
        (ON + "[device vti5]\nprobe = no\n", {}),
        ("", {}),
        ("[device vti6]\nprobe = 10.2.0.2\n", {}),
    ],
)
def test_who_is_asked(machine: Machine, dead: set[str], text: str, asked: dict[str, str]) -> None:
    machine.settings(text)
    machine.send_all(establish(T))
    machine.send(call(T._replace(mine="fd00:1::/64", theirs="fd00::/64"), "up"))
    run(machine)
    found = [{one.device: one.far for one in questions} for questions in machine.asked]  # type: ignore[attr-defined]
    assert found == ([asked] if asked else [])
    assert dead == set()


def test_a_dry_run_asks_and_changes_nothing(machine: Machine, dead: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    machine.settings(ON)
    machine.send_all(establish(T) + establish(BACKUP))
    dead.add("10.2.0.2")
    for _ in range(MISSES - 1):
        run(machine)
    before = machine.kernel.picture()
    capsys.readouterr()
    run(machine, "--dry-run")
    assert "ip route del 10.2.0.0/24 dev vti5 proto 160" in capsys.readouterr().out
    assert machine.kernel.picture() == before
    run(machine, "--json")
    (said,) = json.loads(capsys.readouterr().out)["probes"]
    assert said == {"device": "vti5", "far": "10.2.0.2", "missed": 3, "why": "does not answer"}


def test_never_by_the_hook(machine: Machine) -> None:
    with pytest.raises(Refused, match="probe cannot run inside a hook"):
        run(machine, PLUTO_VERB="up-client")
