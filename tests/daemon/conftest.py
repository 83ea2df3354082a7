"""Fixtures of the daemon tests: a ground per file, left clean by every test, and the daemons' logs where one fails."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.charon import Charon
from tests.daemon.endpoint import Endpoint
from tests.daemon.gateway import Gateway
from tests.daemon.nodes import Ground, Node

WEST, EAST, THIRD = "198.51.100.1", "198.51.100.2", "198.51.100.3"
WEST6, EAST6 = "2001:db8:0:1::1", "2001:db8:0:1::2"
_grounds: list[Ground] = []


def endpoints() -> list[Endpoint]:
    return [node for ground in _grounds for node in ground.nodes if isinstance(node, Endpoint)]


@contextlib.contextmanager
def a_ground(folder: Path) -> Iterator[Ground]:
    """A ground whose nodes' logs are shown where a test fails."""
    made = Ground(folder)
    _grounds.append(made)
    try:
        yield made
    finally:
        _grounds.remove(made)
        made.close()


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with a_ground(tmp_path_factory.mktemp("nodes")) as made:
        yield made


@pytest.fixture(scope="module")
def west(ground: Ground) -> Gateway:
    """The left one: 10.1.0.0/24, 10.1.1.0/24 and fd00:1::/64 are behind it."""
    node = ground.node(Gateway, "west", f"{WEST}/24", f"{WEST6}/64")
    node.lan("10.1.0.1/24", "10.1.1.1/24", "fd00:1::1/64")
    node.start()
    return node


@pytest.fixture(scope="module")
def east(ground: Ground) -> Gateway:
    """The right one: 10.2.0.0/24, 10.2.1.0/24 and fd00:2::/64 are behind it."""
    node = ground.node(Gateway, "east", f"{EAST}/24", f"{EAST6}/64")
    node.lan("10.2.0.1/24", "10.2.1.1/24", "fd00:2::1/64")
    node.start()
    return node


@pytest.fixture(scope="module")
def moon(ground: Ground) -> Charon:
    """Like west, with strongSwan; its charon is started by load()."""
    node = ground.node(Charon, "moon", f"{WEST}/24", f"{WEST6}/64")
    node.lan("10.1.0.1/24", "10.1.1.1/24", "fd00:1::1/64")
    node.lay_over()
    return node


@pytest.fixture(scope="module")
def sun(ground: Ground) -> Charon:
    """Like east, with strongSwan; it has a second address, to be a second peer by."""
    node = ground.node(Charon, "sun", f"{EAST}/24", f"{THIRD}/24", f"{EAST6}/64")
    node.lan("10.2.0.1/24", "10.2.1.1/24", "fd00:2::1/64")
    node.lay_over()
    return node


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Take away what a test left, so that the next one does not see it."""
    yield
    for node in endpoints():
        node.forget_everything()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Where a test fails, show what the daemons logged while it ran."""
    before = {node: len(node.logged()) for node in endpoints()}
    outcome: Any = yield
    if outcome.excinfo is not None:
        for node in endpoints():
            logged = node.logged(before.get(node, 0)).splitlines()
            item.add_report_section("call", f"{node.name}: {node.daemon}'s log", "\n".join(logged[-60:]))
            item.add_report_section("call", f"{node.name}: state", state(node))


def state(node: Node) -> str:
    commands = ("ip -br addr", "ip route show table all", "ip -6 route show", "ip xfrm state list nokeys")
    return "\n".join(node.run(*command.split(), check=False).stdout for command in commands)
