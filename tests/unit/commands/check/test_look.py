"""What `check` looks at beside ledger and links, on a test's machine: forwarding, our ends, files, counters, events."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from tests import TOP
from tests.kit.machine import EAST, WEST, Machine, Tunnel, establish
from updown.commands.check import look, run
from updown.commands.check.facts import CheckFacts
from updown.commands.reconcile.decide import Evidence
from updown.daemons.answer import ABSENT, DaemonAnswer
from updown.model.ipsec import Database, Key, Policy, Sa, State

M32 = 0xFFFFFFFF
T = Tunnel()
FIELD = TOP / "tests/cases/field/10-check-silent-no-forwarding"
Found = list[dict[str, Any]]
Command = Callable[..., Found]


@pytest.fixture
def check(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """The findings of `check` on a machine with a network behind it, whose kernel has what T's daemon put there."""
    keyed = Key(5, M32)
    database = Database(
        (Policy("out", "10.1.0.0/24", "10.2.0.0/24", reqids=(16389,), ends=((WEST, EAST),), key=keyed),),
        tuple(State(*ends, spi, 16389, Sa(50, 1, 4), keyed) for ends, spi in (((WEST, EAST), 0x1000), ((EAST, WEST), 0x1001))),
    )
    absent = {"libreswan": DaemonAnswer(ABSENT), "strongswan": DaemonAnswer(ABSENT)}
    monkeypatch.setattr("updown.commands.reconcile.run.gather", lambda _: Evidence(absent, database))
    monkeypatch.setattr("updown.commands.check.run.clock.now", lambda: machine.now)
    monkeypatch.setattr("updown.commands.check.run.os.geteuid", lambda: 0)
    monkeypatch.setattr(look, "in_first_namespace", lambda: True)
    for name in ("NETWORKD", "NETWORK_MANAGER", "PROFILES", "XFRM_STAT"):
        monkeypatch.setattr(look, name, str(tmp_path / name))
    (tmp_path / "XFRM_STAT").write_text("XfrmInError 0\nXfrmInNoPols 0\n")
    folder = tmp_path / "etc"
    folder.mkdir()
    config = folder / "vti-updown.conf"
    config.write_text("")
    machine.kernel.physical("lan0", "10.1.0.1/24")
    machine.kernel.files.update({"net/ipv4/ip_forward": "1", "net/ipv4/conf/lan0/forwarding": "1"})

    def execute(*given: str) -> Found:
        status = machine.command("--config", str(config), "check", "--json", *given)
        found: Found = json.loads(capsys.readouterr().out)["findings"]
        assert status == (5 if found else 0)
        return found

    yield execute


def codes(found: Found) -> list[tuple[str, str]]:
    return [(one["code"], one["subject"]) for one in found]


def test_a_machine_in_order_with_a_network_behind_it(machine: Machine, check: Command) -> None:
    machine.send_all(establish(T))
    assert check() == []


def test_no_forwarding_from_the_network_behind_us(machine: Machine, check: Command, tmp_path: Path) -> None:
    """As in the field: strongSwan's child by the settings, on a machine that never forwarded."""
    config = tmp_path / "etc" / "vti-updown.conf"
    config.write_text((FIELD / "vti-updown.conf").read_text())
    pairs = (pair.partition("=") for pair in (FIELD / "01-up.env").read_text().split("\0"))
    machine.serve({name: value for name, _, value in pairs if name}, config=str(config))
    machine.kernel.files.update({"net/ipv4/ip_forward": "0", "net/ipv4/conf/lan0/forwarding": "0"})
    (found,) = [one for one in check() if one["code"] == "forwarding-off"]
    assert found["subject"] == "lan0"
    file = "/etc/sysctl.d/90-vti-updown.conf"
    assert found["mend"] == f"printf '%s\\n' 'net/ipv4/ip_forward = 1' >>{file}; sysctl -p {file}"


