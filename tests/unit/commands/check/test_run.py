"""`vti-updown check` on a machine: one line for each thing that is gone, and one where it is in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

import pytest

from tests.kit.machine import EAST, GATEWAY, THIRD, WEST, Machine, Tunnel, establish
from updown.commands.check.facts import Finding
from updown.commands.reconcile.decide import Evidence as Asked
from updown.daemons.answer import ABSENT, SILENT, ChildSa, DaemonAnswer
from updown.model.errors import Conflict, KernelError, Refused
from updown.model.ipsec import Database, Key, Policy, Sa, State
from updown.model.objects import MAIN_TABLE, Route, Rule

M32 = 0xFFFFFFFF
Command = Callable[..., int]


@pytest.fixture
def command(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """`vti-updown check` on this machine, whose pluto is not running and whose IPsec policies are those of T."""
    asked = Asked({"libreswan": DaemonAnswer(ABSENT), "strongswan": DaemonAnswer(ABSENT)}, database())
    monkeypatch.setattr("updown.commands.reconcile.run.gather", lambda _: asked)
    monkeypatch.setattr("updown.commands.check.run.clock.now", lambda: machine.now)
    monkeypatch.setattr("updown.commands.check.run.os.geteuid", lambda: 0)
    monkeypatch.setattr("updown.commands.check.run.has_module", lambda module: module != "ip6_vti")
    config = tmp_path / "vti-updown.conf"
    config.write_text("")
    for name in ("NETWORKD", "NETWORK_MANAGER", "PROFILES"):
        monkeypatch.setattr(f"updown.commands.check.look.{name}", str(tmp_path / name))
    (tmp_path / "xfrm_stat").write_text("XfrmInError 0\n")
    monkeypatch.setattr("updown.commands.check.look.XFRM_STAT", str(tmp_path / "xfrm_stat"))
    monkeypatch.setattr("updown.commands.check.look.in_first_namespace", lambda: True)

    def execute(*given: str, **environ: str) -> int:
        return machine.command("--config", str(config), "check", *given, **environ)

    return execute


def database() -> Database:
    return Database(
        (Policy("out", "10.1.0.0/24", "10.2.0.0/24", reqids=(16389,), ends=((WEST, EAST),), key=Key(5, M32)),),
        (
            State(WEST, EAST, 0x1000, 16389, Sa(50, 1, 4), Key(5, M32)),
            State(EAST, WEST, 0x1001, 16389, Sa(50, 1, 4), Key(5, M32)),
        ),
    )


T = Tunnel(address="10.99.0.1/30")


def test_a_machine_in_order_has_one_line(machine: Machine, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    machine.send_all(establish(T))
    assert command() == 0
    assert capsys.readouterr().out == "vti-updown check: nothing found (1 devices, 1 claims)\n"


def test_each_thing_that_is_gone_is_a_line_with_its_command(
    machine: Machine, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.send_all(establish(T))
    index = machine.kernel.named("vti5").ifindex
    machine.kernel.delete_address(index, "10.99.0.1/30")
    machine.kernel.set_link(index, alias="", mtu=1300)
    machine.kernel.files["net/ipv4/conf/vti5/forwarding"] = "0"
    before = machine.kernel.picture(), machine.claims()
    assert command() == 5
    assert capsys.readouterr().out.splitlines() == [
        "vti5: net/ipv4/conf/vti5/forwarding is 0, wanted 1 [sysctl-differs]",
        "    mend: vti-updown reconcile # sysctl -w net/ipv4/conf/vti5/forwarding=1",
        "vti5: address 10.99.0.1/30 is missing [address-missing]",
        "    mend: vti-updown reconcile # ip addr add 10.99.0.1/30 dev vti5",
        "vti5 lost its alias vti-updown [device-differs]",
        "    mend: vti-updown reconcile # ip link set vti5 alias vti-updown",
    ]
    assert (machine.kernel.picture(), machine.claims()) == before


def test_edited_settings_are_a_finding_with_the_line_that_says_so(
    machine: Machine, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.send_all(establish(T))
    config = tmp_path / "vti-updown.conf"
    config.write_text("[defaults]\nmtu = 1400\n")
    before = machine.kernel.picture(), machine.claims()
    assert command("--json") == 5
    found = [Finding(**one) for one in json.loads(capsys.readouterr().out)["findings"]]
    said = "t: claim sa was made under other settings: "
    assert found == [
        Finding("settings-edited", "t", f"{said}{edit} ({config}:2)", "vti-updown reconcile")
        for edit in ("route 10.2.0.0/24: mtu 0 -> mtu 1400", "no mtu -> mtu vti5 1400")
    ]
    assert (machine.kernel.picture(), machine.claims()) == before


def test_a_missing_device_is_one_finding_and_not_one_for_all_on_it(
    machine: Machine, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.send_all(establish(T))
    machine.kernel.remove(machine.kernel.named("vti5").ifindex)
    assert command("--json") == 5
    (found,) = json.loads(capsys.readouterr().out)["findings"]
    assert Finding(**found) == Finding(
        "device-missing",
        "vti5",
        "vti5 is missing",
        f"vti-updown reconcile  # ip link add vti5 type vti local {WEST} remote {EAST} key 5",
    )


def test_a_silent_daemon_and_an_uncounted_tunnel_are_told(
    machine: Machine, command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.send_all(establish(T))
    asked = Asked({"libreswan": DaemonAnswer(SILENT, "no answer")}, database())
    monkeypatch.setattr("updown.commands.reconcile.run.gather", lambda _: asked)
    assert command() == 5
    assert "pluto runs but says nothing (no answer)" in capsys.readouterr().out
    stranger = ChildSa("libreswan", "x", WEST, THIRD, 77, wants_device=True, device="vti6", calls_us=True)
    own = ChildSa("libreswan", "t", WEST, EAST, 0x1001, wants_device=True)
    answered = Asked({"libreswan": DaemonAnswer("answered", since=1, children=(own, stranger))}, database())
    monkeypatch.setattr("updown.commands.reconcile.run.gather", lambda _: answered)
    assert command() == 5
    assert "pluto has x up (198.51.100.1 - 198.51.100.3) and no claim counts it" in capsys.readouterr().out


def test_a_far_end_that_cannot_be_asked_is_a_finding(
    machine: Machine, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before a probe was ever sent; with an address that the tunnel takes there is none."""
    machine.send_all(establish(T))
    (tmp_path / "vti-updown.conf").write_text("[device vti5]\nprobe = 10.2.0.1\nsource = no\n")
    assert command("--json") == 5
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    text = "vti5: its far end cannot be asked: no address of this machine is in 10.1.0.0/24"
    mend = "put one on the device: `address`, or `probe = no`"
    assert finding == {"code": "peer-unasked", "subject": "vti5", "text": text, "mend": mend}
    machine.kernel.add_address(machine.kernel.named("eth0").ifindex, "10.1.0.1/32")
    assert command() == 0


