"""TCP segments: the table, its lifetime as a claim, and what nft is told and says."""

import errno
import os
from pathlib import Path
from typing import cast

import pytest

from tests.kit.machine import THIRD, Machine, Tunnel, call, establish, withdraw
from updown.commands.check.findings import difference
from updown.commands.reconcile.orphans import ORPHAN, find_orphans
from updown.concerns.mss import clamp_of, command, device_of_table, rules
from updown.kernel import nft
from updown.kernel.netlink.rtnetlink import Netlink
from updown.model.claims import FormerHolder
from updown.model.errors import KernelError
from updown.model.ipsec import Database
from updown.model.operations import Operation
from updown.model.resources import Clamp
from updown.output.iproute2 import command as text_of

T = Tunnel(address="10.99.0.1/30")
CLAMP = "[defaults]\nmss = clamp\nmtu = 1400\n"


def test_a_device_has_its_table_from_its_first_claim_to_its_last(machine: Machine) -> None:
    machine.settings(CLAMP)
    shared = T._replace(shared="yes")
    other = Tunnel("u", peer=THIRD, theirs="10.3.0.0/24", shared="yes", reqid=16392)
    machine.send_all(establish(shared))
    assert machine.kernel.tables == {"vti5": Clamp("vti5", 1400)}
    machine.send_all(establish(other))
    assert machine.send(call(shared, "up")).operations == ()
    machine.send_all(withdraw(shared))
    assert machine.kernel.tables == {"vti5": Clamp("vti5", 1400)}
    machine.send_all(withdraw(other))
    assert machine.kernel.tables == {}
    assert machine.devices() == {"vti5"}  # it is shared, and stays
    assert machine.unfinished() == []