@pytest.mark.parametrize(
    ("mine", "forwarding", "told"),
    [
        ("10.1.0.0/24", "0", True),
        ("10.1.0.128/25", "0", True),
        ("10.1.0.0/24", "1", False),
        ("10.1.0.1/32", "0", False),  # we alone
        (f"{WEST}/32", "0", False),
        ("10.5.0.0/24", "0", False),  # behind the default route, or nowhere
        ("0.0.0.0/0", "0", False),
    ],
)
def test_which_networks_are_behind_us(machine: Machine, check: Command, mine: str, forwarding: str, told: bool) -> None:
    machine.send_all(establish(T._replace(mine=mine)))
    machine.kernel.files["net/ipv4/conf/lan0/forwarding"] = forwarding
    assert (("forwarding-off", "lan0") in codes(check())) is told


def test_a_tunnel_that_is_not_to_forward(machine: Machine, check: Command, tmp_path: Path) -> None:
    (tmp_path / "etc" / "vti-updown.conf").write_text("[defaults]\nforwarding = no\n")
    machine.settings("[defaults]\nforwarding = no\n")
    machine.send_all(establish(T))
    machine.kernel.files["net/ipv4/conf/lan0/forwarding"] = "0"
    assert check() == []


def test_an_end_that_this_machine_lost(machine: Machine, check: Command) -> None:
    machine.send_all(establish(T))
    eth0 = machine.kernel.named("eth0").ifindex
    machine.kernel.addressed[eth0] = ["198.51.100.250/24"]
    (found,) = [one for one in check() if one["code"] == "address-gone"]
    assert (found["subject"], found["mend"].partition("  # ")[0]) == ("t", f"ip addr add {WEST}/32 dev eth0")


@pytest.mark.parametrize(
    ("name", "text", "managed"),
    [
        ("NETWORKD", "ADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/a.network\n", "systemd-networkd"),
        ("NETWORKD", "ADMIN_STATE=unmanaged\nNETWORK_FILE=/etc/systemd/network/a.network\n", ""),
        ("NETWORKD", "ADMIN_STATE=unmanaged\n", ""),
        ("NETWORK_MANAGER", "[device]\nmanaged=true\nconnection-uuid=1-2\n", "NetworkManager"),
        ("NETWORK_MANAGER", "[device]\nmanaged=1\nconnection-uuid=1-2\n", "NetworkManager"),
        ("NETWORK_MANAGER", "[device]\nmanaged=true\n", ""),
        ("NETWORK_MANAGER", "[device]\nmanaged=false\nconnection-uuid=1-2\n", ""),
    ],
)
def test_who_else_manages_our_device(
    machine: Machine, check: Command, tmp_path: Path, name: str, text: str, managed: str
) -> None:
    machine.send_all(establish(T))
    folder = tmp_path / name
    folder.mkdir()
    (folder / str(machine.kernel.named("vti5").ifindex)).write_text(text)
    assert [(one["code"], one["subject"], one["text"].split()[1]) for one in check()] == (
        [("managed-by-other", "vti5", managed)] if managed else []
    )


@pytest.mark.parametrize("key", ["external", "nm-generated"])
def test_what_network_manager_only_shows_it_does_not_manage(machine: Machine, check: Command, tmp_path: Path, key: str) -> None:
    machine.send_all(establish(T))
    for name in ("NETWORK_MANAGER", "PROFILES"):
        (tmp_path / name).mkdir()
    said = "[device]\nmanaged=true\nconnection-uuid=1-2\n"
    (tmp_path / "NETWORK_MANAGER" / str(machine.kernel.named("vti5").ifindex)).write_text(said)
    profile = tmp_path / "PROFILES" / "vti5.nmconnection"
    profile.write_text(f"[connection]\nid=vti5\nuuid=1-2\n\n[.nmmeta]\n{key}=true\n")
    assert check() == []
    profile.write_text("[connection]\nid=vti5\nuuid=1-2\n")
    assert codes(check()) == [("managed-by-other", "vti5")]


def test_counters_are_those_since_the_last_look(machine: Machine, check: Command, tmp_path: Path) -> None:
    machine.send_all(establish(T))
    counters = tmp_path / "XFRM_STAT"
    counters.write_text("XfrmInError 0\nXfrmInNoPols 3\n")
    assert check("--dry-run")[0]["text"].startswith("XfrmInNoPols: 3 packets since the last look")
    assert check()[0]["text"].startswith("XfrmInNoPols: 3 packets")
    assert check() == []
    counters.write_text("XfrmInError 1\nXfrmInNoPols 5\n")
    assert codes(check()) == [("xfrm-stat", "XfrmInError"), ("xfrm-stat", "XfrmInNoPols")]
    counters.write_text("XfrmInError 0\nXfrmInNoPols 1\n")  # another module's: it counts from there
    assert check() == []
    (machine.folder / "net-1" / "counted").write_text("nonsense")
    assert codes(check()) == [("xfrm-stat", "XfrmInNoPols")]
    counters.unlink()
    assert codes(check()) == [("not-looked-at", "xfrm_stat")]


