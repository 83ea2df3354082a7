"""The largest packet that passes a tunnel: pings with DF, counted on the wire."""

from __future__ import annotations

import re
import subprocess

from tests.daemon.nodes import Ground, Node


def ping(node: Node, address: str, size: int, *words: str) -> subprocess.CompletedProcess[str]:
    """One request of `size` bytes, IP header included."""
    payload = size - (48 if ":" in address else 28)
    return node.run("ping", "-n", "-c", "1", "-W", "5", "-s", str(payload), *words, address, check=False)


def is_edge(
    ground: Ground, node: Node, address: str, mtu: int, device: str = "vti5", source: str = "", largest: int = 1500
) -> None:
    """`mtu` bytes pass in one packet of ESP each way, which is not in fragments; a byte more is refused, by the kernel's own
    count with this very number: so that it gives it, device and route are let take more for a moment."""
    origin = ["-I", source] if source else []
    ground.wire.seen()
    done = ping(node, address, mtu, "-M", "do", *origin)
    assert done.returncode == 0, f"{mtu} bytes to {address}: {done.stdout}{done.stderr}"
    seen = ground.wire.seen()
    assert [frame.kind for frame in seen.frames if frame.kind not in ("link", "ike")] == ["esp", "esp"]
    assert seen.fragments == []
    assert max(frame.size for frame in seen.frames) <= largest
    assert ping(node, address, mtu + 1, "-M", "do", *origin).returncode != 0
    before = node.links()[device]["mtu"]
    alone = f"{address}/{128 if ':' in address else 32} dev {device}"
    node.ip(f"link set {device} mtu {largest + 100}", f"route add {alone}")
    done = ping(node, address, mtu + 1, "-M", "do", *origin)
    assert done.returncode != 0, f"{mtu + 1} bytes to {address} passed"
    assert re.findall(r"mtu ?[=:] ?(\d+)", done.stdout + done.stderr)[:1] == [str(mtu)], done.stdout + done.stderr
    assert ground.wire.seen().esp == 0
    node.ip(f"route del {alone}", f"link set {device} mtu {before}", "route flush cache")
    node.run("ip", "-6", "route", "flush", "cache")
