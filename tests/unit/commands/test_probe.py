"""`vti-updown probe`: who is asked, what is counted, and which routes go and come back."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest

from tests.kit.machine import EAST, WEST, Machine, Tunnel, call, establish, withdraw
from updown.commands import probe as module
from updown.commands.status import run as show
from updown.kernel import ping
from updown.ledger.liveness import MISSES, missed_probes
from updown.model.errors import KernelError, Refused
from updown.model.objects import Link
from updown.model.operations import Report
from updown.output.iproute2 import command

T = Tunnel()
ON = "[device vti5]\nprobe = 10.6.106.2\n"


@pytest.fixture
def dead(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The far addresses that do not answer; whoever is asked is listed in `machine.asked`."""
    silent: set[str] = set()
    machine.asked = []  # type: ignore[attr-defined]

    def ask(targets: dict[str, str], hearing: dict[str, tuple[str, ...]]) -> dict[str, str]:
        assert all(hearing[device] == (device,) for device in targets)
        machine.asked.append(dict(targets))  # type: ignore[attr-defined]
        return {device: "does not answer" if far in silent else "" for device, far in targets.items()}

    monkeypatch.setattr(ping, "ping", ask)
    monkeypatch.setattr(module, "settings_lines", lambda _: machine.lines)
    return silent


def run(machine: Machine, *more: str, **environ: str) -> int:
    return machine.command("probe", *more, **environ)


def test_after_three_misses_the_routes_go_and_with_an_answer_they_are_back(machine: Machine, dead: set[str]) -> None:
    machine.settings(ON)
    machine.send_all(establish(T))
    before = machine.kernel.picture()
    dead.add("10.6.106.2")
    for _ in range(MISSES - 1):
        assert run(machine) == 0
        assert machine.kernel.picture() == before
    run(machine)
    assert machine.routes() == set()
    link = machine.kernel.named("vti5")
    assert (link.up, link.dormant) == (True, True)
    run(machine)
    assert machine.routes() == set()
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
    dead.add("10.6.106.2")
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
    assert capsys.readouterr().out.splitlines() == [BACK, "ip route add 10.2.0.0/24 dev vti5 proto 160"]


def test_a_device_that_is_made_anew_meanwhile_is_dormant_too(machine: Machine, dead: set[str]) -> None:
    silenced(machine, dead)
    machine.kernel.remove(machine.kernel.named("vti5").ifindex)
    report = machine.send(call(T, "up"))
    assert texts(report)[-1] == SILENT
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
    machine.send_all(establish(T))
    dead.add("10.6.106.2")
    for _ in range(MISSES):
        run(machine)
    assert machine.routes() == set()
    assert not machine.kernel.named("vti5").dormant


def test_a_kernel_that_refuses_the_state_is_a_warning_and_it_is_tried_again(
    machine: Machine, dead: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.settings(ON)
    machine.send_all(establish(T))
    dead.add("10.6.106.2")
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
    assert (machine.routes(), machine.kernel.named("vti5").dormant) == (set(), False)
    refusing = False
    run(machine)
    assert machine.kernel.named("vti5").dormant


def test_an_answer_between_begins_the_count_anew(machine: Machine, dead: set[str]) -> None:
    machine.settings(ON)
    machine.send_all(establish(T))
    for answers in (False, False, True, False, False):
        dead.clear()
        dead.update(() if answers else ("10.6.106.2",))
        run(machine)
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


def test_events_and_reconcile_bring_no_route_back_before_the_answer(machine: Machine, dead: set[str]) -> None:
    machine.settings(ON)
    machine.send_all(establish(T))
    dead.add("10.6.106.2")
    for _ in range(MISSES):
        run(machine)
    reports = machine.send_all(establish(T))
    assert [report.operations for report in reports] == [(), (), ()]
    assert ("the far end of vti5 does not answer: nothing is routed into it",) in [one.warnings for one in reports]
    assert machine.routes() == set()


def test_status_says_that_it_is_silent(machine: Machine, dead: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    machine.settings(ON)
    machine.send_all(establish(T))
    dead.add("10.6.106.2")
    for _ in range(MISSES):
        run(machine)
    capsys.readouterr()
    show(machine.arguments)
    assert capsys.readouterr().out.splitlines()[1].split()[5] == "silent"


def test_the_route_goes_to_the_next_tunnel_meanwhile(machine: Machine, dead: set[str]) -> None:
    machine.settings(ON)
    second = Tunnel("u", peer="198.51.100.3", device="vti6", mark_in="6/0xff", mark_out="6/0xff", reqid=16392)
    machine.send_all(establish(T) + establish(second))
    dead.add("10.6.106.2")
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

    def ask(targets: dict[str, str], hearing: dict[str, tuple[str, ...]]) -> dict[str, str]:
        machine.send(call(T, "down", wishes=("UP",)))
        return dict.fromkeys([*targets, *hearing], "does not answer")

    monkeypatch.setattr(ping, "ping", ask)
    run(machine)
    with machine.ledger() as ledger:
        assert missed_probes(ledger) == {}
    assert dead == set()


@pytest.mark.parametrize("down", [[call(T, "down", wishes=("UP",))], withdraw(T)], ids=["waits", "ended"])
def test_a_tunnel_that_is_down_is_not_asked_and_its_count_is_forgotten(
    machine: Machine, dead: set[str], down: list[dict[str, str]]
) -> None:
    machine.settings(ON)
    machine.send_all(establish(T))
    dead.add("10.6.106.2")
    for _ in range(MISSES):
        run(machine)
    machine.send_all(down)
    run(machine)
    assert machine.asked[-1] == {}  # type: ignore[attr-defined]
    with machine.ledger() as ledger:
        assert missed_probes(ledger) == {}
    machine.send_all(establish(T))
    assert machine.routes() == {("10.2.0.0/24", "vti5")}


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        (ON, {"vti5": "10.6.106.2"}),
        ("[connection t]\nprobe = fd00::2\n", {"vti5": "fd00::2"}),
        (ON + "[device vti5]\nprobe = no\n", {}),
        ("", {}),
        ("[device vti6]\nprobe = 10.6.106.2\n", {}),
    ],
)
def test_who_is_asked(machine: Machine, dead: set[str], text: str, asked: dict[str, str]) -> None:
    machine.settings(text)
    machine.send_all(establish(T))
    run(machine)
    assert machine.asked == [asked]  # type: ignore[attr-defined]
    assert dead == set()


def test_a_dry_run_asks_and_changes_nothing(machine: Machine, dead: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    machine.settings(ON)
    machine.send_all(establish(T))
    dead.add("10.6.106.2")
    for _ in range(MISSES - 1):
        run(machine)
    before = machine.kernel.picture()
    capsys.readouterr()
    run(machine, "--dry-run")
    assert "ip route del 10.2.0.0/24 dev vti5 proto 160" in capsys.readouterr().out
    assert machine.kernel.picture() == before
    run(machine, "--json")
    (said,) = json.loads(capsys.readouterr().out)["probes"]
    assert said == {"device": "vti5", "far": "10.6.106.2", "missed": 3, "why": "does not answer"}


def test_never_by_the_hook(machine: Machine) -> None:
    with pytest.raises(Refused, match="probe cannot run inside a hook"):
        run(machine, PLUTO_VERB="up-client")
