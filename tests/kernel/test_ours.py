"""What is ours on a real kernel: not by a name and an index, which it gives again, and not in another boot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.calls import Node, ip, towards_peers
from tests.kit.machine import EAST, WEST, Tunnel, call, establish, withdraw

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("modules")]

T = Tunnel(address="10.99.0.1/30")
TAKEN = {
    "another kind": "type dummy",
    "another key": f"type vti local {WEST} remote {EAST} key 7",
    "another alias": f"type vti local {WEST} remote {EAST} key 5",
}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with towards_peers():
        made = Node(tmp_path)
        made.config.write_text("")
        yield made


def device() -> tuple[object, ...]:
    """Whose it is, and its addresses: but for the link-local one, which comes where reconcile sets up a device that fits."""
    (found,) = json.loads(ip("-d", "-j", "addr", "show", "dev", "vti5"))
    addresses = [one["local"] for one in found["addr_info"] if one["scope"] != "link"]
    return found["ifindex"], found["linkinfo"]["info_kind"], found.get("ifalias"), addresses


@pytest.mark.parametrize("end", ["down", "reconcile", "clean"])
@pytest.mark.parametrize("case", TAKEN)
def test_a_device_of_others_with_the_name_and_the_index_of_ours_stays(node: Node, case: str, end: str) -> None:
    node.send(*establish(T))
    index = device()[0]
    alias = "link set vti5 alias uplink\n" if case == "another alias" else ""
    ip(batch=f"link del vti5\nlink add vti5 index {index} {TAKEN[case]}\n{alias}addr add 10.99.0.1/30 dev vti5\n")
    theirs = device()
    assert theirs[0] == index
    if end == "down":
        node.send(*withdraw(T))
    else:
        node.run(end)
    assert device() == theirs


def test_a_ledger_that_outlived_a_reboot_deletes_nothing(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same cookie, name, index, ends and key: only the boot is another."""
    node.send(*establish(T))
    ip("link", "set", "vti5", "alias", "")
    theirs = device()
    monkeypatch.setattr("updown.ledger.clock.boot_id", lambda: "5a1e0000-0000-4000-8000-000000000002")
    said = node.run(**call(T, "down"))
    assert said.status == 0
    assert "of an earlier boot, with 1 claims" in " ".join(line.partition(": t: ")[2].strip() for line in said.lines)
    assert device() == theirs
    node.send(call(T, "unroute"))
    assert device() == theirs
