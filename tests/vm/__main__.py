"""python3 -m tests.vm [--memory MIB] [--processors N] [--silence SECONDS] [--share FOLDER] [--emulate]
                    [--release NAME] [--kernel NAME] -- COMMAND...

Run COMMAND as root in a guest with Debian's kernel, over this machine's own root file system or that of another release;
nothing it writes stays, shared folders excepted. Exit status: the command's; 124 when it said nothing for too long (of a
slower machine's seconds, longer ones); 125 when the guest did not work. One test alone:

    python3 -m tests.vm -- .venv/bin/python -m pytest -k rekey tests/daemon/test_permanent.py
    python3 -m tests.vm --release trixie -- python3 -m pytest -k rekey tests/daemon/test_permanent.py
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from tests.vm import guest, releases, roots
from tests.vm.debian import Missing


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.vm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memory", type=int, default=1024)
    parser.add_argument("--processors", type=int, default=1)
    parser.add_argument("--silence", type=float, default=0)
    parser.add_argument("--share", type=Path, action="append", default=[])
    names = [release.name for release in releases.known()]
    parser.add_argument("--release", choices=names, default=releases.own().name, help="whose root (this machine's)")
    parser.add_argument("--kernel", choices=names, help="whose kernel (the root's)")
    parser.add_argument("--emulate", action="store_true", help="do not try KVM")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    if not command:
        parser.error("no command")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        root = roots.prepare(releases.named(given.release))
        roots.compiled(root, "updown", "tests")
        settings = guest.Settings(
            folder=Path.cwd(),
            root=root,
            kernel=roots.prepare(releases.named(given.kernel)) if given.kernel else None,
            memory=given.memory,
            processors=given.processors,
            silence=given.silence,
            shares=[share.resolve() for share in given.share],
            copies=root.pyroute2,
            environment={releases.SAID: root.release.name},
            kvm=False if given.emulate else None,
        )
        return guest.run(command, settings, _to(1), _to(2))
    except (guest.GuestFailed, Missing) as problem:
        print(f"tests.vm: {problem}", file=sys.stderr)
        return 125


def _to(descriptor: int) -> guest.Sink:
    stream = sys.stdout.buffer if descriptor == 1 else sys.stderr.buffer

    def write(data: bytes) -> None:
        stream.write(data)
        stream.flush()

    return write


if __name__ == "__main__":
    sys.exit(main())
