"""The one place that reads and writes /proc/sys, of the network namespace of the calling thread.

Paths, never dotted keys: a device's name may hold a dot (`net/ipv4/conf/vti0.5/rp_filter`).
"""

import errno
import os
from typing import Optional

from updown.errors import KernelError

ROOT = "/proc/sys"

_ABSENT = (errno.ENOENT, errno.ENOTDIR)
_READ_ONLY = "run as root; or /proc/sys is read-only: a container's, or systemd's ProtectKernelTunables="


def read(path: str) -> Optional[str]:
    """The value of `net/ipv4/conf/vti5/rp_filter` without white space around it; None where there is no such sysctl, and ""
    for one that cannot be read: no value is the wanted one then, and the write tells why.

    Raises KernelError for a path that leaves /proc/sys (EINVAL).
    """
    try:
        descriptor = os.open(_full(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, 4096).decode("ascii", "replace").strip()
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        return ""


def write(path: str, value: str) -> None:
    """Set a sysctl. Raises KernelError: ENOENT where there is none, EINVAL for a value the kernel does not take."""
    try:
        descriptor = os.open(_full(path), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, f"{value}\n".encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _refused(f"sysctl {path}={value}", error) from None


def _full(path: str) -> str:
    if not path or "\0" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise KernelError(f"{path[:80]!a} is not a path below {ROOT}", errno.EINVAL)
    return f"{ROOT}/{path}"


def _refused(what: str, error: OSError) -> KernelError:
    number = error.errno or errno.EIO
    hint = _READ_ONLY if number in (errno.EROFS, errno.EACCES, errno.EPERM) else ""
    return KernelError(f"{what}: {os.strerror(number)}", number, hint)
