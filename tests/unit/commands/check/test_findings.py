"""What `check` finds in given facts, as a table; and that a machine in order has none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.kit.machine import EAST, THIRD, WEST, Machine, Tunnel, establish
from updown.commands.arguments import parse as words
from updown.commands.check import run as check_module
from updown.commands.check.facts import CheckFacts, Finding, Reconciled
from updown.commands.check.findings import CHECKS, find
from updown.commands.check.settings import check_files
from updown.commands.reconcile.match import Evidence as Asked
from updown.daemons.answer import ABSENT, SILENT, ChildSa, DaemonAnswer
from updown.hook import dispatch
from updown.kernel.netlink.route_messages import RouteSeen
from updown.ledger.liveness import Missed
from updown.model.claims import MADE, NO_SA, Claim
from updown.model.errors import Refused
from updown.model.ipsec import Database, Key, Policy, State
from updown.model.objects import Link, Route
from updown.model.resources import DeletionRule, Device
from updown.settings.file import parse

M32 = 0xFFFFFFFF
VTI = Link("vti5", "vti", 5, WEST, EAST, 5, 5, mtu=1480, up=True, alias="vti-updown")
WIDE = Link("wide", "vti", 9, WEST, "0.0.0.0", 9, 9, mtu=1480, up=True, alias="vti-updown")
FALLBACK = Link("ip_vti0", "vti", 2, "0.0.0.0", "0.0.0.0")
ABOUT = NO_SA._replace(daemon="libreswan", me=WEST, peer=EAST, my_client="10.1.0.0/24", peer_client="10.2.0.0/24")
ROUTE = Route("10.2.0.0/24", "vti5")


def held(link: Link, *more: Any, peer: str = EAST) -> Claim:
    """A claim of kind sa on a device."""
    want = Device(link._replace(ifindex=0, up=False, alias=""), shared=False, with_last=True)
    about = ABOUT._replace(peer=peer)
    return Claim(
        "k" + link.name, "sa", "t", "t", "g", link.name, DeletionRule(False, True), resources=(want, *more), about=about
    )


def policies(out: int, come: int, peer: str = EAST, me: str = WEST) -> Database:
    return Database(
        (
            Policy("out", "10.1.0.0/24", "10.2.0.0/24", ends=((me, peer),), key=Key(out, M32)),
            Policy("in", "10.2.0.0/24", "10.1.0.0/24", ends=((peer, me),), key=Key(come, M32)),
        ),
        (State(me, peer, 1, 1, 50, 1, Key(out, M32)), State(peer, me, 2, 1, 50, 1, Key(come, M32))),
    )


GOOD = CheckFacts(
    claims=(held(VTI, ROUTE),),
    links=(Link("lo", ifindex=1, up=True), FALLBACK, VTI),
    sysctls={"net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/vti5/rp_filter": "0"},
    xfrm=policies(5, 5),
)
SHARED = GOOD._replace(
    claims=(held(WIDE, peer=THIRD),),
    links=(FALLBACK, WIDE),
    xfrm=policies(9, 9, THIRD),
)
NARROW = Link("narrow", "vti", 11, WEST, THIRD, 3, 3, up=True)


def lines(text: str) -> Any:
    return tuple(parse(text, "f"))


CASES: dict[str, tuple[CheckFacts, list[str]]] = {
    "in order": (GOOD, []),
    "a shared device in order": (SHARED, []),
    "a trap's policy has no ends": (
        GOOD._replace(
            xfrm=Database(
                (Policy("out", "10.1.0.0/24", "10.2.0.0/24", ends=(("0.0.0.0", "0.0.0.0"),), key=Key(5, M32)),)
            )
        ),
        [],
    ),
    "an inbound SA without a mark": (
        GOOD._replace(xfrm=policies(5, 5)._replace(states=(State(EAST, WEST, 2, 1, 50, 1),))),
        [],
    ),
    "not root": (GOOD._replace(root=False, xfrm=None), ["not run as root"]),
    "no capability": (GOOD._replace(xfrm=None), ["the kernel's IPsec policies cannot be read"]),
    "a mistake": (GOOD._replace(mistakes=(("f:2: unknown key x", ""),)), ["f:2: unknown key x"]),
    "stale remote": (
        GOOD._replace(xfrm=policies(5, 5, THIRD)),
        ["vti5 has ends 198.51.100.1 - 198.51.100.2, its IPsec"],
    ),
    "stale local": (GOOD._replace(xfrm=policies(5, 5, me=THIRD)), ["vti5 has ends"]),
    "stale local of a shared device": (SHARED._replace(xfrm=policies(9, 9, THIRD, "198.51.100.9")), ["wide has ends"]),
    "one of two peers on a key has the device's ends": (
        GOOD._replace(xfrm=Database(policies(5, 5).policies + policies(5, 5, THIRD).policies)),
        [],
    ),
    "out by another mark": (
        GOOD._replace(xfrm=policies(7, 5)),
        ["vti5 sends with key 5, but the IPsec policies (out) between its ends have mark 7"],
    ),
    "in by another mark": (
        GOOD._replace(xfrm=policies(5, 7)),
        ["vti5 takes in with key 5, but the IPsec policies (in)", "vti5 takes in with key 5, but the IPsec SA 0x2"],
    ),
    "both by another mark": (
        GOOD._replace(xfrm=policies(7, 7)._replace(states=())),
        ["vti5 sends with key 5", "vti5 takes in with key 5"],
    ),
    "no marks at all": (
        GOOD._replace(
            xfrm=Database((Policy("out", "10.1.0.0/24", "10.2.0.0/24", ends=((WEST, EAST),)),)),
        ),
        ["vti5 sends with key 5, but the IPsec policies (out) between its ends have no mark"],
    ),
    "a masked mark that fits": (
        GOOD._replace(
            xfrm=Database((Policy("out", "10.1.0.0/24", "10.2.0.0/24", ends=((WEST, EAST),), key=Key(5, 0xF)),))
        ),
        [],
    ),
    "half of a shared device": (SHARED._replace(xfrm=policies(9, 8, THIRD)), ["wide takes in with key 9"]),
    "another tunnel from a shared device's address": (
        SHARED._replace(xfrm=Database(policies(9, 9, THIRD).policies + policies(4, 4).policies)),
        [],
    ),
    "a shared device without policies, beside another tunnel from its address": (
        SHARED._replace(xfrm=policies(4, 4)),
        [],
    ),
    "an if_id without interface": (
        GOOD._replace(xfrm=Database((Policy("out", "10.1.0.0/24", "10.3.0.0/24", key=Key(if_id=7)),))),
        ["IPsec policies have if_id 7"],
    ),
    "an external interface has every if_id": (
        GOOD._replace(
            links=(*GOOD.links, Link("ipsec", "xfrm", 12, external=True)),
            xfrm=Database((Policy("out", "10.1.0.0/24", "10.3.0.0/24", key=Key(if_id=7)),)),
        ),
        [],
    ),
    "strict by the device": (
        GOOD._replace(sysctls={"net/ipv4/conf/vti5/rp_filter": "1"}),
        ["vti5: rp_filter is 1 (strict)"],
    ),
    "strict by all": (
        GOOD._replace(sysctls={"net/ipv4/conf/all/rp_filter": "1", "net/ipv4/conf/vti5/rp_filter": "0"}),
        ["vti5: all.rp_filter is 1 (strict)"],
    ),
    "loose beats strict": (
        GOOD._replace(sysctls={"net/ipv4/conf/all/rp_filter": "1", "net/ipv4/conf/vti5/rp_filter": "2"}),
        [],
    ),
    "disable_xfrm": (
        GOOD._replace(sysctls={"net/ipv4/conf/vti5/disable_xfrm": "1"}),
        ["vti5: disable_xfrm is 1"],
    ),
    "charon's route": (
        GOOD._replace(charon_routes=(RouteSeen("10.2.0.0/24", 1, table=220),)),
        ["table 220 has a route to 10.2.0.0/24 (dev lo)"],
    ),
    "charon's wider route": (
        GOOD._replace(charon_routes=(RouteSeen("10.0.0.0/8", 1, table=220),)),
        ["table 220 has a route to 10.0.0.0/8"],
    ),
    "charon's route elsewhere": (GOOD._replace(charon_routes=(RouteSeen("10.3.0.0/24", 1, table=220),)), []),
    "charon's route by our device": (GOOD._replace(charon_routes=(RouteSeen("10.2.0.0/24", 5, table=220),)), []),
    "the fallback device by its name": (
        GOOD._replace(lines=lines("[device vti0]\nmtu = 1400\n"), links=(FALLBACK._replace(name="vti0"), VTI)),
        ["vti0 (f:2) is the kernel's fallback device"],
    ),
    "the fallback device under another name": (
        GOOD._replace(lines=lines("[connection c]\ninterface = vti0\n"), links=(FALLBACK._replace(name="vti0"), VTI)),
        ["vti0 (f:2) is the kernel's fallback device"],
    ),
    "a shadow": (SHARED._replace(links=(WIDE, NARROW)), ["narrow (remote 198.51.100.3, key 3) takes in what wide"]),
    "a shadow that is down": (SHARED._replace(links=(WIDE, NARROW._replace(up=False))), []),
    "a device for a peer that the wide one does not serve": (
        SHARED._replace(links=(WIDE, NARROW._replace(remote=EAST))),
        [],
    ),
    "a device from another address": (SHARED._replace(links=(WIDE, NARROW._replace(local=EAST))), []),
    "a silent far end": (
        GOOD._replace(missed={"vti5": Missed(3, 0), "vti6": Missed(2, 0)}),
        ["vti5: its far end missed 3 probes"],
    ),
    "a claim without a tunnel": (
        GOOD._replace(reconciled=Reconciled(ended=((GOOD.claims[0], "pluto has no child SA of it"),))),
        ["t: claim sa holds vti5, but pluto has no child SA of it"],
    ),
    "a claim made under other settings": (
        GOOD._replace(
            reconciled=Reconciled(edited=((GOOD.claims[0], ("no address -> address vti5 10.99.0.5/30 (f:4)",)),))
        ),
        ["t: claim sa was made under other settings: no address -> address vti5 10.99.0.5/30 (f:4)"],
    ),
    "the same, with a mistake in the files": (
        GOOD._replace(
            mistakes=(("f:3: unknown key x", ""),),
            reconciled=Reconciled(edited=((GOOD.claims[0], ("address vti5 10.99.0.5/30 -> no address",)),)),
        ),
        ["f:3: unknown key x"],
    ),
    "a move the daemon tells of": (
        GOOD._replace(reconciled=Reconciled(moved=(GOOD.claims[0]._replace(about=ABOUT._replace(peer=THIRD)),))),
        ["vti5: the ends of t are now 198.51.100.1 - 198.51.100.3"],
    ),
    "a move that both tell of": (
        GOOD._replace(xfrm=policies(5, 5, THIRD), reconciled=Reconciled(moved=(GOOD.claims[0],))),
        ["vti5 has ends"],
    ),
    "something is lacking": (
        GOOD._replace(lacking=(("nft", "f:2: mss needs nft", "install"),)),
        ["f:2: mss needs nft"],
    ),
    "made, and not described any more": (
        GOOD._replace(claims=(held(VTI)._replace(kind=MADE),)),
        ["vti5 was made by `make`, and [device vti5] does not describe it any more: a VTI needs"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_facts_and_what_is_found_in_them(case: str) -> None:
    facts, wanted = CASES[case]
    found = find(facts)
    assert [finding.text[: len(text)] for finding, text in zip(found, wanted)] == wanted
    assert len(found) == len(wanted), found
    assert all(finding.mend for finding in found)


def test_the_table_has_a_case_for_every_check() -> None:
    """`resources` has its own below: it needs a plan of reconcile's."""
    silent = {check.__name__ for check in CHECKS if not any(list(check(facts)) for facts, _ in CASES.values())}
    assert silent == {"resources", "state"}


