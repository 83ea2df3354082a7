"""A node with a real charon (strongSwan) whose hook is ours, told what to do by swanctl or by ipsec.conf's starter."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Mapping
from typing import Union

from tests.daemon.endpoint import FORGET, Endpoint, replaced
from tests.daemon.nodes import wait_for
from tests.vm import strongswan

Tree = Mapping[str, Union[str, "Tree"]]
PLUGINS = "random nonce openssl kdf kernel-netlink socket-default vici stroke updown"  # test-vectors alone take minutes
SETTINGS = "/etc/vti-updown/vti-updown.conf"
# seconds; an emulated peer takes its time
PATIENCE = {"retransmit_timeout": "10", "retransmit_tries": "4", "half_open_timeout": "300"}
LAYER = """
overlay=redirect_dir=off,metacopy=off,index=off
mkdir -p /run/etc/upper /run/etc/work
mount -t overlay -o "$overlay,lowerdir=$1/usr:/usr" usr /usr
mount -t overlay -o "$overlay,lowerdir=$1/etc:/etc,upperdir=/run/etc/upper,workdir=/run/etc/work" etc /etc
mkdir -p /etc/vti-updown
"""


class Charon(Endpoint):
    """Its /etc, /usr and /run are its own; strongSwan is laid over the first two, since libreswan is installed."""

    daemon = "charon"
    said = r"\[CHD\] updown: (.*)"

    def start(self, starter: bool = False) -> None:
        """Start charon by itself, to be told by swanctl, or by `ipsec starter`, which reads ipsec.conf."""
        if starter:
            self._launch("/usr/lib/ipsec/starter", "--daemon", "charon", "--nofork")
            self._answers("/usr/lib/ipsec/stroke", "status")
        else:
            self._launch("/usr/lib/ipsec/charon")
            self._answers("swanctl", "--version", "--daemon")

    def lay_over(self) -> None:
        """Give the node strongSwan's files, for good."""
        self.run("sh", "-e", "-c", LAYER, "sh", str(strongswan.kept()))
        self.configure()

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def configure(self, **options: str) -> None:
        """Write strongswan.conf, with these options of charon, for its next start."""
        log = {"path": str(self.log), "default": "1", "flush_line": "yes"}
        tree: Tree = {"load": PLUGINS, "install_routes": "no", **PATIENCE, **options, "filelog": {"log": log}}
        self.inner("/etc/strongswan.conf").write_text(written({"charon": tree, "swanctl": {"load": "random openssl"}}))

    def settings(self, text: str) -> None:
        """Our hook's settings file in this node."""
        self.inner(SETTINGS).write_text(text)

    def kill(self) -> None:
        """End charon with SIGKILL, and before it the starter, which would start it again."""
        super().kill()
        pid = self.inner("/run/charon.pid")
        if pid.exists():  # of a starter's
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid.read_text()), signal.SIGKILL)
        self.run("sh", "-c", "rm -f /run/charon.* /run/starter.*")

    def shut_down(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(timeout=900)

    def forget_everything(self) -> None:
        """Charon is killed, which takes less time than any order would: load() starts it again."""
        if self._process is None:
            return
        if self.runs:
            self.kill()
        self.configure()
        self.run("sh", "-c", FORGET, check=False)

    # swanctl

    def load(self, settings: str, configuration: Tree | str) -> None:
        """The hook's settings, and swanctl.conf (or its text), loaded into a charon that is started where none runs."""
        if not self.runs:
            self.start()
        self.settings(settings)
        text = configuration if isinstance(configuration, str) else written(configuration)
        self.inner("/etc/swanctl/swanctl.conf").write_text(text)
        self.swanctl("--load-all", "--noprompt")

    def swanctl(self, *words: str, check: bool = True) -> str:
        return self.run("swanctl", *words, check=check).stdout

    def initiate(self, child: str) -> None:
        """Until the hook has ended: swanctl may return before (strongSwan 6), but its list waits for an IKE SA that is busy."""
        self.swanctl("--initiate", "--child", child)
        self.sas(child)

    def terminate(self, child: str) -> None:
        self.swanctl("--terminate", "--child", child)

    def rekey_child(self, child: str) -> None:
        """Replace the child SA, and wait until charon lists a new one alone."""
        old = self.sas(child)
        self.swanctl("--rekey", "--child", child)
        wait_for(lambda: replaced(old, self.sas(child)), f"{self.name}'s new child SA in place of the old")

    def rekey_ike(self, name: str, reauth: bool = False) -> None:
        """Replace the IKE SA, by rekeying or by reauthentication, and wait until charon lists a new one alone."""
        old = self.sas(name)
        self.swanctl("--rekey", "--ike", name, *(["--reauth"] if reauth else []))
        wait_for(lambda: replaced(old, self.sas(name)), f"{self.name}'s new IKE SA in place of the old")

    def sas(self, name: str) -> set[str]:
        """The numbers of the SAs of this name, IKE or child, that are up or installed."""
        listed = self.swanctl("--list-sas", check=False)
        return set(re.findall(rf"^ *{re.escape(name)}: (#\d+), .*(?:ESTABLISHED|INSTALLED)", listed, re.MULTILINE))

    # ipsec.conf

    def write_ipsec_conf(self, settings: str, secrets: str, conns: Mapping[str, Mapping[str, str]] | str) -> None:
        """For the starter that is started next: connections by name, or the text of the file."""
        self.settings(settings)
        text = conns if isinstance(conns, str) else "config setup\n"
        for name, options in () if isinstance(conns, str) else conns.items():
            text += f"\nconn {name}\n" + "".join(f"\t{key}={value}\n" for key, value in options.items())
        self.inner("/etc/ipsec.conf").write_text(text)
        self.inner("/etc/ipsec.secrets").write_text(secrets)

    def stroke(self, *words: str) -> str:
        return self.run("/usr/lib/ipsec/stroke", *words).stdout


def written(tree: Tree, indent: str = "") -> str:
    """As strongSwan's configuration files have it."""
    text = ""
    for key, value in tree.items():
        if isinstance(value, str):
            text += f"{indent}{key} = {value}\n"
        else:
            text += f"{indent}{key} {{\n{written(value, indent + '    ')}{indent}}}\n"
    return text
