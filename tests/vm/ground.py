"""Whether this very kernel can do what the kernel and daemon tests need, so that no virtual machine is wanted."""

from __future__ import annotations

import functools
import os
import subprocess

# Everything the tests make, once, in a network namespace that is gone a moment later.
PROBE = """
ip link set lo up
ip link add probe0 type dummy
ip link add probe1 type bridge
ip link add probe2 type veth peer name probe3
ip link add probe4 type vti local 192.0.2.1 remote 192.0.2.2 key 5
ip link add probe5 type vti6 local 2001:db8::1 remote 2001:db8::2 key 5
ip link add probe6 type xfrm if_id 5
ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 5 mode tunnel \
    aead "rfc4106(gcm(aes))" 0x0102030405060708090a0b0c0d0e0f1011121314 128
"""


@functools.cache
def missing() -> str:
    """Why this kernel will not do, in a few words; empty where it does."""
    if os.geteuid() != 0:
        return "not root"
    command = ["unshare", "--net", "--mount", "sh", "-e", "-x", "-c", PROBE]
    try:
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError as problem:
        return f"no {problem.filename}"
    if done.returncode == 0:
        return ""
    attempts = [line for line in done.stderr.splitlines() if line.startswith("+ ")]
    return f"this machine's kernel cannot `{attempts[-1][2:]}`" if attempts else done.stderr.strip()