# On a machine

Command = Callable[..., int]


@pytest.fixture
def command(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """`vti-updown check` on this machine, whose pluto is not running and whose IPsec policies are those of T."""
    asked = Asked({"libreswan": DaemonAnswer(ABSENT), "strongswan": DaemonAnswer(ABSENT)}, database())
    monkeypatch.setattr(check_module, "Netlink", lambda: machine.kernel)
    monkeypatch.setattr("updown.commands.reconcile.run.gather", lambda *_: getattr(machine, "asked", asked))
    monkeypatch.setattr("updown.commands.check.run.clock.now", lambda: machine.now)
    monkeypatch.setattr("updown.commands.check.run.os.geteuid", lambda: 0)
    monkeypatch.setattr("updown.commands.check.run.has_module", lambda module: module != "ip6_vti")
    config = tmp_path / "vti-updown.conf"
    config.write_text("")

    def execute(*given: str, **environ: str) -> int:
        all_words = ["--state-dir", str(machine.folder), "--config", str(config), "check", *given]
        return dispatch(words(all_words, "PLUTO_VERB" in environ), environ)

    return execute


def database() -> Database:
    return Database(
        (Policy("out", "10.1.0.0/24", "10.2.0.0/24", reqids=(16389,), ends=((WEST, EAST),), key=Key(5, M32)),),
        (State(WEST, EAST, 1, 16389, 50, 1, Key(5, M32)),),
    )


T = Tunnel(address="10.99.0.1/30")


def test_a_machine_in_order_has_one_line(
    machine: Machine, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
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
        "vti5: net/ipv4/conf/vti5/forwarding is 0, wanted 1",
        "    mend: vti-updown reconcile (sysctl -w net/ipv4/conf/vti5/forwarding=1)",
        "vti5: address 10.99.0.1/30 is missing",
        "    mend: vti-updown reconcile (ip addr add 10.99.0.1/30 dev vti5)",
        "vti5 lost its alias vti-updown",
        "    mend: vti-updown reconcile (ip link set vti5 alias vti-updown)",
        "vti5: route 10.2.0.0/24 is missing",
        "    mend: vti-updown reconcile (ip route add 10.2.0.0/24 dev vti5 proto 160)",
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
        Finding("claims", "t", f"{said}{edit} ({config}:2)", "vti-updown reconcile")
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
        "resources",
        "vti5",
        "vti5 is missing",
        f"vti-updown reconcile (ip link add vti5 type vti local {WEST} remote {EAST} key 5)",
    )


def test_a_silent_daemon_and_an_uncounted_tunnel_are_told(
    machine: Machine, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.send_all(establish(T))
    machine.asked = Asked({"libreswan": DaemonAnswer(SILENT, "no answer")}, database())  # type: ignore[attr-defined]
    assert command() == 5
    assert "pluto runs but says nothing (no answer)" in capsys.readouterr().out
    stranger = ChildSa("libreswan", "x", WEST, THIRD, 77, wants_device=True)
    own = ChildSa("libreswan", "t", WEST, EAST, 0x1001, wants_device=True)
    machine.asked = Asked(  # type: ignore[attr-defined]
        {"libreswan": DaemonAnswer("answered", since=1, children=(own, stranger))}, database()
    )
    assert command() == 5
    assert "pluto has x up (198.51.100.1 - 198.51.100.3) and no claim counts it" in capsys.readouterr().out


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


# The settings alone

CONTRADICTIONS = {
    "two families": (
        "[device d]\nlocal = 192.0.2.1\nremote = 2001:db8::1\n",
        ["f.conf:3: remote = 2001:db8::1 and local = 192.0.2.1 are of two families"],
    ),
    "one by a pattern": (
        "[device *]\nlocal = 192.0.2.1\n[device d]\nremote = 2001:db8::1\n",
        ["f.conf:4: remote = 2001:db8::1 and local"],
    ),
    "an if_id for a VTI": ("[device d]\nkind = vti\nif_id = 5\n", ["f.conf:3: if_id says nothing of d"]),
    "a mark for an XFRM interface": (
        "[device d]\nkind = xfrm\nif_id = 5\nmark = 5\n",
        ["f.conf:4: mark_in says nothing of d", "f.conf:4: mark_out says nothing of d"],
    ),
    "the same two ends": (
        "[device d]\nlocal = 192.0.2.1\nmark = 5\n[device e]\nlocal = 192.0.2.1\nremote = any\nmark = 6\n",
        ["f.conf:5: e and d would have the same two ends"],
    ),
    "the same if_id": (
        "[device d]\nif_id = 5\n[device e]\nif_id = 0x5\n",
        ["f.conf:4: e and d would have the same if_id"],
    ),
    "two external interfaces": (
        "[device d]\nexternal = yes\n[device e]\nexternal = yes\n",
        ["f.conf:4: e and d would have every if_id"],
    ),
    "a rule without a table": (
        "[connection t]\nrule = fwmark 5\n",
        ["f.conf:2: rule needs table = NUMBER: the main table is where every packet looks"],
    ),
    "a rule without a table in a device's section": ("[device d]\nrule = fwmark 5\n", ["f.conf:2: rule needs table ="]),
    "a rule without a table for all": ("[defaults]\nrule = fwmark 5\n", ["f.conf:2: rule needs table ="]),
    "a rule of all, and one of two has a table": (
        "[defaults]\nrule = fwmark 5\n[connection t]\nmtu = 1400\n[connection u]\ntable = 5\n",
        ["f.conf:2: rule needs table ="],
    ),
    "a rule of all whose tables are those of connections": (
        "[defaults]\nrule = fwmark 5\n[connection t]\nvrf = blue\n[connection u*]\ntable = 5\n",
        [],
    ),
    "a rule of a pattern whose tables are those of names": (
        "[connection *]\nrule = fwmark 5\n[connection t]\ntable = 4\n[connection u]\ntable = 5\n",
        [],
    ),
    "a rule whose table the device has": (
        "[connection t]\ninterface = d\nrule = fwmark 5\n[device d]\ntable = 5\n",
        [],
    ),
    "a rule whose table a device may have": ("[connection t]\nrule = fwmark 5\n[device d]\ntable = 5\n", []),
    "a rule whose table another device has": (
        "[connection t]\ninterface = e{mark}\nrule = fwmark 5\n[device d]\ntable = 5\n",
        ["f.conf:3: rule needs table ="],
    ),
    "a device's rule whose table its connection has": (
        "[device d]\nrule = fwmark 5\n[connection t]\ninterface = d\ntable = 5\n",
        [],
    ),
    "a described device's rule, which `make` needs a table for": (
        "[device d]\nif_id = 5\nrule = fwmark 5\n[connection t]\ninterface = d\ntable = 5\n",
        ["f.conf:3: rule needs table ="],
    ),
    "an external interface by if_id": (
        "[connection t]\ninterface = ipsec{if_id}\nexternal = yes\n",
        ["f.conf:2: interface = ipsec{if_id}: an external interface is one for all if_ids"],
    ),
    "an external interface by if_id in two kinds of section": (
        "[defaults]\nexternal = yes\n[connection *]\ninterface = ipsec{if_id_in}\n",
        ["f.conf:4: interface = ipsec{if_id_in}: an external interface"],
    ),
    "a connection's two families": (
        "[connection t]\nlocal = 192.0.2.1\nremote = 2001:db8::1\n",
        ["f.conf:3: remote = 2001:db8::1 and local = 192.0.2.1 are of two families"],
    ),
    "two families of a connection and its device": (
        "[connection t]\ninterface = d\nlocal = 192.0.2.1\n[device d]\nremote = 2001:db8::1\n",
        ["f.conf:5: remote = 2001:db8::1 and local = 192.0.2.1 are of two families"],
    ),
    "a connection's end that its device has otherwise": (
        "[connection t]\ninterface = d\nlocal = 192.0.2.1\n[device d]\nlocal = 2001:db8::2\nremote = 2001:db8::1\n",
        [],
    ),
    "a connection too long for its device": (
        "[defaults]\ninterface = v{connection}.{mark}\n"
        "[connection thirteen-long]\nmtu = 1400\n[connection twelve-long.]\nmtu = 1400\n",
        ["f.conf:2: interface = v{connection}.{mark} gives vthirteen-long.1, where the daemon names none: a"],
    ),
    "one pair of a connection's subnets": (
        "[defaults]\ninterface = {connection}\n[connection net/1x1]\nmtu = 1400\n",
        [],
    ),
    "a connection that is none of a device's letters": (
        "[connection a/b*c]\nmtu = 1400\n[connection a:b]\ninterface = {connection}\n",
        ["f.conf:4: interface = {connection} gives a:b, where the daemon names none: a device name is letters, digits"],
    ),
    "a VRF that is the device": ("[device d]\nvrf = d\n", ["f.conf:2: vrf = d is the tunnel's device itself"]),
    "a VRF that is the connection's device": (
        "[connection t]\ninterface = d\nvrf = d\n",
        ["f.conf:3: vrf = d is the tunnel's device itself"],
    ),
    "an MTU too small for an address": (
        "[device d]\nmtu = 1279\naddress = 10.0.0.1/30 fd00::1/64\n",
        ["f.conf:2: mtu = 1279 with address fd00::1/64: IPv6 needs 1280"],
    ),
    "an MTU of all too small for a connection's address": (
        "[defaults]\nmtu = 1000\n[connection t]\naddress = fd00::1/64\n",
        ["f.conf:2: mtu = 1000 with address fd00::1/64"],
    ),
    "MTUs that are enough": (
        "[device d]\nmtu = 1280\naddress = fd00::1/64\n[device e]\nmtu = auto\naddress = fd00::1/64\n"
        "[device f]\nmtu = 1000\naddress = 10.0.0.1/30\n",
        [],
    ),
    "nothing wrong": ("[device d]\nlocal = 192.0.2.1\nmark = 5\n[device e]\nremote = any\n", []),
    "a missing file": (None, []),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_what_cannot_be_together(case: str, tmp_path: Path) -> None:
    text, wanted = CONTRADICTIONS[case]
    if text is not None:
        (tmp_path / "f.conf").write_text(text)
    found = [mistake.replace(f"{tmp_path}/", "") for mistake, _ in check_files(str(tmp_path / "f.conf")).mistakes]
    assert [one[: len(said)] for one, said in zip(found, wanted)] == wanted
    assert len(found) == len(wanted)


def test_lines_below_a_bad_head_count_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "f.conf").write_text("[devise vti5]\nlocal = 192.0.2.1\n[defaults]\nmtu = 1400\n")
    checked = check_files(str(tmp_path / "f.conf"))
    assert [line.key for line in checked.lines] == ["mtu"]
    assert len(checked.mistakes) == 1


def test_the_settings_are_checked_without_root_or_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_module, "Netlink", None)
    (tmp_path / "f.conf").write_text("[defaults]\nmtu = 1400\n")
    given = ["check", "--settings", "--config", str(tmp_path / "f.conf")]
    assert dispatch(words(given, False), {}) == 0
    assert capsys.readouterr().out == "vti-updown check: settings are in order (1 lines)\n"
    (tmp_path / "f.conf").write_text("[defaults]\nmtu = 14\n[defaults]\nroutng = yes\n")
    assert dispatch(words(given, False), {}) == 5
    assert capsys.readouterr().out.count("    mend: ") == 2
    (tmp_path / "f.conf").unlink()
    assert dispatch(words(given, False), {}) == 5
    assert "no such file" in capsys.readouterr().out