def test_no_nft_is_run_without_the_setting(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.settings("[defaults]\nmtu = 1400\n[connection u]\nmss = clamp\n")
    monkeypatch.setattr(nft, "read_table", None)
    machine.send_all(establish(T) + withdraw(T))


def test_the_table_follows_the_devices_mtu_whoever_changes_it(machine: Machine) -> None:
    """Also a tunnel that asks for no clamp itself."""
    machine.settings("[connection t]\nmss = clamp\nmtu = 1400\n[connection u]\nmtu = 1300\n")
    shared = T._replace(shared="yes")
    other = Tunnel("u", peer=THIRD, theirs="10.3.0.0/24", shared="yes", reqid=16392)
    machine.send_all(establish(shared) + establish(other))
    assert machine.kernel.tables == {"vti5": Clamp("vti5", 1300)}
    assert machine.send(call(shared, "up")).operations == ()
    machine.send_all(withdraw(other))
    assert machine.kernel.named("vti5").mtu == 1400
    assert machine.kernel.tables == {"vti5": Clamp("vti5", 1400)}


def test_a_size_that_is_said_counts_whatever_the_mtu(machine: Machine) -> None:
    machine.settings("[defaults]\nmss = 1379\nmtu = 1400\n")
    (operation,) = [one for one in machine.send(call(T, "up")).operations if one.effect == "firewall"]
    assert text_of(operation) == (
        "nft 'table inet vti-updown-vti5 { chain forward { type filter hook forward priority -150; policy accept; "
        'oifname "vti5" tcp flags & (syn | rst) == syn tcp option maxseg size set 1379 comment "leaving: mss 1379"; '
        'iifname "vti5" tcp flags & (syn | rst) == syn tcp option maxseg size set 1379 comment "entering: mss 1379"; }; }\''
    )
    assert machine.send(call(T, "up")).operations == ()
    machine.settings("[defaults]\nmss = 1300\nmtu = 1400\n")
    assert [one.action for one in machine.send(call(T, "up")).operations] == ["firewall replace"]
    assert machine.kernel.tables == {"vti5": Clamp("vti5", size=1300)}
    machine.settings(CLAMP)
    machine.send(call(T, "up"))
    assert machine.kernel.tables == {"vti5": Clamp("vti5", 1400)}
    machine.send_all(withdraw(T))
    assert machine.kernel.tables == {}


@pytest.mark.parametrize("slave", [False, True])
@pytest.mark.parametrize(("mtu", "size"), [(0, 0), (1400, 0), (0, 1379)])
def test_a_table_is_known_by_its_comments(mtu: int, size: int, slave: bool) -> None:
    clamp = Clamp("vti5", mtu, slave, size)
    comments = [rule.comment for rule in rules(clamp)]
    assert clamp_of("vti5", comments) == clamp
    assert clamp_of("vti5", comments[:1]).mtu == -1


def test_without_an_mtu_of_ours_the_route_decides(machine: Machine) -> None:
    machine.settings("[defaults]\nmss = clamp\n")
    machine.send_all(establish(T))
    assert machine.kernel.tables == {"vti5": Clamp("vti5", 0)}
    assert machine.send(call(T, "up")).operations == ()


def test_the_setting_taken_back_takes_the_table_back(machine: Machine) -> None:
    machine.settings(CLAMP)
    machine.send_all(establish(T))
    machine.settings("[defaults]\nmtu = 1400\n")
    (operation,) = machine.send(call(T, "up")).operations
    assert text_of(operation) == "nft delete table inet vti-updown-vti5"
    assert machine.kernel.tables == {}


def test_a_table_that_others_changed_or_deleted_is_put_right(machine: Machine) -> None:
    machine.settings(CLAMP)
    machine.send_all(establish(T))
    machine.kernel.tables["vti5"] = Clamp("vti5", -1)
    assert [operation.action for operation in machine.send(call(T, "up")).operations] == ["firewall replace"]
    del machine.kernel.tables["vti5"]
    assert [operation.action for operation in machine.send(call(T, "up")).operations] == ["firewall add"]
    assert machine.send(call(T, "up")).operations == ()


def test_without_nft_there_is_a_warning_and_the_tunnel_is_up(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_clamp: Clamp) -> None:
        raise KernelError("nft table inet x: there is no nft", 2, nft.MISSING)

    monkeypatch.setattr(nft, "put_table", refused)
    machine.settings(CLAMP)
    report = machine.send(call(T, "up"))
    assert [warning for warning in report.warnings if "package nftables" in warning] == list(report.warnings)
    assert machine.routes() == {("10.2.0.0/24", "vti5")}
    assert "firewall vti5" not in machine.made()
    machine.send_all(withdraw(T))
    assert machine.devices() == set()


def test_a_failed_event_puts_the_table_back(machine: Machine) -> None:
    """Where a later change is not permitted."""
    machine.settings(CLAMP)
    machine.send_all(establish(T))
    before = machine.kernel.picture()

    def fault(_number: int, text: str) -> None:
        if text.startswith("route add"):
            assert machine.kernel.tables == {"vti5": Clamp("vti5", 1300)}
            machine.kernel.fault = None
            raise KernelError("route add: Operation not permitted", errno.EPERM)

    machine.settings("[defaults]\nmtu = 1300\nmss = clamp\n")
    machine.kernel.fault = fault
    with pytest.raises(KernelError):
        machine.send(call(T, "up"))
    assert machine.kernel.picture() == before


@pytest.mark.parametrize("verbs", [("up",), ("up", "down")])
def test_a_process_that_dies_at_any_moment_leaves_nothing_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verbs: tuple[str, ...]
) -> None:
    """The next event ends where it would have ended."""
    at, died = 0, True
    while died:
        machine = Machine(tmp_path / str(at), monkeypatch)
        machine.settings(CLAMP)
        *before, last = [call(T, verb) for verb in verbs]
        machine.send_all(before)
        died = machine.dies(last, at)
        machine.send(last)
        assert machine.kernel.tables == ({} if verbs[-1] == "down" else {"vti5": Clamp("vti5", 1400)})
        assert machine.send(last).operations == ()
        at += 1
    assert at > 5


def test_what_no_claim_holds_is_found_by_its_name(machine: Machine) -> None:
    machine.settings(CLAMP)
    machine.send_all(establish(T))
    machine.kernel.tables["vti6"] = Clamp("vti6")
    with machine.ledger() as ledger:
        found = find_orphans(ledger, cast(Netlink, machine.kernel), machine.lines, Database(), set())
    assert found.gone == {"vti6": [FormerHolder(ORPHAN, Clamp("vti6"))]}


def test_a_device_elsewhere_has_its_table_there() -> None:
    there = Clamp("vti5@red", 1438)
    assert command(Operation("firewall add", there)) == "ip netns exec red " + command(
        Operation("firewall add", Clamp("vti5", 1438))
    )
    assert command(Operation("firewall delete", there)) == "ip netns exec red nft delete table inet vti-updown-vti5"
    comments = [rule.comment for rule in rules(there)]
    assert clamp_of("vti5@red", comments) == there


@pytest.mark.parametrize("mtu", [0, 1280, 1438, 65515])
def test_a_table_is_recognised_by_its_rules(mtu: int) -> None:
    clamp = Clamp("vti5", mtu)
    comments = [rule.comment for rule in rules(clamp)]
    assert clamp_of("vti5", comments) == clamp
    for changed in (comments[:-1], [*comments, "x"], comments[::-1], [], ["None"], ["leaving: route", "entering: mtu x"]):
        assert clamp_of("vti5", changed) == Clamp("vti5", -1)


