"""A node with a real pluto (libreswan) whose hook is ours."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.daemon.endpoint import FORGET, HOOK, OURS, WORTHLESS, Endpoint, replaced
from tests.daemon.nodes import PATH, wait_for
from tests.daemon.words import words

__all__ = ["HOOK", "OURS", "Connection", "Gateway"]

EXECUTABLES = Path("/usr/libexec/ipsec")
SECRET = f': PSK "{WORTHLESS}"\n'
SETUP = "config setup\n"
ALWAYS = {
    "authby": "secret",
    "ike": "aes_gcm128-sha2_256;dh19",
    "esp": "aes_gcm128-null",
    "auto": "ignore",
    "leftupdown": HOOK,
    "rightupdown": HOOK,
}
Connection = Mapping[str, str]


class Gateway(Endpoint):
    """Its /etc/ipsec.conf, /etc/ipsec.secrets, certificate database, /run and log are its own."""

    daemon = "pluto"
    said = r"-(?:host|client)(?:-v6)? output: (.*)"
    _names: Sequence[str] = ()
    _setup = SETUP

    def start(self) -> None:
        if self._process is None:
            self._private_files()
        self._launch(str(EXECUTABLES / "pluto"), "--config", "/etc/ipsec.conf", "--nofork", "--stderrlog")
        self._answers(str(EXECUTABLES / "whack"), "--status")
        self._whack("--listen")

    def kill(self) -> None:
        super().kill()
        self.run("rm", "-f", "/run/pluto/pluto.pid", "/run/pluto/pluto.ctl")

    def shut_down(self) -> None:
        assert self._process is not None
        self._whack("--shutdown", check=False)
        self._process.wait(timeout=60)

    def forget_everything(self) -> None:
        """Pluto runs on, or again."""
        if self._process is None:
            return
        runs = self._process.poll() is None
        for name in self._names if runs else ():
            self._whack("--delete", "--name", name, check=False)
        self._names = []
        self.run("sh", "-c", FORGET, check=False)
        if self._setup != SETUP:
            self.set_up()
        elif not runs:
            self.start()

    def set_up(self, **options: str) -> None:
        """Start pluto anew with these options of `config setup`, until everything is forgotten."""
        assert self._process is not None
        if self._process.poll() is None:
            self.kill()
        self._setup = SETUP + "".join(f"\t{key}={quoted(value)}\n" for key, value in options.items())
        self._conf.write_text(self._setup)
        self.start()

    # connections

    def add(self, **connections: Connection) -> None:
        """Write these connections (and no others) into ipsec.conf and load them."""
        text = self._setup
        for name, options in connections.items():
            lines = {**ALWAYS, **dict([words().ikev2]), **options}.items()
            text += f"\nconn {name}\n" + "".join(f"\t{key}={quoted(value)}\n" for key, value in lines)
        self._conf.write_text(text)  # in place: it is mounted over /etc/ipsec.conf
        self._names = [*self._names, *connections]
        for name in connections:
            self.run(str(EXECUTABLES / "addconn"), name)

    # `ipsec auto --up`, or `ipsec up`, is a script around addconn and whack: emulated, it takes seven times as long

    def order(self, name: str, connection: str, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Give an order (add, up, route, delete...) in the words of this libreswan."""
        return self.ipsec(*words().order(name, connection, *options), check=check)

    def ipsec(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("env", f"PATH={PATH}", "ipsec", *arguments, check=check)

    def up(self, name: str, check: bool = True) -> None:
        self._whack("--name", name, "--initiate", check=check)

    def down(self, name: str) -> None:
        self._whack("--name", name, "--terminate")

    def delete(self, *names: str) -> None:
        for name in names:
            self._whack("--name", name, "--delete")

    def rekey_child(self, name: str) -> None:
        """Replace the child SA, and wait until the old one is gone. The kernel may have SAs of tunnels that ended before."""
        self._rekey("CHILD", words().rekey_child, name)

    def rekey_ike(self, name: str) -> None:
        """Replace the IKE SA, and wait until the old one is gone."""
        self._rekey("IKE", "--rekey-ike", name)

    def _rekey(self, kind: str, option: str, name: str) -> None:
        old = self._states(kind)
        self._whack(option, "--name", name)
        wait_for(lambda: replaced(old, self._states(kind)), f"{self.name}'s new SA by {option}")

    def _whack(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(str(EXECUTABLES / "whack"), *arguments, check=check)

    def _states(self, kind: str) -> set[str]:
        """The numbers of the established SAs of a kind, IKE or CHILD."""
        said = self._whack("--showstates", check=False).stdout
        return set(re.findall(rf"(#\d+): .*ESTABLISHED_{kind}_SA", said))

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


def quoted(value: str) -> str:
    """As ipsec.conf has it. Only where it has to be: 4.10 takes ipsec-interface="7" for 255."""
    return f'"{value}"' if " " in value else value
