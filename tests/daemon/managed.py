"""A node whose pluto is systemd's: the distribution's ipsec.service and contrib's drop-in, with a systemd of the node's own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests import TOP
from tests.daemon.endpoint import OURS
from tests.daemon.gateway import Gateway
from tests.daemon.nodes import PATH, wait_for
from tests.vm import speed

CONTRIB = TOP / "contrib/systemd"
INIT = """
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env container=other /lib/systemd/systemd --system --unit=nothing.target --log-target=null
"""
NOTHING = "[Unit]\nDefaultDependencies=no\n"
"""The node has no login, no devices and no journal: what units depend on by default is not there."""
TELLING = f"""{NOTHING}[Service]
StandardOutput=append:{{log}}
StandardError=append:{{log}}
"""
SWIFT = """
# the distribution's checks take an emulated machine ten seconds
ExecStartPre=
WatchdogSec={watchdog:.0f}
TimeoutAbortSec=2
"""
WATCHDOG = 10.0
"""Seconds; pluto stands still while the hook runs, so a slower machine has to have more."""


class Managed(Gateway):
    """`start` starts systemd, the first time, and then the unit. Units are called by name, without .service."""

    said = r"^(.*)$"

    def start(self) -> None:
        if self._process is None:
            self._private_files()
            self._install()
            self._launch("unshare", "--pid", "--fork", "--kill-child", "--cgroup", "--mount-proc", "sh", "-e", "-c", INIT)
            wait_for(lambda: self._children(), "a process 1")
            wait_for(lambda: self.systemctl("is-system-running", check=False) == "running", "systemd")
        self.systemctl("start", "ipsec")

    def systemctl(self, *words: str, check: bool = True) -> str:
        """What it prints."""
        inside = ["nsenter", "-t", self._children()[0], "-m", "-p", "-n", "-C", "-r", "-w", "env", f"PATH={PATH}"]
        done = subprocess.run([*inside, "systemctl", *words], capture_output=True, text=True)
        said = f"{self.name}: `systemctl {' '.join(words)}` ended with {done.returncode}\n{done.stdout}{done.stderr}"
        assert not check or done.returncode == 0, said + self.logged()[-2000:]
        return done.stdout.strip()

    def _children(self) -> list[str]:
        """Of what was launched: systemd, in a process namespace of its own."""
        assert self._process is not None
        return Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()

    def signal(self, name: str) -> None:
        """Send pluto a signal behind systemd's back."""
        self.systemctl("kill", "--kill-whom=main", f"--signal={name}", "ipsec")

    @property
    def restarts(self) -> int:
        """How often systemd started pluto again."""
        return int(self.systemctl("show", "--property=NRestarts", "--value", "ipsec"))

    def is_active(self) -> bool:
        return self.systemctl("is-active", "ipsec", check=False) == "active"

    def forget_everything(self) -> None:
        self.systemctl("stop", "ipsec")
        super().forget_everything()

    def _install(self) -> None:
        """As contrib/systemd/README.md has it, and what a node needs besides."""
        hook, units = self.folder / "hook", self.folder / "units"
        hook.write_text(f'#!/bin/sh\nexec {OURS} "$@"\n')
        hook.chmod(0o755)
        for unit in CONTRIB.glob("*.*"):
            if unit.suffix in (".service", ".timer"):
                (units / f"{unit.name}.d").mkdir(parents=True)
                (units / unit.name).write_bytes(unit.read_bytes())
                told = TELLING if unit.suffix == ".service" else NOTHING
                (units / f"{unit.name}.d/bare.conf").write_text(told.format(log=self.log))
        (units / "nothing.target").write_text(NOTHING)
        drop_ins = units / "ipsec.service.d"
        drop_ins.mkdir()
        (drop_ins / "bare.conf").write_text(TELLING.format(log=self.log) + SWIFT.format(watchdog=WATCHDOG * speed.slowness()))
        (drop_ins / "vti-updown.conf").write_bytes((CONTRIB / "vti-updown.conf").read_bytes())
        (self.folder / "settings").mkdir()
        self.run(
            "sh",
            "-e",
            "-c",
            f"""mkdir -p /usr/libexec /etc/systemd/system /etc/vti-updown
touch /usr/libexec/vti-updown
mount --bind {hook} /usr/libexec/vti-updown
mount --bind {units} /etc/systemd/system
mount --bind {self.folder / "settings"} /etc/vti-updown
""",
        )
