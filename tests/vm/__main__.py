"""python3 -m tests.vm [--memory MIB] [--processors N] [--timeout SECONDS] [--share FOLDER] [--emulate] -- COMMAND...

Run COMMAND as root in a guest with Debian's kernel, over this machine's own root file system; nothing it writes stays,
shared folders excepted. Exit status: the command's; 124 when the time is over; 125 when the guest did not work. One
test alone:

    python3 -m tests.vm -- .venv/bin/python -m pytest -k rekey tests/daemon/test_permanent.py
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from tests.vm import guest
from tests.vm.debian import Missing


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.vm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memory", type=int, default=1024)
    parser.add_argument("--processors", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=0)
    parser.add_argument("--share", type=Path, action="append", default=[])
    parser.add_argument("--emulate", action="store_true", help="do not try KVM")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    if not command:
        parser.error("no command")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    settings = guest.Settings(
        folder=Path.cwd(),
        memory=given.memory,
        processors=given.processors,
        timeout=given.timeout,
        shares=[share.resolve() for share in given.share],
        kvm=False if given.emulate else None,
    )
    try:
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
