"""Lines for the systemd journal, by its native protocol; where there is no journal, nothing is lost but the copy."""

from __future__ import annotations

import _socket
from collections.abc import Sequence

SOCKET = "/run/systemd/journal/socket"
WARNING, INFO = 4, 6  # syslog priorities


def send(lines: Sequence[str], warning: bool = False) -> None:
    """One entry of all `lines` (systemd.io/JOURNAL_NATIVE_PROTOCOL: a value with newlines is given by its length)."""
    if not lines:
        return
    text = "\n".join(lines).encode("utf-8", "backslashreplace")
    entry = b"SYSLOG_IDENTIFIER=vti-updown\nPRIORITY=%d\nMESSAGE\n" % (WARNING if warning else INFO)
    entry += len(text).to_bytes(8, "little") + text + b"\n"
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    try:
        channel.setblocking(False)  # a full journal must not hold the daemon up
        channel.sendto(entry, SOCKET)
    except OSError:
        return  # no journal on this machine, or it is busy: the daemon's own log has the lines
    finally:
        channel.close()
