"""Other network namespaces, by the names `ip netns` gives them: entered for a moment, to open a socket or a file there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from updown.model.errors import KernelError

FOLDER = "/run/netns"
_NEW_NET = 0x40000000  # CLONE_NEWNET
_OWN = "/proc/thread-self/ns/net"


def exists(name: str) -> bool:
    """Whether there is a namespace of this name."""
    return os.path.exists(os.path.join(FOLDER, name))


def names() -> list[str]:
    """All of them, in order."""
    try:
        return sorted(os.listdir(FOLDER))
    except OSError:
        return []


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Be in the network namespace `name`; in our own for an empty name. Raises KernelError: ENOENT, EPERM. What is opened there
    stays there: sockets always, and files below /proc/sys/net, which show the namespace of who opens them."""
    if not name:
        yield
        return
    with opened(name) as there:
        here = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                _enter(there)
            except OSError as error:
                raise _refused(name, error) from None
            try:
                yield
            finally:
                _enter(here)
        finally:
            os.close(here)


@contextmanager
def opened(name: str) -> Iterator[int]:
    """A descriptor of the namespace `name`. Raises KernelError (ENOENT)."""
    try:
        descriptor = os.open(os.path.join(FOLDER, name), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(name, error) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _enter(descriptor: int) -> None:
    if hasattr(os, "setns"):  # Python 3.12
        os.setns(descriptor, _NEW_NET)
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _NEW_NET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _refused(name: str, error: OSError) -> KernelError:
    number = error.errno or errno.EIO
    if number == errno.ENOENT:
        return KernelError(f"network namespace {name} does not exist", number, f"ip netns add {name}")
    if number == errno.EPERM:
        # pluto leaves its hooks NET_ADMIN, NET_RAW and DAC_READ_SEARCH (programs/pluto/plutomain.c, capng_updatev)
        hint = "a hook of pluto lacks SYS_ADMIN: leave netns unset until a later release has its worker"
        return KernelError(f"network namespace {name} may not be entered", number, f"{hint}; else run as root")
    return KernelError(f"network namespace {name}: {os.strerror(number)}", number, f"ip netns exec {name} true")
