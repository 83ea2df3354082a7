"""A node with a real pluto (libreswan) whose hook is ours."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Mapping, Sequence

from tests.daemon.nodes import PATH, Node, end, wait_for

TOP = Path(__file__).resolve().parents[2]
EXECUTABLES = Path("/usr/libexec/ipsec")
OURS = f"{sys.executable} -I {TOP}/hooks/vti-updown"
HOOK = os.environ.get("VTI_UPDOWN_HOOK", OURS)  # another hook, to see what a test is worth
SECRET = ': PSK "for tests only, of no value 0123456789"\n'
SETUP = "config setup\n\tikev1-policy=accept\n"
ALWAYS = {
    "authby": "secret",
    "ikev2": "yes",
    "ike": "aes_gcm128-sha2_256;dh19",
    "esp": "aes_gcm128-null",
    "auto": "ignore",
    "leftupdown": HOOK,
    "rightupdown": HOOK,
}
FORGET = """
for path in /sys/class/net/*; do
    case ${path##*/} in lo|eth0|lan0|ip_vti0|ip6_vti0|*tnl0) ;; *) ip link del ${path##*/} ;; esac
done
ip -4 route flush table all proto 160
ip -6 route flush table all proto 160
ip xfrm state flush
ip xfrm policy flush
rm -rf /run/vti-updown
"""
Connection = Mapping[str, str]
CHILD = "QUICK_[IR]2 ESTABLISHED_CHILD_SA"  # the states of IKEv1, and of IKEv2
IKE = "MAIN_I4|MAIN_R3 ESTABLISHED_IKE_SA"


class Gateway(Node):
    """Its /etc/ipsec.conf, /etc/ipsec.secrets, certificate database, /run and log are its own."""

    _pluto: subprocess.Popen[bytes] | None = None
    _names: Sequence[str] = ()

    @property
    def log(self) -> Path:
        return self.folder / "pluto.log"

    def start(self) -> None:
        """Start pluto, for the first time or again."""
        if self._pluto is None:
            self._private_files()
        environment = ["env", "-i", f"PATH={PATH}", "LANG=C.UTF-8"]
        pluto = [str(EXECUTABLES / "pluto"), "--config", "/etc/ipsec.conf", "--nofork", "--stderrlog"]
        with open(self.log, "ab") as log:
            command = ["setpriv", "--pdeathsig", "KILL", *self.inside, *environment, *pluto]
            self._pluto = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(lambda: self._whack("--status", check=False).returncode == 0, f"pluto in {self.name}")
        self._whack("--listen")

    def kill(self) -> None:
        """End pluto with SIGKILL: it can tell nobody."""
        assert self._pluto is not None
        self._pluto.kill()
        self._pluto.wait()
        self.run("rm", "-f", "/run/pluto/pluto.pid", "/run/pluto/pluto.ctl")

    def shut_down(self) -> None:
        """Let pluto end in good order, and wait for its end."""
        assert self._pluto is not None
        self._whack("--shutdown", check=False)
        self._pluto.wait(timeout=60)

    def forget_everything(self) -> None:
        """No connection, no tunnel device, no route and no state of the hook; pluto runs."""
        if self._pluto is None:
            return
        if self._pluto.poll() is None:
            for name in self._names:
                self._whack("--delete", "--name", name, check=False)
        self._names = []
        self.run("sh", "-c", FORGET, check=False)
        if self._pluto.poll() is not None:
            self.start()

    def close(self) -> None:
        if self._pluto:
            end(self._pluto)
        super().close()

    # connections

    def add(self, **connections: Connection) -> None:
        """Write these connections (and no others) into ipsec.conf and load them."""
        text = SETUP
        for name, options in connections.items():
            lines = {**ALWAYS, **options}.items()
            text += f"\nconn {name}\n" + "".join(f'\t{key}="{value}"\n' for key, value in lines)
        self._conf.write_text(text)  # in place: it is mounted over /etc/ipsec.conf
        self._names = [*self._names, *connections]
        for name in connections:
            self.ipsec("auto", "--add", name)

    def ipsec(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("env", f"PATH={PATH}", "ipsec", *words, check=check)

    def up(self, name: str, check: bool = True) -> None:
        self.ipsec("auto", "--up", name, check=check)

    def down(self, name: str) -> None:
        self.ipsec("auto", "--down", name)

    def delete(self, *names: str) -> None:
        for name in names:
            self.ipsec("auto", "--delete", name)

    def rekey_child(self, name: str) -> None:
        """Replace the child SA, and wait until the old one is gone. The kernel may have SAs of tunnels that ended before."""
        self._rekey(CHILD, "--rekey-ipsec", name)

    def rekey_ike(self, name: str) -> None:
        """Replace the IKE SA, and wait until the old one is gone."""
        self._rekey(IKE, "--rekey-ike", name)

    def _rekey(self, kind: str, option: str, name: str) -> None:
        """By IKEv1 the old SA stays until it expires."""
        old = self._states(kind)
        self._whack(option, "--name", name)
        wait_for(lambda: replaced(old, self._states(kind)), f"{self.name}'s new SA by {option}")

    # what is known of the hook

    def logged(self, since: int = 0) -> str:
        return self.log.read_text(errors="replace")[since:] if self.log.exists() else ""

    def hook_lines(self, since: int = 0) -> list[str]:
        """What the hook printed, as pluto logged it."""
        return re.findall(r"-(?:host|client)(?:-v6)? output: (.*)", self.logged(since))

    def hook(self, *words: str) -> str:
        """Run our hook by hand, as the administrator would."""
        return self.run(*OURS.split(), *words).stdout

    def status(self) -> Any:
        return json.loads(self.hook("status", "--json"))

    def claims(self) -> list[Any]:
        if HOOK != OURS:
            return []
        found: list[Any] = self.status()["claims"]
        return found

    def _whack(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(str(EXECUTABLES / "whack"), *words, check=check)

    def _states(self, kind: str) -> set[str]:
        """The numbers of the established SAs of a kind; of IKEv1's the newest alone."""
        said = self._whack("--showstates", check=False).stdout
        old, new = (set(re.findall(rf"(#\d+): .*(?:{words})", said)) for words in kind.split(" "))
        return new | set(sorted(old, key=lambda number: int(number[1:]))[-1:])

    @property
    def _conf(self) -> Path:
        return self.folder / "ipsec.conf"

    def _private_files(self) -> None:
        database = self.folder.parent / "nss"
        if not database.exists():
            database.mkdir()
            command = ["certutil", "-N", "-d", f"sql:{database}", "--empty-password"]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        shutil.copytree(database, self.folder / "nss")
        (self.folder / "ipsec.d").mkdir()
        self._conf.write_text(SETUP)
        (self.folder / "ipsec.secrets").write_text(SECRET)
        places = {
            "nss": "/var/lib/ipsec/nss",
            "ipsec.d": "/etc/ipsec.d",
            "ipsec.conf": "/etc/ipsec.conf",
            "ipsec.secrets": "/etc/ipsec.secrets",
        }
        mounts = "".join(f"mount --bind {self.folder / name} {place}\n" for name, place in places.items())
        self.run("sh", "-e", "-c", f"mkdir -p /run/pluto /var/lib/ipsec/nss\n{mounts}")


def replaced(old: set[str], new: set[str]) -> bool:
    """Whether there are new ones, and none of the old."""
    return bool(new) and not new & old
