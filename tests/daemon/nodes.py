"""Nodes: each with a network and a mount namespace of its own, all plugged into one bridge that nobody else sees."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, TypeVar

from tests.daemon.wire import PORT_PREFIX, Wire
from tests.vm import speed

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OUR_PROTOCOL = 160
PATIENCE = 60.0
HOLD = "echo ready; exec sleep infinity"
BRIDGE = "ip link set lo up; ip link add br0 type bridge mcast_snooping 0; ip link set br0 up; " + HOLD
NODE = (
    """
mount -t sysfs sys /sys
mount -t tmpfs -o mode=755 tmpfs /run
ip link set lo up
cd /proc/sys/net
echo 0 >ipv6/conf/all/accept_dad
echo 0 >ipv6/conf/default/accept_dad
echo 1 >ipv4/ip_forward
echo 1 >ipv6/conf/all/forwarding
echo 0 >ipv4/conf/all/rp_filter
echo 0 >ipv4/conf/default/rp_filter
echo 0 >ipv4/conf/all/send_redirects
echo 0 >ipv4/conf/default/send_redirects
cd /
"""
    + HOLD
)

Kind = TypeVar("Kind", bound="Node")


def wait_for(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Look again and again until the condition is true; fail with what was awaited when it never is.

    `patience` is in seconds of the machine that limits are made for: a slower one gets more."""
    patience *= speed.slowness()
    deadline = time.monotonic() + patience
    while True:
        began = time.monotonic()
        if condition():
            return
        assert time.monotonic() < deadline, f"waited {patience:.0f} s in vain for: {what}"
        time.sleep(max(0.05, time.monotonic() - began))  # a guest has one processor: half of it for what is awaited


@dataclass
class Ping:
    """A ping that goes on in the background, and what it wrote so far."""

    log: Path

    @property
    def replies(self) -> set[int]:
        """The requests that were answered, by number."""
        return {int(number) for number in re.findall(r"bytes from .* icmp_seq=(\d+)", self.log.read_text())}

    @property
    def lost(self) -> set[int]:
        """The requests before the newest reply that got none."""
        replies = self.replies
        return set(range(1, max(replies, default=0))) - replies

    def goes_on(self, count: int = 3) -> None:
        """Wait until some more are answered."""
        number = max(self.replies, default=0) + count
        wait_for(lambda: max(self.replies, default=0) >= number, f"{count} more replies to the ping")


