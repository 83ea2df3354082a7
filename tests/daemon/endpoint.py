"""A node with an IKE daemon whose hook is ours, whichever daemon it is."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests import TOP
from tests.daemon.nodes import PATH, Node, end, wait_for
from updown.ledger import clock
from updown.ledger.file import STATE_DIR, copy_ledger
from updown.output.report import claim_json

OURS = f"{sys.executable} -I {TOP}/hooks/vti-updown"
HOOK = os.environ.get("VTI_UPDOWN_HOOK", OURS)  # another hook, to see what a test is worth
WORTHLESS = "for tests only, of no value 0123456789"
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


class Endpoint(Node):
    """What it has of its own besides the network: /run, the daemon's files and the daemon's log."""

    daemon = ""
    said = r"^(.*)$"
    """How the log shows a line that the hook printed."""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / f"{self.daemon}.log"

    def start(self) -> None:
        """Start the daemon, for the first time or again, and wait until it answers."""
        raise NotImplementedError

    def kill(self) -> None:
        """End the daemon with SIGKILL: it can tell nobody."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def let_claims_age(self) -> None:
        """Until a daemon started now is known to be younger than each claim: times are kept in whole seconds."""
        newest = max(claim["since"] for claim in self.claims())
        wait_for(lambda: time.time() >= newest + 2, "the claims' seconds to pass")

    def shut_down(self) -> None:
        """Let the daemon end in good order, and wait for its end."""
        raise NotImplementedError

    def forget_everything(self) -> None:
        """No connection, no tunnel device, no route and no state of the hook."""
        raise NotImplementedError

    def close(self) -> None:
        if self._process:
            end(self._process)
        super().close()

    # what is known of the hook

    def logged(self, since: int = 0) -> str:
        return self.log.read_text(errors="replace")[since:] if self.log.exists() else ""

    def hook_lines(self, since: int = 0) -> list[str]:
        """What the hook printed, as the daemon logged it."""
        return re.findall(self.said, self.logged(since), re.MULTILINE)

    def hook(self, *words: str) -> str:
        """Run our hook by hand, as the administrator would."""
        return self.run(*OURS.split(), *words).stdout

    def reconcile(self, *words: str, status: int = 0) -> list[str]:
        """The lines that it prints."""
        done = self.run(*OURS.split(), "reconcile", *words, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout.splitlines()

    def status(self) -> Any:
        return json.loads(self.hook("status", "--json"))

    def claims(self) -> list[Any]:
        """As status() shows them, from a copy of the ledger: the command takes an emulated machine seconds."""
        found: list[Any] = []
        for place in self.inner(STATE_DIR).glob("net-*"):
            copy = self.folder / "ledger" / place.name
            shutil.rmtree(copy, ignore_errors=True)
            with open(place / "lock", "ab") as lock:  # no event is half written meanwhile
                fcntl.flock(lock, fcntl.LOCK_EX)
                shutil.copytree(place, copy)
            with copy_ledger(str(copy.parent), place.name[len("net-") :]) as ledger:
                assert not ledger.note, ledger.note
                found += [claim_json(claim, clock.booted()) for claim in ledger.claims()]
        return found

    def _launch(self, *command: str) -> None:
        """Start the daemon with nothing in its environment but what it needs; it ends with us."""
        whole = ["setpriv", "--pdeathsig", "KILL", *self.inside, "env", "-i", f"PATH={PATH}", "LANG=C.UTF-8", *command]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(whole, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _answers(self, *command: str) -> None:
        """Wait until the daemon lets this command succeed, and no longer than it lives."""

        def done() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"{self.name}: {self.daemon} ended at once\n{self.logged()[-2000:]}"
            return self.run(*command, check=False).returncode == 0

        wait_for(done, f"{self.daemon} in {self.name}")


def replaced(old: set[str], new: set[str]) -> bool:
    """Whether there are new ones, and none of the old."""
    return bool(new) and not new & old
