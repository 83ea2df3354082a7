"""How long a hook call takes: ours, libreswan's stock script and the bare interpreter, in one run on one machine.

    python -m tests.bench.updown_bench [SECONDS]

Works in a network namespace of its own, which ends with it; the calls are interleaved (one event of ours, one of the
stock script's, and so on), for about SECONDS per table (45). It prints and judges nothing. Where the kernel has no VTI
a tunnel without a device is measured instead, and of the one with a device only what changes nothing.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests import TOP

RECORDED = TOP / "tests/recordings/libreswan-4.10/vti-basic/west.jsonl"
OURS = [sys.executable, "-I", str(TOP / "hooks/vti-updown")]
STOCK = ["/usr/libexec/ipsec/_updown.xfrm", "--route", "yes"]
BARE = [sys.executable, "-I", "-c", "pass"]
VERBS = ("prepare-client", "route-client", "up-client", "down-client", "unroute-client")
ALONE = "VTI_UPDOWN_BENCH_ALONE"
DEVICE = ("VTI_IFACE", "VTI_IP", "VTI_ROUTING", "VTI_SHARED", "CONNMARK_IN", "CONNMARK_OUT")
GROUND = """
link set lo up
link add eth0 type veth peer name eth0peer
link add lan0 type veth peer name lan0peer
link set eth0 up
link set eth0peer up
link set lan0 up
link set lan0peer up
addr add 198.51.100.1/24 dev eth0
addr add 10.1.0.1/24 dev lan0
"""
PRIVATE = 'mount -t tmpfs -o mode=755 tmpfs /run && exec "$@"'
Environment = Mapping[str, str]


def main() -> int:
    if os.environ.get(ALONE) != "yes":
        if os.geteuid() != 0:
            print("not root, which a network namespace needs: nothing measured", file=sys.stderr)
            return 1
        again = [sys.executable, "-m", "tests.bench.updown_bench", *sys.argv[1:]]
        whole = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", PRIVATE, "sh", *again]
        os.chdir(TOP)
        return subprocess.run(whole, env=dict(os.environ, **{ALONE: "yes"})).returncode
    seconds = float(sys.argv[1]) if sys.argv[1:] else 45.0
    subprocess.run(["ip", "-batch", "-"], input=GROUND, text=True, check=True)
    recorded = environment()
    plain = {name: value for name, value in recorded.items() if name not in DEVICE}
    if has_vti():
        table("a tunnel with a VTI: every verb in turn", recorded, {"ours": OURS, "stock": STOCK, "bare": BARE}, seconds)
    else:
        print("This kernel has no VTI: a tunnel without a device, which both hooks can do here.")
        table("a tunnel without a device", plain, {"ours": OURS, "stock": STOCK, "bare": BARE}, seconds)
        dry = {"ours --dry-run": [*OURS, "--dry-run"], "bare": BARE}
        table("a tunnel with a VTI, only planned", recorded, dry, seconds / 2)
    return 0


def environment() -> dict[str, str]:
    """What a real pluto gave its hook for `up`."""
    with open(RECORDED) as lines:
        for call in map(json.loads, lines):
            if call["env"]["PLUTO_VERB"] == "up-client":
                return {str(name): str(value) for name, value in call["env"].items()}
    raise LookupError(f"no up-client in {RECORDED}")


def has_vti() -> bool:
    add = ["ip", "link", "add", "probe0", "type", "vti", "local", "192.0.2.1", "remote", "192.0.2.2", "key", "9"]
    found = subprocess.run(add, stderr=subprocess.DEVNULL).returncode == 0
    if found:
        subprocess.run(["ip", "link", "del", "probe0"], check=True)
    return found


def table(title: str, variables: Environment, hooks: Mapping[str, Sequence[str]], seconds: float) -> None:
    """Measure for some seconds, but three rounds at least, then print the medians."""
    hooks = {name: command for name, command in hooks.items() if Path(command[0]).exists()}
    times: dict[str, dict[str, list[float]]] = {name: {verb: [] for verb in VERBS} for name in hooks}
    failed: dict[str, int] = dict.fromkeys(hooks, 0)
    deadline = time.monotonic() + seconds
    rounds = 0
    while rounds < 3 or time.monotonic() < deadline:
        order = list(hooks) if rounds % 2 else list(reversed(list(hooks)))
        for name in order:
            for verb in VERBS:
                took, status = call(hooks[name], {**variables, "PLUTO_VERB": verb})
                times[name][verb].append(took)
                failed[name] += status != 0
            subprocess.run(["ip", "link", "del", "vti5"], stderr=subprocess.DEVNULL)
        rounds += 1
    print(f"\n{title}: medians of {rounds} rounds, in ms")
    show(times)
    for name, count in failed.items():
        if count:
            print(f"  {name}: {count} of {rounds * len(VERBS)} calls failed")
    sys.stdout.flush()


def show(times: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    ratio = [("ours/stock", "ours", "stock")] if "stock" in times else []
    print("  " + f"{'verb':16}" + "".join(f"{name:>16}" for name in [*times, *(name for name, _, _ in ratio)]))
    for verb in VERBS:
        middle = {name: statistics.median(times[name][verb]) for name in times}
        row = [f"{value:16.1f}" for value in middle.values()]
        row += [f"{middle[above] / middle[below]:16.2f}" for _, above, below in ratio]
        print(f"  {verb:16}" + "".join(row))
    sums = {name: sum(statistics.median(values) for values in its.values()) for name, its in times.items()}
    row = [f"{value:16.1f}" for value in sums.values()]
    row += [f"{sums[above] / sums[below]:16.2f}" for _, above, below in ratio]
    print(f"  {'all':16}" + "".join(row))


def call(command: Sequence[str], variables: Environment) -> tuple[float, int]:
    began = time.perf_counter()
    nothing = subprocess.DEVNULL
    status = subprocess.run(command, env=variables, stdin=nothing, stdout=nothing, stderr=nothing).returncode
    return (time.perf_counter() - began) * 1000, status


if __name__ == "__main__":
    sys.exit(main())
