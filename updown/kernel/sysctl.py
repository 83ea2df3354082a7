"""The one place that reads and writes /proc/sys, of the hook's own network namespace or of one named in the path.

Paths, never dotted keys: a device's name may hold a dot (`net/ipv4/conf/vti0.5/rp_filter`). One in another namespace is placed
there (`net/ipv4/conf/vti5@red/rp_filter`)."""

from __future__ import annotations

import errno
import os

from updown.kernel import namespace
from updown.model.errors import KernelError

ROOT = "/proc/sys"

_ABSENT = (errno.ENOENT, errno.ENOTDIR)
_READ_ONLY = "run as root; or /proc/sys is read-only: a container's, or systemd's ProtectKernelTunables="


def read(path: str) -> str | None:
    """The value of `net/ipv4/conf/vti5/rp_filter` without white space around it; None where there is no such sysctl, and "" for
    one that cannot be read: no value is the wanted one then, and the write tells why. Raises KernelError for a path that leaves
    /proc/sys (EINVAL), and for a namespace (ENOENT, EPERM)."""
    try:
        with open(_open(path, os.O_RDONLY), "rb", 0) as file:
            return file.read(4096).decode("ascii", "replace").strip()
    except OSError as error:
        return None if error.errno in _ABSENT else ""


def write(path: str, value: str) -> None:
    """Set a sysctl. Raises KernelError: ENOENT where there is none, EINVAL for a value the kernel does not take."""
    try:
        with open(_open(path, os.O_WRONLY), "wb", 0) as file:
            file.write(f"{value}\n".encode())
    except OSError as error:
        raise _refused(f"sysctl {path}={value}", error) from None


def _open(path: str, flags: int) -> int:
    """/proc/sys/net shows the namespace of who opens the file (net/sysctl_net.c)."""
    name = path.partition("@")[2].partition("/")[0]
    with namespace.inside(name):
        return os.open(_full(path.replace(f"@{name}", "", 1) if name else path), flags | os.O_CLOEXEC)


def _full(path: str) -> str:
    if not path or "\0" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise KernelError(f"{path[:80]!a} is not a path below {ROOT}", errno.EINVAL)
    return f"{ROOT}/{path}"


def _refused(what: str, error: OSError) -> KernelError:
    number = error.errno or errno.EIO
    hint = _READ_ONLY if number in (errno.EROFS, errno.EACCES, errno.EPERM) else ""
    return KernelError(f"{what}: {os.strerror(number)}", number, hint)