def test_a_module_that_a_described_device_needs(
    machine: Machine, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "vti-updown.conf").write_text("[device six]\nlocal = 2001:db8::1\nmark = 6\n")
    assert command() == 5
    assert "six needs the kernel module ip6_vti, which this kernel lacks" in capsys.readouterr().out
    assert machine.devices() == set()


def test_a_hook_may_not_check(command: Command) -> None:
    with pytest.raises(Refused, match="check cannot run inside a hook"):
        command(PLUTO_VERB="up-client")


def test_what_could_not_be_looked_at_is_told_and_not_that_nothing_is_found(
    machine: Machine, command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.send_all(establish(T))

    def refused(netns: str = "") -> None:
        raise KernelError(f"links {netns}: Permission denied", 1, "run as root")

    monkeypatch.setattr("updown.commands.check.run.dumps.links", refused)
    assert command() == 5
    assert capsys.readouterr().out.splitlines()[0].endswith("Permission denied: the rest is not seen [not-looked-at]")


@pytest.mark.parametrize(
    ("said", "code"),
    [(DaemonAnswer(SILENT, "no answer"), "daemon-silent"), (DaemonAnswer("answered", since=1, whole=False), "not-looked-at")],
)
def test_a_daemon_that_does_not_tell_all_though_no_claim_is_its(
    machine: Machine,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    said: DaemonAnswer,
    code: str,
) -> None:
    machine.send_all(establish(T))
    asked = Asked({"libreswan": DaemonAnswer(ABSENT), "strongswan": said}, database())
    monkeypatch.setattr("updown.commands.reconcile.run.gather", lambda _: asked)
    assert command("--json") == 5
    (found,) = json.loads(capsys.readouterr().out)["findings"]
    assert (found["code"], found["subject"]) == (code, "charon")


def test_a_settings_file_that_others_may_write(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "vti-updown.conf"
    config.chmod(0o646)
    for words in ((), ("--settings",)):
        assert command("--json", *words) == 5
        (found,) = json.loads(capsys.readouterr().out)["findings"]
        assert (found["code"], found["subject"]) == ("settings-writable", str(config))
        assert found["mend"] == f"chown root:root {config} && chmod go-w {config}"


def by_eth0(destination: str, metric: int = 0, table: int = MAIN_TABLE) -> Route:
    """The administrator's own, by the uplink."""
    return Route(destination, "eth0", GATEWAY, table, metric, protocol=4)


WAYS: dict[str, tuple[str, Tunnel, Route, tuple[Rule, ...], list[str]]] = {
    "passed": ("", T, by_eth0("10.2.0.0/24"), (), []),
    "a part of it, on purpose": ("", T, by_eth0("10.2.0.0/25"), (), []),
    "both halves of it, each on purpose": (
        "",
        T,
        by_eth0("10.2.0.0/25"),
        (),
        [
            "packets to 10.2.0.0/24 leave outside of vti5, in clear: a route dev eth0 that is not ours is first",
            "ip route del 10.2.0.128/25 dev eth0 metric 0; vti-updown reconcile  # or set `table` and `rule`",
        ],
    ),
    "more than it": ("", T, by_eth0("10.2.0.0/16"), (), []),
    "before ours by its metric": (
        "",
        T._replace(metric="10"),
        by_eth0("10.2.0.0/24", 5),
        (),
        [
            "packets to 10.2.0.0/24 leave outside of vti5, in clear: a route dev eth0 that is not ours is first",
            "ip route del 10.2.0.0/24 dev eth0 metric 5; vti-updown reconcile  # or give ours a metric below 5, or none",
        ],
    ),
    "by a rule": (
        "",
        T,
        by_eth0("10.2.0.0/16", table=77),
        (Rule(4, "", 77, 500, protocol=3),),
        [
            "packets to 10.2.0.0/24 leave outside of vti5, in clear: a policy rule leads them to table 77, dev eth0",
            "ip rule show table 77  # delete it, or give it a priority after the main table's",
        ],
    ),
    "by a rule for other addresses": (
        "",
        T,
        by_eth0("10.2.0.0/16", table=77),
        (Rule(4, "", 77, 500, protocol=3, destination="10.9.0.0/16"),),
        [],
    ),
    "in a table of its own": (
        "[defaults]\ntable = 100\nmetric = 10\n",
        T,
        by_eth0("10.2.0.0/24", 5, table=100),
        (),
        [
            "packets to 10.2.0.0/24 leave outside of vti5, in clear: a route dev eth0 that is not ours is first",
            "ip route del 10.2.0.0/24 dev eth0 table 100 metric 5; vti-updown reconcile"
            "  # or give ours a metric below 5, or none",
        ],
    ),
}


@pytest.mark.parametrize("case", WAYS)
def test_the_kernel_is_asked_where_packets_go(
    machine: Machine, command: Command, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, tunnel, theirs, rules, said = WAYS[case]
    (tmp_path / "vti-updown.conf").write_text(settings)
    machine.settings(settings)
    for each in [theirs, theirs._replace(destination="10.2.0.128/25")] if case.startswith("both halves") else [theirs]:
        machine.kernel.add_route(each, machine.kernel.named("eth0").ifindex)
    machine.kernel.policy.update(rules)
    machine.send_all(establish(tunnel))
    assert command("--json") == (5 if said else 0)
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [text for one in found for text in (one["text"], one["mend"])] == said
    assert {(one["code"], one["subject"]) for one in found} == ({("route-not-ours", "vti5")} if said else set())


def test_a_way_that_somebody_took_afterwards_is_reconciles(
    machine: Machine, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """A DHCP client replaced ours by its own: halves go before it."""
    machine.send_all(establish(T))
    machine.kernel.add_route(by_eth0("10.2.0.0/24"), machine.kernel.named("eth0").ifindex, replace=True)
    assert command("--json") == 5
    found = json.loads(capsys.readouterr().out)["findings"]
    halves = ("10.2.0.0/25", "10.2.0.128/25")
    assert [one["text"] for one in found] == [f"vti5: route {half} is missing" for half in halves]
    assert {one["code"] for one in found} == {"route-missing"}
    assert found[0]["mend"] == "vti-updown reconcile  # ip route add 10.2.0.0/25 dev vti5 proto 160 metric 160000"


@pytest.mark.parametrize("name", ["vti5", "office"])
def test_a_device_that_was_moved_is_named_where_it_is(
    machine: Machine, command: Command, monkeypatch: pytest.MonkeyPatch, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.send_all(establish(T))
    moved = machine.kernel.named("vti5")._replace(name=f"{name}@red", up=False)
    machine.kernel.move_away("vti5")
    here = machine.kernel.links
    monkeypatch.setattr("updown.kernel.namespace.names", lambda: ["red"])
    monkeypatch.setattr("updown.kernel.netlink.dumps.links", lambda netns="": [moved] if netns else here())
    said = f"vti5 was moved into the network namespace red{' (as office)' if name == 'office' else ''}; it keeps its ends"
    mend = f"ip -n red link del {name}; vti-updown reconcile  # or the tunnel's next up; or `netns = red` for it"
    assert command("--json") == 5
    (found,) = json.loads(capsys.readouterr().out)["findings"]
    assert (found["code"], found["subject"], found["mend"]) == ("device-moved", "vti5", mend)
    assert found["text"].startswith(said)
    with pytest.raises(Conflict) as conflict:
        machine.send_all(establish(T))
    assert conflict.value.text.startswith(said)
    assert conflict.value.hint == mend
    machine.kernel.away.clear()  # the first half of the mend
    monkeypatch.setattr("updown.kernel.namespace.names", list)
    machine.send_all(establish(T))
    assert command() == 0
