"""Calls of the hook in a network namespace of their own: as the daemon makes them, or by a fork of this process."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Callable, NamedTuple

import updown
from tests import TOP
from tests.kit.machine import GATEWAY, WEST, Environment
from updown.hook import main

EVENTS = 1 << 0 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18
"""Groups of linux/rtnetlink.h: links, then addresses, routes and rules of IPv4, then those of IPv6."""
HOOK = TOP / "hooks" / "vti-updown"


class Said(NamedTuple):
    """What one call of the hook returned and printed."""

    status: int
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "".join(f"\n        hook: {line}" for line in self.lines) + f"\n        status {self.status}"


@contextlib.contextmanager
def private_namespace() -> Iterator[None]:
    """A fresh network namespace for this process and those it starts; it ends with the last of them."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(number: int) -> None:
        if number:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    with open("/proc/self/ns/net") as before:
        enter(libc.unshare(0x40000000))  # CLONE_NEWNET
        try:
            yield
        finally:
            enter(libc.setns(before.fileno(), 0))


@contextlib.contextmanager
def listening() -> Iterator[Callable[[], bool]]:
    """Ask whether the kernel has told of any change since, which is quicker than to look at everything."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK) as events:
        events.bind((0, EVENTS))

        def changed() -> bool:
            with contextlib.suppress(BlockingIOError):
                return bool(events.recv(65536))
            return False

        yield changed


def ip(*arguments: str, batch: str = "") -> str:
    """What `ip` prints; `batch` are lines for -batch."""
    command = ["ip", *arguments, *(["-batch", "-"] if batch else [])]
    done = subprocess.run(command, input=batch, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}{batch}"
    return done.stdout


def command(*arguments: str) -> list[str]:
    """The command line of the hook."""
    return [sys.executable, "-I", str(HOOK), *arguments]


def process(environment: Mapping[str, str], *arguments: str) -> Said:
    """The hook, as the daemon runs it."""
    done = subprocess.run(
        command(*arguments),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        timeout=120,
    )
    return Said(done.returncode, _lines(done.stdout))


def fork(*arguments: str, environment: Mapping[str, str], lives: float = 0) -> Said:
    """The same by a fork of this process: starting an interpreter costs most of a call, above all under emulation. With
    `lives` the kernel ends it after so many seconds, wherever it is: the status then is -14."""
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if not child:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, lives)
            os._exit(_hook(arguments, environment, output.fileno()))
        _, status = os.waitpid(child, 0)
        output.seek(0)
        return Said(os.waitstatus_to_exitcode(status), _lines(output.read()))


def _hook(arguments: tuple[str, ...], environment: Mapping[str, str], output: int) -> int:
    """In the child: what the hook does; its exit status."""
    try:
        os.chdir("/")
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout = os.fdopen(1, "w", errors="backslashreplace")
        sys.stderr = os.fdopen(2, "w", errors="backslashreplace")
        sys.argv = [str(HOOK), *arguments]
        os.environ.clear()
        os.environ.update(environment)
        try:
            return main()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        return 99


class Node:
    """The hook on a machine of its own: state directory and settings file."""

    def __init__(self, folder: Path) -> None:
        self.state, self.config = folder / "state", folder / "vti-updown.conf"

    def run(self, *words: str, **environment: str) -> Said:
        """What the hook says to these words."""
        return fork("--state-dir", str(self.state), "--config", str(self.config), *words, environment=environment)

    def send(self, *environments: Environment) -> list[str]:
        """Events that succeed; what they say."""
        lines: list[str] = []
        for environment in environments:
            said = self.run(**environment)
            assert said.status == 0, said
            lines += said.lines
        return lines


@contextlib.contextmanager
def towards_peers(addresses: str = "") -> Iterator[None]:
    """A namespace with an address towards its peers and a default route; `addresses` are more lines for `ip`."""
    with private_namespace():
        ip(
            batch=f"link set lo up\nlink add eth0 type dummy\nlink set eth0 up\naddr add {WEST}/24 dev eth0\n{addresses}"
            f"route add default via {GATEWAY}\n"
        )
        yield


def _lines(output: bytes) -> tuple[str, ...]:
    return tuple(output.decode("utf-8", "backslashreplace").splitlines())


def load_modules() -> None:
    """Have the kernel's modules, with the fallback devices they bring, and ours and pyroute2, which forks would each import
    anew, before the first look at a node."""
    importlib.import_module("pyroute2")
    for module in pkgutil.walk_packages(updown.__path__, "updown."):
        importlib.import_module(module.name)
    with private_namespace():
        ip("link", "add", "first", "type", "vti", "local", "192.0.2.1", "key", "1")
        ip("link", "add", "second", "type", "vti6", "local", "2001:db8::1", "remote", "2001:db8::2", "key", "1")
        ip("link", "add", "third", "type", "xfrm", "if_id", "1")
