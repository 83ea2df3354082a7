"""What the kernel's XFRM database holds, as our dump reads it and as iproute2 put it there."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest

from updown.kernel.netlink.xfrm import Xfrm
from updown.model.errors import KernelError
from updown.model.ipsec import Database, Key, Policy, Sa, State

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("namespace")]

AEAD = ["aead", "rfc4106(gcm(aes))", "0x" + "11" * 20, "128"]
ALL = 0xFFFFFFFF


def xfrm(*words: str) -> None:
    subprocess.run(["ip", "xfrm", *words], check=True)


def read() -> Database:
    with Xfrm() as socket:
        return socket.database()


def test_an_empty_database() -> None:
    assert read() == Database()


def test_states_are_read_back() -> None:
    ends = ["src", "192.0.2.1", "dst", "192.0.2.2"]
    xfrm("state", "add", *ends, "proto", "esp", "spi", "0x1001", "reqid", "16389", "mode", "tunnel", *AEAD)
    six = ["src", "2001:db8::1", "dst", "2001:db8::2", "proto", "esp", "spi", "0xfffffff1", "reqid", "7"]
    xfrm("state", "add", *six, "mode", "transport", "mark", "5", "mask", "0xff", "if_id", "0x9", *AEAD)
    sa = Sa(50, 1, 4, "rfc4106(gcm(aes))", 16)
    assert {state._replace(sa=state.sa._replace(added=0)) for state in read().states} == {
        State("192.0.2.1", "192.0.2.2", 0x1001, 16389, sa),
        State("2001:db8::1", "2001:db8::2", 0xFFFFFFF1, 7, sa._replace(mode=0, outer=6, selected=6), Key(5, 0xFF, 9)),
    }


def test_policies_are_read_back() -> None:
    tunnel = ["tmpl", "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "reqid", "16389", "mode", "tunnel"]
    xfrm("policy", "add", "src", "10.1.0.0/24", "dst", "10.2.0.0/24", "dir", "out", "mark", "5", *tunnel)
    chosen = ["src", "fd00:1::/64", "dst", "fd00:2::/64", "proto", "tcp", "dport", "443", "dir", "fwd"]
    six = ["tmpl", "src", "2001:db8::1", "dst", "2001:db8::2", "proto", "esp", "reqid", "8", "mode", "tunnel"]
    xfrm("policy", "add", *chosen, "if_id", "0xfffffff7", *six)
    xfrm("policy", "add", "src", "10.3.0.0/16", "dst", "0.0.0.0/0", "dir", "in")
    assert set(read().policies) == {
        Policy("out", "10.1.0.0/24", "10.2.0.0/24", reqids=(16389,), ends=(("192.0.2.1", "192.0.2.2"),), key=Key(5, ALL)),
        Policy("fwd", "fd00:1::/64", "fd00:2::/64", 6, 0, 443, (8,), (("2001:db8::1", "2001:db8::2"),), Key(if_id=0xFFFFFFF7)),
        Policy("in", "10.3.0.0/16", "0.0.0.0/0"),
    }


def test_a_long_dump_is_whole() -> None:
    lines = "".join(
        f"policy add src 10.{number // 256}.{number % 256}.0/24 dst 10.255.0.0/24 dir out mark {number + 1}\n"
        for number in range(1000)
    )
    subprocess.run(["ip", "-batch", "-"], input="".join(f"xfrm {line}\n" for line in lines.splitlines()), text=True)
    assert {policy.key.mark for policy in read().policies} == set(range(1, 1001))


def test_without_privilege_the_refusal_says_what_to_do() -> None:
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgid(65534)
        os.setuid(65534)
        try:
            read()
            said = "read"
        except KernelError as error:
            said = f"{errno.errorcode[error.errno]} {error.hint}"
        os.write(write_end, said.encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    assert said == "EPERM run as root or with CAP_NET_ADMIN"
