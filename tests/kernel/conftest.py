"""Fixtures on a real kernel: its modules, and a fresh network namespace that this process enters and comes back from."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

import pytest

from tests.kernel.calls import load_modules
from updown.kernel.netlink.rtnetlink import Netlink

CLONE_NEWNET = 0x40000000


def _call(name: str, *arguments: int) -> None:
    """A function of the C library: `os.unshare` and `os.setns` came with Python 3.12."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


@pytest.fixture(scope="session")
def modules() -> None:
    """The kernel's modules and ours are there before the first look."""
    load_modules()


@pytest.fixture
def namespace() -> Iterator[None]:
    """The test runs in a namespace with nothing but `lo`, which is up."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", CLONE_NEWNET)
        try:
            with Netlink() as netlink:
                netlink.set_link(1, up=True)
            yield
        finally:
            _call("setns", home, CLONE_NEWNET)
    finally:
        os.close(home)


@pytest.fixture
def netlink(namespace: None) -> Iterator[Netlink]:  # noqa: ARG001
    """A socket in that namespace."""
    with Netlink() as opened:
        yield opened