def test_only_names_of_ours_are_ours() -> None:
    assert device_of_table("vti-updown-vti5.7") == "vti5.7"
    assert device_of_table("vti-updown") is None
    assert device_of_table("filter") is None
    assert device_of_table("vti-updown-x; flush ruleset") is None, "it would be more than one command"


def test_a_clamp_that_was_not_recognised_is_undone_by_one_by_the_route() -> None:
    assert command(Operation("firewall add", Clamp("vti5", -1))) == command(Operation("firewall add", Clamp("vti5", 0)))


# -- nft itself, played by a script


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "nft"
    monkeypatch.setattr(nft, "PLACES", (str(tmp_path / "missing"), str(place)))
    return place


def plays(place: Path, text: str) -> None:
    place.write_text(f"#!/bin/sh\n{text}\n")
    place.chmod(0o755)


def test_nft_gets_one_transaction_as_it_is_shown_and_no_shell(script: Path) -> None:
    heard = script.parent / "heard"
    plays(script, f'echo "$@" >{heard}.words; cat >{heard}; env >{heard}.env')
    clamp = Clamp("vti5", 1438)
    nft.put_table(clamp)
    assert Path(f"{heard}.words").read_text() == "-f -\n"
    assert "LC_ALL=C" in Path(f"{heard}.env").read_text()
    assert f"nft '{heard.read_text()}'" == command(Operation("firewall replace", clamp))
    assert [part.split(" {")[0] for part in heard.read_text().split("; ")[:3]] == [
        "add table inet vti-updown-vti5",
        "delete table inet vti-updown-vti5",
        "table inet vti-updown-vti5",
    ]
    nft.delete_table("vti5")
    assert f"nft {heard.read_text()}" == command(Operation("firewall delete", clamp))


def test_what_nft_refuses_is_told_escaped(script: Path) -> None:
    plays(script, 'printf "Error: Could not process rule:\\n \\033[31mOperation not supported\\n" >&2; exit 1')
    with pytest.raises(KernelError) as caught:
        nft.put_table(Clamp("vti5"))
    assert "Could not process rule: \\x1b[31mOperation not supported" in caught.value.text
    assert "nftables" in caught.value.hint
    assert nft.read_table("vti5") is None
    assert nft.clamped_devices() == []


def test_where_there_is_no_nft_the_package_is_named(script: Path) -> None:
    del script
    with pytest.raises(KernelError) as caught:
        nft.delete_table("vti5")
    assert "nftables" in caught.value.hint
    assert nft.read_table("vti5") is None
    assert nft.clamped_devices() == []


def test_an_nft_that_may_not_be_run_is_told(script: Path) -> None:
    script.write_bytes(b"no program")
    script.chmod(0o755)
    with pytest.raises(KernelError, match="Exec format error"):
        nft.put_table(Clamp("vti5"))


HANGING = {
    "silent": ("exec sleep 600", "no answer in 0.2 s"),
    "dripping": ("while :; do echo x; sleep 0.05; done", "no answer in 0.2 s"),
    "silent, with its output closed": ("exec sleep 600 >&- 2>&-", "it did not end in 0.2 s"),
    "endless": ("exec cat /dev/zero", "no answer|more than"),
    "endless in its complaints": ("exec cat /dev/zero >&2", "no answer|more than"),
}


@pytest.mark.parametrize("case", HANGING)
def test_an_nft_that_hangs_or_never_ends_is_ended(script: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    text, why = HANGING[case]
    monkeypatch.setattr(nft, "ANSWER_SECONDS", 0.2)
    plays(script, f"echo $$ >{script}.pid; {text}")
    with pytest.raises(KernelError, match=why):
        nft.put_table(Clamp("vti5"))
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path(f"{script}.pid").read_text()), 0)


@pytest.mark.parametrize("said", ["", "[]", "{}", '{"nftables": 1}', '{"nftables": [1]}', "nonsense"])
def test_an_answer_that_is_not_known_is_no_table_of_ours(script: Path, said: str) -> None:
    plays(script, f"cat <<'E'\n{said}\nE")
    assert nft.read_table("vti5") == Clamp("vti5", -1)
    assert nft.clamped_devices() == []


def test_check_names_a_table_that_is_not_there() -> None:
    assert difference(Operation("firewall add", Clamp("vti5")), None) == ("vti5: nftables table vti-updown-vti5 is missing")
