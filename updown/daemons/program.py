"""What a program prints, within bounds: a daemon's client, or nft, may print without an end, or never end."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence

MOST = 32 * 1024 * 1024  # bytes; a status of ten thousand connections has less


def read_all(readers: Sequence[int], seconds: float, most: int = MOST) -> tuple[list[bytes], str]:
    """What comes from pipes until their other ends are closed, in `seconds` altogether and `most` bytes of each; and why that
    is not all, else nothing."""
    end = time.monotonic() + seconds
    found = {reader: bytearray() for reader in readers}
    poll = select.poll()
    for reader in readers:
        poll.register(reader, select.POLLIN)
    why, waiting = "", len(found)
    while waiting and not why:
        ready = poll.poll(max(end - time.monotonic(), 0) * 1000)
        if not ready or time.monotonic() >= end:
            why = f"no answer in {seconds:g} s"
        for reader, _ in ready if not why else ():
            more = os.read(reader, 65536)
            found[reader] += more
            if not more:
                poll.unregister(reader)
                waiting -= 1
            elif len(found[reader]) > most:
                why = f"it printed more than {most} bytes"
    return [bytes(found[reader]) for reader in readers], why


def reap(child: int, seconds: float) -> int | None:
    """The exit status of a child that is about to end, negative by a signal; one that does not is killed, and None."""
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            break
        time.sleep(0.002)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None
