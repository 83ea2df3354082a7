"""Echo requests and replies as bytes, and by real sockets in a network namespace of their own."""

from __future__ import annotations

import json
import struct
import subprocess
import sys

import pytest

from tests import TOP
from updown.kernel import ping
from updown.model.errors import KernelError


def test_a_request_of_ipv4_has_a_checksum_that_adds_up() -> None:
    token = bytes(range(16))
    data = ping.request(4, token)
    assert data[:2] == b"\x08\x00"
    total = sum(struct.unpack(">12H", data))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
    assert ping.request(6, token)[:4] == b"\x80\x00\x00\x00"


IP = b"\x46" + bytes(23)  # a header with one word of options


@pytest.mark.parametrize(
    ("data", "version", "body"),
    [
        (IP + b"\0\0\0\0\0\0\0\0" + b"token", 4, b"token"),
        (b"\x45" + bytes(19) + b"\0\0\0\0\0\0\0\0", 4, b""),
        (b"\x81\0\0\0\0\0\0\0" + b"token", 6, b"token"),
        (IP + b"\x08\0\0\0\0\0\0\0" + b"token", 4, None),
        (b"\x80\0\0\0\0\0\0\0" + b"token", 6, None),
        (IP, 4, None),
        (b"", 4, None),
        (b"", 6, None),
        (b"\x4f" + bytes(20), 4, None),
    ],
)
def test_what_a_reply_brings_back(data: bytes, version: int, body: bytes | None) -> None:
    assert ping.reply_body(data, version) == body


def test_a_whole_packet_of_ipv6_has_a_checksum_that_adds_up_with_its_ends() -> None:
    data = ping.packet6("fd00::1", "fd00::2", bytes(range(16)))
    assert (data[0] >> 4, struct.unpack_from(">H", data, 4), data[6], len(data)) == (6, (24,), 58, 64)
    ends, pseudo = data[8:40], struct.pack(">II", 24, 58)
    total = sum(struct.unpack(">32H", ends + pseudo + data[40:]))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


ASKING = """
import json, resource, sys
from updown.kernel.netlink.rtnetlink import Netlink
from updown.kernel.ping import Question, ping
with Netlink() as netlink:
    netlink.set_link(1, up=True)
limit, asked = int(sys.argv[1]), json.load(sys.stdin)
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
questions = [Question(device, far, tuple(sources), (hears,)) for device, far, sources, hears in asked]
print(json.dumps(ping(questions, wait=0.5)))
"""


def ask(limit: int, *asked: tuple[str, str, list[str], str]) -> list[tuple[bool, str]]:
    """Who was heard, and what else came of it, in a namespace with nothing but `lo`, with so many descriptors."""
    alone = ["unshare", "--user", "--map-root-user", "--net"]
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    words = [*alone, sys.executable, "-c", ASKING, str(limit)]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=TOP, input=json.dumps(asked))
    assert not done.stderr, done.stderr
    return [(heard, trouble) for heard, trouble, _ in json.loads(done.stdout)]


@pytest.mark.parametrize("count", [1500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_thousands_are_asked_at_once_with_a_few_descriptors(count: int) -> None:
    """Each answer is given to who asked for it, and no descriptor has a number that `select` could not take."""
    many = [("lo", f"127.1.{n // 200}.{n % 200 + 1}", ["127.0.0.1"], "lo") for n in range(count)]
    assert ask(16, *many, ("lo", "::1", ["::1"], "lo")) == [(True, "")] * (count + 1)


def test_of_several_addresses_one_that_is_answered_does() -> None:
    assert ask(64, ("lo", "127.1.0.1", ["192.0.2.1", "127.0.0.1"], "lo")) == [(True, "")]


NOWHERE = "Network is unreachable"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (("lo", "192.0.2.9", ["127.0.0.1"], "lo"), (False, "")),
        (("lo", "fd00::9", ["::1"], "lo"), (False, NOWHERE)),
        (("none0", "127.1.0.1", ["127.0.0.1"], "none0"), (False, "No such device")),
        (("lo", "127.1.0.1", ["127.0.0.1"], "none0"), (False, "No such device")),
        (("lo@none", "127.1.0.1", ["127.0.0.1"], "lo@none"), (False, "network namespace none does not exist")),
    ],
)
def test_what_is_not_sent_is_another_thing_than_what_is_not_answered(
    asked: tuple[str, str, list[str], str], found: tuple[bool, str]
) -> None:
    healthy = ("lo", "127.1.0.1", ["127.0.0.1"], "lo")
    assert ask(64, healthy, asked, healthy) == [(True, ""), found, (True, "")]


def test_without_leave_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("updown.kernel.ping.socket.socket", refuses)
    with pytest.raises(KernelError, match="raw sockets are not permitted"):
        ping.ping([ping.Question("lo", "127.0.0.1", ("127.0.0.1",), ("lo",))])