class Node:
    def __init__(self, name: str, holder: subprocess.Popen[str], folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.holder = holder

    @property
    def inside(self) -> list[str]:
        """What to put before a command so that it runs in this node."""
        return ["nsenter", "-t", str(self.holder.pid), "-n", "-m", "--"]

    def run(self, *command: str, check: bool = True, text: str | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([*self.inside, *command], input=text, capture_output=True, text=True)
        said = f"{self.name}: `{' '.join(command)}` ended with {done.returncode}\n{done.stdout}{done.stderr}"
        assert not check or done.returncode == 0, said
        return done

    def ip(self, *lines: str) -> None:
        """Run lines of iproute2 commands (without the word ip) in one process."""
        self.run("ip", "-batch", "-", text="".join(f"{line}\n" for line in lines))

    def addresses_on(self, device: str, *addresses: str) -> None:
        self.ip(*(f"addr add {address} dev {device}{' nodad' if ':' in address else ''}" for address in addresses))

    def lan(self, *addresses: str) -> None:
        """A network behind this node."""
        self.ip("link add lan0 type dummy", "link set lan0 up")
        self.addresses_on("lan0", *addresses)

    # what there is

    def json(self, *words: str) -> Any:
        said = self.run("ip", "-j", *words).stdout
        return json.loads(said) if said.strip() else []

    def links(self) -> dict[str, Any]:
        return {link["ifname"]: link for link in self.json("-d", "link", "show") if link}

    def device(self, name: str) -> dict[str, Any] | None:
        """A tunnel device as plain facts: kind, local, remote, ikey, okey, mtu, up; None where there is none."""
        link = self.links().get(name)
        if link is None:
            return None
        data = link["linkinfo"].get("info_data", {})
        keys = {key: _number(data.get(key, "0")) for key in ("ikey", "okey")}
        ends = {end: data.get(end, "any").replace("0.0.0.0", "any") for end in ("local", "remote")}
        ends = {end: "any" if value == "::" else value for end, value in ends.items()}
        return {"kind": link["linkinfo"]["info_kind"], **ends, **keys, "up": "UP" in link["flags"]}

    def addresses(self, device: str) -> set[str]:
        """Without link-local ones."""
        infos = [info for link in self.json("addr", "show") if link.get("ifname") == device for info in link["addr_info"]]
        return {f"{info['local']}/{info['prefixlen']}" for info in infos if info["scope"] != "link"}

    def routes(self, *words: str) -> list[Any]:
        """Both families' routes that the words select, as `ip -j -N route show` prints them; none of no device."""
        said = [self.run("ip", "-j", "-N", family, "route", "show", *words, check=False) for family in ("-4", "-6")]
        return [route for one in said if one.stdout.strip() for route in json.loads(one.stdout)]

    def routed_into(self, device: str) -> set[str]:
        """The destinations of the unicast routes into a device, kernel routes left out."""
        kernel = ("2", "kernel")
        return {route["dst"] for route in self.routes("dev", device) if route.get("protocol") not in kernel}

    def our_routes(self) -> list[Any]:
        return self.routes("table", "all", "proto", str(OUR_PROTOCOL))

    def way_to(self, address: str) -> Any:
        (way,) = self.json("route", "get", address)
        return way

    def spis(self) -> set[str]:
        """The SPIs of the ESP security associations in the kernel."""
        return set(re.findall(r"proto esp spi (0x[0-9a-f]+)", self.run("ip", "xfrm", "state", "list", "nokeys").stdout))

    def dropped(self) -> dict[str, int]:
        """How many packets the kernel's IPsec dropped, by reason."""
        lines = self.run("cat", "/proc/net/xfrm_stat").stdout.splitlines()
        return {name: int(count) for name, count in map(str.split, lines)}

    # traffic

    def ping(self, address: str, source: str = "", count: int = 2, patience: int = 5) -> bool:
        """Whether every one of some requests was answered, each within some seconds."""
        origin = ["-I", source] if source else []
        words = ["-n", "-q", "-c", str(count), "-i", "0.1", "-W", str(patience), *origin, address]
        return self.run("ping", *words, check=False).returncode == 0

    @contextmanager
    def pinging(self, address: str, source: str) -> Iterator[Ping]:
        """Ping all the while."""
        command = [*self.inside, "ping", "-n", "-i", "0.5", "-I", source, address]
        log = self.folder / "ping.log"
        result = Ping(log)
        with open(log, "wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            yield result
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()

    @contextmanager
    def told(self, device: str) -> Iterator[list[str]]:
        """What the kernel tells of a device, its addresses and its routes meanwhile; there when the block is over."""
        log = self.folder / "monitor.log"
        with open(log, "wb") as out:
            command = [*self.inside, "ip", "monitor", "link", "address", "route"]
            monitor = subprocess.Popen(command, stdout=out)
        self.ip("link add proof0 type dummy")

        def listens() -> bool:
            self.ip("link set proof0 up", "link set proof0 down")
            return "proof0" in log.read_text()

        wait_for(listens, "the monitor to listen")
        lines: list[str] = []
        yield lines
        self.ip("link del proof0")
        wait_for(lambda: re.search(r"Deleted.* proof0", log.read_text()), "the monitor to have told all")
        end(monitor)
        lines += [line for line in log.read_text().splitlines() if device in line]

    def inner(self, path: str) -> Path:
        """A file as this node sees it, for us, who are outside of its mount namespace."""
        return Path(f"/proc/{self.holder.pid}/root{path}")

    def close(self) -> None:
        end(self.holder)


class Ground:
    """The bridge in its own namespace, and the nodes on it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._holder = _hold(["unshare", "--net", "--mount", "--propagation", "private"], BRIDGE)
        self.wire = Wire(self._holder.pid)
        self.nodes: list[Node] = []

    def node(self, kind: type[Kind], name: str, *addresses: str) -> Kind:
        """A new node with these addresses on eth0."""
        folder = self._folder / name
        folder.mkdir()
        enter = ["nsenter", "-t", str(self._holder.pid), "-n", "--"]
        node = kind(name, _hold([*enter, "unshare", "--net", "--mount", "--propagation", "private"], NODE), folder)
        port = PORT_PREFIX + name
        lines = f"link add {port} type veth peer name eth0 netns {node.holder.pid}\nlink set {port} master br0 up\n"
        subprocess.run([*enter, "ip", "-batch", "-"], input=lines, text=True, check=True)
        node.ip("link set eth0 up")
        node.addresses_on("eth0", *addresses)
        self.nodes.append(node)
        return node

    def segment(self, name: str) -> None:
        """A network of its own beside the common one, on which `wire` does not listen."""
        self._ip(f"link add {name} type bridge mcast_snooping 0", f"link set {name} up")

    def plug(self, node: Node, segment: str, device: str) -> None:
        """Give a node a device on a segment."""
        port = f"s-{node.name}"
        self._ip(f"link add {port} type veth peer name {device} netns {node.holder.pid}")
        self._ip(f"link set {port} master {segment} up")

    def _ip(self, *lines: str) -> None:
        enter = ["nsenter", "-t", str(self._holder.pid), "-n", "--"]
        subprocess.run([*enter, "ip", "-batch", "-"], input="".join(f"{line}\n" for line in lines), text=True, check=True)

    def close(self) -> None:
        for node in self.nodes:
            node.close()
        self.wire.close()
        end(self._holder)


def _hold(command: Sequence[str], script: str) -> subprocess.Popen[str]:
    """Start a process that keeps namespaces alive, and ends with us."""
    whole = ["setpriv", "--pdeathsig", "KILL", *command, "sh", "-e", "-c", script]
    environment = dict(os.environ, PATH=PATH)
    process = subprocess.Popen(whole, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", f"`{' '.join(command)}` could not make its namespaces"
    return process


def end(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


def _number(key: str) -> int:
    """A key as iproute2 prints it, a number or dotted like an address."""
    if "." in key:
        return int.from_bytes(bytes(int(part) for part in key.split(".")), "big")
    return int(key, 0)
