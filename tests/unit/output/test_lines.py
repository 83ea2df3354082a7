"""The lines a daemon sees: short, printable, one an effect; where it reads none, the journal has them."""

import pytest

from tests.kit.hook_calls import called
from tests.kit.machine import Machine, Tunnel, call, establish, withdraw
from tests.kit.starts import SHARED
from updown.model.errors import Conflict
from updown.model.objects import Link
from updown.output.lines import folded
from updown.output.report import hook_lines, plan_lines

LONG6 = Tunnel(
    "a-connection-with-a-very-long-name-indeed",
    me="2001:db8:1111:2222:3333:4444:5555:6666",
    peer="2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff",
    mine="2001:db8:1111:2222:3333:4444:5555:0/112",
    theirs="2001:db8:aaaa:bbbb:cccc:dddd:eeee:0/112",
    device="fifteen-chars.x",
    address="2001:db8:9999:9999:9999:9999:9999:9999/127",
    source="2001:db8:1111:2222:3333:4444:5555:7777",
    metric="4294967295",
    mtu="1400",
    mark_in="4294967294/0xffffffff",
    mark_out="4294967295/0xffffffff",
)


@pytest.mark.parametrize("release", [4, 5])
def test_no_line_for_the_daemon_is_longer_than_120_bytes(machine: Machine, release: int) -> None:
    machine.kernel.physical("eth1", f"{LONG6.me}/64")
    tunnel = LONG6._replace(release=release)
    for environment in [*establish(tunnel), *withdraw(tunnel)]:
        lines = hook_lines(machine.send(environment))
        assert all(len(line.encode()) <= 120 for line in lines), lines
        assert all(line.startswith("vti-updown: a-connection-with-a-very-lo...: ") for line in lines)


def test_no_line_of_an_ipv6_conflict_is_longer_than_120_bytes(machine: Machine) -> None:
    machine.kernel.add_link(
        Link(LONG6.device, "vti6", local=LONG6.me, remote=LONG6.peer[:-1] + "0", ikey=1, okey=2, mtu=1400, up=True)
    )
    with pytest.raises(Conflict) as conflict:
        machine.send(call(LONG6, "up"))
    lines = [*folded("vti-updown: " + "n" * 30 + ": error: ", conflict.value.text), *folded("x: ", conflict.value.hint)]
    assert all(len(line.encode()) <= 120 for line in lines)
    assert "remote" in conflict.value.text


@pytest.mark.parametrize("verb", ["prepare-route-up", "prepare-up"])
def test_a_joined_verb_prints_nothing_and_the_journal_has_the_lines(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], journalled: list[str], verb: str
) -> None:
    assert called(machine, call(SHARED, verb), monkeypatch) == 0
    assert capsys.readouterr() == ("", "")
    assert any("ip link add vti5" in line for line in journalled)


def test_the_hook_prints_one_line_an_effect(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], journalled: list[str]
) -> None:
    assert called(machine, call(SHARED, "prepare"), monkeypatch) == 0
    assert capsys.readouterr().out.splitlines() == [
        "vti-updown: t: ip link add vti5 type vti local 198.51.100.1 remote any key 5",
        "vti-updown: t: sysctl -w net/ipv4/conf/vti5/disable_policy=1",
        "vti-updown: t: sysctl -w net/ipv4/conf/vti5/forwarding=1",
        "vti-updown: t: sysctl -w net/ipv6/conf/vti5/disable_policy=1",
        "vti-updown: t: sysctl -w net/ipv6/conf/vti5/forwarding=1",
        "vti-updown: t: sysctl -w net/ipv4/conf/vti5/send_redirects=0",
        "vti-updown: t: sysctl -w net/ipv4/conf/vti5/accept_redirects=0",
        "vti-updown: t: sysctl -w net/ipv6/conf/vti5/accept_redirects=0",
        "vti-updown: t: ip addr add 10.99.0.1/30 dev vti5",
        "vti-updown: t: ip link set vti5 alias vti-updown up",
    ]
    assert called(machine, call(SHARED, "prepare"), monkeypatch) == 0
    assert capsys.readouterr() == ("", "")
    del journalled


def test_nothing_to_do_says_so(machine: Machine) -> None:
    assert plan_lines(machine.send(call(SHARED, "down")), reasons=False) == ["# nothing to do"]


def test_what_is_escaped_is_not_escaped_again() -> None:
    assert folded("", "\\xff \x1b") == ["\\xff \\x1b"]
