"""Each way of docs/check.md to break a tunnel, done for real: `check` has its code, the mend that it prints is run, and then it
is silent again, and a host behind the gateway reaches the other side."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.breaking import BREAKINGS, PROBE_NET, SECOND_EAST, Breaking
from tests.kernel.calls import Node, ip, private_namespace
from tests.kit.charon import Child, charon_call
from tests.kit.machine import EAST, THIRD, WEST, Tunnel, establish
from updown.daemons.answer import ABSENT, ANSWERED, SILENT, ChildSa, DaemonAnswer
from updown.ledger import spool

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("modules")]

KEY = ["aead", "rfc4106(gcm(aes))", "0x" + "11" * 20, "128"]
PLAIN = "[defaults]\nmtu = 1400\n"
T = Tunnel(address="10.99.0.1/30")
CHILD = Child("x", peer=THIRD, mark_in="", mark_out="", if_id_in="7", if_id_out="7", pairs=(("10.1.0.0/24", "10.7.0.0/24"),))
MADE = f"[device made]\nlocal = {WEST}\nremote = {THIRD}\nmark = 3\n"
SAID = ChildSa("libreswan", "t", WEST, EAST, 0x1001, 0x1000, wants_device=True, device="vti5", calls_us=True)
NOBODY = DaemonAnswer(ABSENT)
RESTORED: tuple[str, ...] = (
    "device-missing",
    "device-differs",
    "address-missing",
    "route-missing",
    "route-differs",
    "sysctl-differs",
)
RESTORED += ("disable-xfrm", "device-left-over", "route-left-over", "charon-route", "state-writable", "xfrm-stat")
"""Codes of what leaves a gateway as it was, once it is mended."""


class Gateway(Node):
    """The hook's namespace, with a host behind it, and a peer that has its end of the tunnel by hand. Daemons say what a test
    lets them say."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        super().__init__(folder)
        self.etc = folder / "etc"
        self.etc.mkdir()
        self.config = self.etc / "vti-updown.conf"
        self.programs, self.asked = folder / "bin", folder / "asked"
        self.programs.mkdir()
        self.east, self.host = f"east{os.getpid()}", f"host{os.getpid()}"
        self.pluto = self.charon = NOBODY
        self.is_as_built = False
        for name in ("networkd", "NetworkManager", "sysctl.d", "NetworkManager.d"):
            (folder / name).mkdir()
        patch.setattr("updown.daemons.libreswan.status.ask", lambda: self.pluto)
        patch.setattr("updown.daemons.strongswan.vici.ask", lambda: self.charon)
        patch.setattr("updown.commands.check.look.NETWORKD", str(folder / "networkd"))
        patch.setattr("updown.commands.check.look.NETWORK_MANAGER", str(folder / "NetworkManager"))
        patch.setattr("updown.commands.check.look.PROFILES", str(folder / "profiles"))
        patch.setattr("updown.commands.check.look.in_first_namespace", lambda: True)
        patch.setattr("updown.commands.check.machine.PERSISTENT", str(folder / "sysctl.d" / "90-vti-updown.conf"))
        patch.setattr("updown.commands.reconcile.decide.GRACE", 0)
        self.program("ipsec", f'echo ipsec "$@" >>{self.asked}')
        self.program("swanctl", f'echo swanctl "$@" >>{self.asked}')
        self.program("networkctl", f"rm {folder}/networkd/*")
        self.program("nmcli", f"rm -rf {folder}/NetworkManager/*")
        self.state.mkdir()

    def program(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def build(self) -> None:
        """Namespaces, addresses, and the tunnel."""
        for name in (self.east, self.host):
            subprocess.run(["ip", "netns", "add", name], check=True)
        ip(
            batch=f"link set lo up\nlink add eth0 type veth peer name eth0 netns {self.east}\n"
            f"link add lan0 type veth peer name lan0 netns {self.host}\nlink set eth0 up\nlink set lan0 up\n"
            f"addr add 198.51.100.250/24 dev eth0\naddr add {WEST}/32 dev eth0\naddr add 10.1.0.1/24 dev lan0\n"
        )
        ip(
            "-n",
            self.east,
            batch=f"link set lo up\nlink set eth0 up\naddr add {EAST}/24 dev eth0\naddr add {SECOND_EAST}/24 dev eth0\n"
            f"addr add 10.2.0.1/24 dev lo\nlink add vti5 type vti local {EAST} remote {WEST} key 5\nlink set vti5 up\n"
            "route add 10.1.0.0/24 dev vti5\n",
        )
        ip("-n", self.host, batch="link set lan0 up\naddr add 10.1.0.7/24 dev lan0\nroute add default via 10.1.0.1\n")
        self.shell("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.ip_forward=1")
        self.shell(f"mount -t tmpfs -o size=2m,mode=700 none {self.state}")
        inside = f"ip netns exec {self.east} sysctl -qw"
        self.shell(f"{inside} net.ipv4.conf.vti5.disable_policy=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.vti5.rp_filter=0")
        self.plain()
        self.associate()
        self.send(*establish(T))

    def close(self) -> None:
        subprocess.run(["umount", self.state], check=False)
        for name in (self.east, self.host):
            subprocess.run(["ip", "netns", "del", name], check=False)

    # -- what is done to it

    def plain(self, more: str = "") -> None:
        self.config.write_text(PLAIN + more)

    def associate(self, mark_out: str = "5", mark_in: str = "5", east: str = EAST) -> None:
        """What two daemons put into both kernels."""
        for name in ("", self.east):
            where = ["-n", name] if name else []
            for what in ("state", "policy"):
                ip(*where, "xfrm", what, "flush")
            if name:
                ip(*where, "link", "change", "vti5", "type", "vti", "local", east, "remote", WEST, "key", "5")
            sides = ((WEST, east, "10.1.0.0/24", "10.2.0.0/24"), (east, WEST, "10.2.0.0/24", "10.1.0.0/24"))
            for number, (source, target, inner, outer) in enumerate(sides):
                leaving = (source == WEST) == (not name)
                mark = (mark_out if leaving else mark_in) if not name else "5"
                way = ["src", source, "dst", target, "proto", "esp"]
                spi, mode = ["spi", f"{0x1000 + number:#x}"], ["reqid", "16389", "mode", "tunnel"]
                ip(*where, "xfrm", "state", "add", *way, *spi, *mode, "replay-window", "32", "mark", mark, *KEY)
                for direction in ("out",) if leaving else ("in", "fwd"):
                    selector = ["src", inner, "dst", outer, "dir", direction, "mark", mark]
                    ip(*where, "xfrm", "policy", "add", *selector, "tmpl", *way, *mode)

    def keep_rp_filter(self) -> None:
        self.plain("rp_filter = keep\n")
        self.run("reconcile")

    def forget_forwarding(self) -> None:
        """As on a machine that never forwarded: what we made does."""
        self.shell("sysctl -qw net.ipv4.ip_forward=0; sysctl -qw net.ipv4.conf.vti5.forwarding=1")

    def other_sas(self, mark: str, reqid: str, theirs: str) -> None:
        """What a daemon has put into the kernel for another tunnel, to a third peer."""
        for spi, source, target, inner, outer in (
            ("0x2000", WEST, THIRD, "10.1.0.0/24", theirs),
            ("0x2001", THIRD, WEST, theirs, "10.1.0.0/24"),
        ):
            way, mode = ["src", source, "dst", target, "proto", "esp"], ["reqid", reqid, "mode", "tunnel"]
            ip("xfrm", "state", "add", *way, "spi", spi, *mode, "mark", mark, *KEY)
            selector = ["src", inner, "dst", outer, "dir", "out" if source == WEST else "in", "mark", mark]
            ip("xfrm", "policy", "add", *selector, "tmpl", *way, *mode)

    def second_tunnel(self) -> None:
        self.other_sas("6", "16393", "10.2.0.0/24")
        two = Tunnel("u", peer=THIRD, device="vti6", mark_in="6/0xffffffff", mark_out="6/0xffffffff", reqid=16392)
        self.send(*establish(two, spi=0x2000))

    def shadow(self) -> None:
        self.other_sas("9", "16393", "10.3.0.0/24")
        wide = Tunnel("w", peer=THIRD, theirs="10.3.0.0/24", shared="yes", device="vti9", reqid=16392)
        self.send(*establish(wide._replace(mark_in="9/0xffffffff", mark_out="9/0xffffffff"), spi=0x2000))
        ip("link", "add", "narrow", "type", "vti", "local", WEST, "remote", THIRD, "key", "3")
        ip("link", "set", "narrow", "up")

    def pluto_says(self, *more: ChildSa, **changes: Any) -> None:
        self.pluto = DaemonAnswer(ANSWERED, since=1, children=(SAID._replace(**changes), *more))

    def pluto_runs(self) -> None:
        self.pluto_says()

    def pluto_hangs(self) -> None:
        self.pluto = DaemonAnswer(SILENT, "whack --status: no answer in 3 s")

    def nobody_runs(self) -> None:
        self.pluto = self.charon = NOBODY

    def pluto_marks(self) -> None:
        """A connection with marks, our hook, and neither vti-interface= nor a setting."""
        self.other_sas("7", "16401", "10.7.0.0/24")
        self.pluto_says(ChildSa("libreswan", "x", WEST, THIRD, 0x2001, 0x2000, calls_us=True))

    def pluto_without_hook(self) -> None:
        self.other_sas("7", "16401", "10.7.0.0/24")
        self.pluto_says(ChildSa("libreswan", "x", WEST, THIRD, 0x2001, 0x2000, device="vti7", calls_us=False))

    def charon_says(self, whole: bool = True) -> None:
        child = ChildSa("strongswan", "x", WEST, THIRD, unique_id=1, if_id_in=7, if_id_out=7, wants_device=True)
        self.charon = DaemonAnswer(ANSWERED, since=1, children=(child,), whole=whole)

    def charon_child(self) -> None:
        self.if_id_policy(7, "10.7.0.0/24")
        self.charon_says()

    def no_names(self) -> None:
        assert "interface" not in self.config.read_text()

    def named_ipsec7(self) -> None:
        self.plain("[connection x]\ninterface = ipsec7\n")

    def charon_busy(self) -> None:
        self.charon = DaemonAnswer(ANSWERED, since=1, whole=False)

    def other_mark_in(self) -> None:
        self.associate(mark_in="7")

    def other_mark_out(self) -> None:
        self.associate(mark_out="7")

    def peer_moves(self) -> None:
        self.associate(east=SECOND_EAST)
        self.pluto_says(peer=SECOND_EAST)

    def if_id_policy(self, if_id: int = 77, network: str = "10.8.0.0/24") -> None:
        words = ["policy", "add", "src", "10.1.0.0/24", "dst", network, "dir", "out", "if_id", str(if_id)]
        ip("xfrm", *words, "tmpl", "src", WEST, "dst", THIRD, "proto", "esp", "mode", "tunnel")

    def spooled_event(self) -> None:
        spool.write_event(str(self.net), spool.new_name(), establish(T)[-1], str(self.config))

    def mtu_1300(self) -> None:
        self.config.write_text("[defaults]\nmtu = 1300\n")

    def mark_7(self) -> None:
        self.plain("[device vti5]\nmark_in = 7\n")

    def made(self) -> None:
        self.plain(MADE)
        assert self.run("make", "made").status == 0

    def made_smaller(self) -> None:
        self.plain(MADE + "mtu = 1300\n")

    def names_fallback(self) -> None:
        ip("link", "set", "ip_vti0", "name", "vti0")
        self.plain("[connection c]\ninterface = vti0\n")

    def unname_fallback(self) -> None:
        ip("link", "set", "vti0", "name", "ip_vti0")
        self.plain()

    def networkd_manages(self) -> None:
        text = "ADMIN_STATE=configured\nOPER_STATE=routable\nNETWORK_FILE=/etc/systemd/network/all.network\n"
        (self.etc.parent / "networkd" / self.index).write_text(text)

    def network_manager_manages(self) -> None:
        text = "[device]\nmanaged=true\nconnection-uuid=0d4b7a52-4d4c-4b0e-9e0e-0d9e8f1a2b3c\n"
        (self.etc.parent / "NetworkManager" / self.index).write_text(text)

    def no_sa_behind(self) -> None:
        words = ["xfrm", "policy", "add", "src", "0.0.0.0/0", "dst", PROBE_NET, "dir", "out", "priority", "1"]
        ip(*words, "tmpl", "src", WEST, "dst", THIRD, "proto", "esp", "mode", "tunnel")
        ip("route", "add", PROBE_NET, "dev", "eth0")
        self.shell("ping -c 1 -W 1 10.77.0.1 >/dev/null 2>&1 || :")
        ip("xfrm", "policy", "delete", "src", "0.0.0.0/0", "dst", PROBE_NET, "dir", "out")

    def unknown_spi(self) -> None:
        way = ["src", EAST, "dst", WEST, "proto", "esp"]
        ip("-n", self.east, "xfrm", "state", "delete", *way, "spi", "0x1001", "mark", "5")
        more = ["spi", "0x3001", "reqid", "16389", "mode", "tunnel", "mark", "5"]
        ip("-n", self.east, "xfrm", "state", "add", *way, *more, *KEY)
        assert not self.reaches()
        self.associate()

    def renew(self, name: str) -> None:
        """What a daemon does that is told to take a tunnel down and up."""
        if name == "t":
            self.associate()
            self.send(*establish(T))
        elif self.charon.state == ANSWERED:
            self.send(charon_call(CHILD, "up"))
        else:
            tunnel = Tunnel("x", peer=THIRD, theirs="10.7.0.0/24", mark_in="7/0xffffffff", mark_out="7/0xffffffff", reqid=16400)
            device = "" if self.pluto.children[1].calls_us else "vti7"
            self.send(*establish(tunnel._replace(device=device), spi=0x2000))

    # -- what is looked at

    @property
    def net(self) -> Path:
        (found,) = self.state.glob("net-*")
        return found

    @property
    def index(self) -> str:
        return str(json.loads(ip("-j", "link", "show", "vti5"))[0]["ifindex"])

    def shell(self, text: str) -> None:
        """As root at a terminal."""
        path = f"{self.programs}:{os.environ['PATH']}"
        done = subprocess.run(["sh", "-ec", text], env={**os.environ, "PATH": path}, capture_output=True, text=True)
        assert done.returncode == 0, f"{text}: {done.stderr}"

    def does(self, step: str) -> None:
        """A command, or a method with its argument."""
        if step.startswith("@"):
            name, *given = step[1:].split()
            getattr(self, name)(*given)
            return
        self.shell(step.format(state=self.state, net=self.net, config=self.config, etc=self.etc))

    def check(self) -> list[dict[str, Any]]:
        said = self.run("check", "--json")
        found: list[dict[str, Any]] = json.loads("".join(said.lines))["findings"]
        assert said.status == (5 if found else 0), said
        return found

    def mend(self, text: str) -> None:
        """Run a mend as it is printed: its own commands here, so that the daemons' answers are those of the test."""
        text = text.partition("  # ")[0].replace(">>/etc/", f">>{self.etc.parent}/")
        for folder in re.findall(r">>(\S+)/[^/ ;]+", text):
            Path(folder).mkdir(parents=True, exist_ok=True)
        for command in re.split(r"; ", text):
            if command.startswith("vti-updown "):
                assert self.run(*command.split()[1:]).status in (0, 1), command  # 1: it warns of something
            else:
                self.shell(command)
        if self.asked.exists():
            asked = self.asked.read_text().split()
            self.asked.unlink()
            self.renew(asked[-1])

    def reaches(self) -> bool:
        """Whether a host behind the gateway reaches one behind the peer."""
        words = ["ip", "netns", "exec", self.host, "ping", "-n", "-c", "1", "-W", "1", "10.2.0.1"]
        return subprocess.run(words, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def kept() -> Iterator[list[tuple[Gateway, ExitStack]]]:
    """A gateway that the test before left as it was: to build one takes as long as to break it."""
    found: list[tuple[Gateway, ExitStack]] = []
    yield found
    for _, stack in found:
        stack.close()


@pytest.fixture
def gateway(kept: list[tuple[Gateway, ExitStack]], tmp_path: Path) -> Iterator[Gateway]:
    made, stack = kept.pop() if kept else built(tmp_path)
    made.is_as_built = False
    yield made
    if made.is_as_built:
        kept.append((made, stack))
    else:
        stack.close()


def built(folder: Path) -> tuple[Gateway, ExitStack]:
    """A gateway in order, and what ends it."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        stack.enter_context(private_namespace())
        made = Gateway(folder, patch)
        stack.callback(made.close)
        made.build()
        return made, stack.pop_all()


@pytest.mark.parametrize("breaking", BREAKINGS, ids=lambda breaking: breaking.how.replace(" ", "-"))
def test_what_is_broken_has_its_code_and_is_mended_as_it_says(gateway: Gateway, breaking: Breaking) -> None:
    for step in breaking.commands:
        gateway.does(step)
    found = gateway.check()
    assert {finding["code"] for finding in found} == {breaking.code}, found
    assert len({finding["subject"] for finding in found}) == 1, found
    assert found[0]["subject"] not in ("", "-")
    assert breaking.says in found[0]["mend"], found
    if breaking.by_hand:
        for step in breaking.by_hand:
            gateway.does(step)
    else:
        gateway.mend(found[0]["mend"])
    assert gateway.check() == []
    assert gateway.reaches() is not breaking.gone
    gateway.is_as_built = breaking.code in RESTORED


def test_a_tunnel_in_order_reaches_the_other_side_and_nothing_is_found(gateway: Gateway) -> None:
    assert gateway.reaches()
    said = gateway.run("check")
    assert (said.status, said.lines) == (0, ("vti-updown check: nothing found (1 devices, 1 claims)",)), said


def test_the_hook_uses_no_settings_that_others_may_write(gateway: Gateway) -> None:
    """What makes is refused, and says how to mend it; what goes does."""
    gateway.shell(f"chmod 666 {gateway.config}")
    up, down = establish(T)[-1], {**establish(T)[-1], "PLUTO_VERB": "down-client"}
    said = gateway.run(**up)
    assert said.status == 2, said
    assert "everybody may write it" in " ".join(said.lines)
    assert gateway.run(**down).status == 0


def test_what_is_printed_for_people_has_the_code_at_its_end(gateway: Gateway) -> None:
    gateway.shell("sysctl -qw net.ipv4.conf.lan0.forwarding=0")
    lines = gateway.run("check").lines
    assert lines[0].startswith("lan0: net/ipv4/conf/lan0/forwarding is 0: packets from 10.1.0.0/24, behind it,")
    assert " ".join(lines).count("[forwarding-off]") == 1