def test_a_look_makes_no_state_directory(machine: Machine, check: Command) -> None:
    assert check() == []
    assert not machine.folder.exists()


def test_what_others_may_write(machine: Machine, check: Command, tmp_path: Path) -> None:
    machine.send_all(establish(T))
    folder = tmp_path / "etc" / "conf.d"
    folder.mkdir()
    folder.chmod(0o777)
    (machine.folder / "net-1" / "lock").chmod(0o666)
    assert codes(check()) == [("settings-writable", str(folder)), ("state-writable", str(machine.folder / "net-1" / "lock"))]


def test_code_that_others_may_write(machine: Machine, check: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.send_all(establish(T))
    library = tmp_path / "lib" / "updown"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text("")
    (library / "__init__.py").chmod(0o646)
    monkeypatch.setattr("updown.commands.check.look.updown.__file__", str(library / "__init__.py"))
    (found,) = check()
    assert (found["code"], found["subject"]) == ("code-writable", str(library / "__init__.py"))
    assert found["mend"] == f"chown -R root:root {library} && chmod -R go-w {library}"


def test_a_lock_is_seen_without_a_try_for_it(machine: Machine) -> None:
    machine.send_all(establish(T))
    path = str(machine.folder / "net-1" / "lock")
    inode = os.stat(path).st_ino
    assert look.is_held(f"1: FLOCK  ADVISORY  WRITE 4711 08:01:{inode} 0 EOF".split(), str(inode))
    assert not look.is_held(f"1: -> FLOCK  ADVISORY  WRITE 4711 08:01:{inode} 0 EOF".split(), str(inode))
    assert not look.is_held(f"1: POSIX  ADVISORY  WRITE 4711 08:01:{inode} 0 EOF".split(), str(inode))
    assert not look.is_held(f"1: FLOCK  ADVISORY  WRITE 4711 08:01:{inode}1 0 EOF".split(), str(inode))
    assert not look.is_locked(path)


def test_what_an_event_was_just_mending_is_no_finding(
    machine: Machine, check: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event holds the lock at the first look, and is over at the second."""
    machine.send_all(establish(T))
    machine.kernel.delete_route(*route_of(machine))
    locked = iter([True, True, False, False])

    def is_locked(_path: str) -> bool:
        now = next(locked)
        if not now and ("10.2.0.0/24", "vti5") not in machine.routes():
            machine.send_all(establish(T))
        return now

    monkeypatch.setattr(look, "is_locked", is_locked)
    assert check() == []


def test_what_an_event_does_not_mend_is_one(machine: Machine, check: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look finds it again; what is new in it waits for the next run."""
    machine.send_all(establish(T))
    machine.kernel.delete_route(*route_of(machine))
    held = iter([True, False])
    monkeypatch.setattr(look, "is_locked", lambda _: next(held))
    seen: list[str] = []
    gather = run.gather

    def counted_gather(*given: Any) -> CheckFacts:
        seen.append("once")
        return gather(*given)

    monkeypatch.setattr(run, "gather", counted_gather)
    assert codes(check()) == [("route-missing", "vti5")]
    assert seen == ["once", "once"]


def test_who_waits_for_an_event_waits_for_no_longer_than_said(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.send_all(establish(T))
    looked: list[str] = []

    def is_locked(path: str) -> bool:
        looked.append(path)
        return True

    monkeypatch.setattr(look, "is_locked", is_locked)
    assert look.wait_for_events(str(machine.folder / "net-1"), 0)
    assert looked == [str(machine.folder / "net-1" / "lock")]


def route_of(machine: Machine) -> tuple[Any, int]:
    """T's own route, and its device's index."""
    (entry,) = [one for one in machine.kernel.table if one.route.destination == "10.2.0.0/24"]
    return entry.route, entry.oif
