"""Reads the tables written by hand, one for each daemon; says nothing about what is right."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.recordings import Call, Recording

TABLES = tuple(map(Path(__file__).with_name, ("expectations.txt", "expectations_strongswan.txt")))
OUTSIDE = "eth0"  # where a route with @eth0 goes


class Device(NamedTuple):
    name: str
    kind: str
    local: str = ""
    remote: str = ""  # "any"
    ikey: int = 0
    okey: int = 0
    if_id: int = 0
    addresses: frozenset[str] = frozenset()

    def __str__(self) -> str:
        own = f"{self.if_id}" if self.kind == "xfrm" else f"{self.local} > {self.remote} {self.ikey}/{self.okey}"
        return " ".join([self.name, self.kind, own, *(f"+{address}" for address in sorted(self.addresses))])


class Route(NamedTuple):
    destination: str
    device: str
    source: str = ""
    metric: int = 0
    gateway: str = ""

    def __str__(self) -> str:
        words = {"src": self.source, "metric": self.metric, "via": self.gateway}
        extra = ",".join(f"{name}={value}" for name, value in words.items() if value)
        return f"{self.destination}@{self.device}" + (f"({extra})" if extra else "")


class State(NamedTuple):
    """What the node holds of ours; a device may be pluto's."""

    devices: frozenset[Device] = frozenset()
    routes: frozenset[Route] = frozenset()
    claims: Mapping[str, int] | None = {}  # None: the documents do not say

    def __str__(self) -> str:
        devices = ", ".join(map(str, sorted(self.devices, key=str))) or "no device"
        return f"{devices} | {' '.join(map(str, sorted(self.routes))) or 'no route'}"


class Step(NamedTuple):
    """One line: a call and what is there after it, or (number 0) a command for `ip`."""

    line: int
    number: int = 0
    verb: str = ""
    state: State = State()
    says: str = ""
    status: int = 0
    command: str = ""


class Node(NamedTuple):
    """Addresses by device, and the gateways of the default routes."""

    addresses: Mapping[str, tuple[str, ...]]
    gateways: tuple[str, ...]


class Made(NamedTuple):
    """A device that is there before the first call; `name` may be `name@parent`."""

    name: str
    if_id: int
    addresses: tuple[str, ...]


class Sequence(NamedTuple):
    """The calls of one recording and what each leaves."""

    recording: Recording
    variant: str
    node: Node
    made: Made | None
    changes: Mapping[str, str | None]  # None: without the variable
    settings: str  # the administrator's file; empty: none
    steps: list[Step]

    def __str__(self) -> str:
        return f"{self.recording}" + (f":{self.variant}" if self.variant else "")

    def environment(self, call: Call) -> dict[str, str]:
        """What the call has in its environment, with the changes of the variant."""
        environment = {name: value for name, value in call.environment.items() if name not in self.changes}
        environment.update({name: value for name, value in self.changes.items() if value is not None})
        return environment


class _Section:
    """The lines between two headings, while they are read."""

    def __init__(self, heading: str, nodes: Mapping[str, Node], settings: str) -> None:
        match = re.fullmatch(r"\[(\S+) (\S+): ([^\]]+)\] ?(\S*)", heading)
        if not match:
            raise ValueError(f"no heading: {heading}")
        self.version, self.name, scenarios, self.variant = match.groups()
        self.scenarios = scenarios.split()
        self.node = nodes[self.name]
        self.made: Made | None = None
        self.changes: dict[str, str | None] = {}
        self.settings = settings
        self.devices: dict[str, Device] = {}
        self.device = ""  # what "dev" is
        self.state = State()
        self.steps: list[Step] = []

    def read(self, number: int, line: str) -> None:
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if word == "node":
            self.node = _node(rest)
        elif word == "made":
            name, kind, if_id, *addresses = rest.split()
            assert kind == "xfrm", line
            self.made = Made(name, int(if_id), tuple(addresses))
            pluto = Device(name.split("@")[0], "xfrm", if_id=int(if_id), addresses=frozenset(addresses))
            self.state = State(frozenset([pluto]))
        elif word == "with":
            self.changes.update((name, value) for name, _, value in (pair.partition("=") for pair in rest.split()))
        elif word == "without":
            self.changes.update((name, None) for name in rest.split())
        elif word == "set":
            self.settings += _settings(rest)
        elif word == "on":
            device = _device(rest)
            self.devices[device.name] = device
            self.device = device.name
        elif word == "do":
            self.steps.append(Step(number, command=rest))
        else:
            self.steps.append(self._step(number, int(word), rest))

    def _step(self, line: int, call: int, rest: str) -> Step:
        verb, _, text = rest.partition(" ")
        match = re.fullmatch(r"(.*?)(?: says (\S+))?(?: exit (\d))?", text.strip())
        assert match
        held, _, claims = (part.strip() for part in match[1].partition(";"))
        if held == "-":
            self.state = State(claims=_claims(claims))
        elif held != "=":
            devices: list[Device] = []
            routes: list[Route] = []
            for part in held.split(" | "):
                word, *destinations = part.split()
                name = self.device if word == "dev" else word
                if name not in self.devices or not claims:
                    raise ValueError(f"line {line}: not understood: {text}")
                devices.append(self.devices[name])
                routes += [_route(destination, name) for destination in destinations]
            self.state = State(frozenset(devices), frozenset(routes), _claims(claims))
        return Step(line, call, verb, self.state, match[2] or "", int(match[3] or 0))

    def sequences(self) -> list[Sequence]:
        return [
            Sequence(
                Recording(self.version, scenario, self.name),
                self.variant,
                self.node,
                self.made,
                self.changes,
                self.settings,
                self.steps,
            )
            for scenario in self.scenarios
        ]


def _node(text: str) -> Node:
    addresses: dict[str, tuple[str, ...]] = {}
    for part in text.split(";"):
        device, *rest = part.split()
        addresses[device] = tuple(rest)
    return Node(addresses, addresses.pop("via", ()))


def _settings(text: str) -> str:
    """A section of its own, since one key may stand once in each."""
    return "[connection *]\n" + "".join(f"{line.strip()}\n" for line in text.split(";"))


def _device(text: str) -> Device:
    words = text.split()
    added = frozenset(word[1:] for word in words if word.startswith("+"))
    words = [word for word in words if not word.startswith("+")]
    if words[1] == "xfrm":
        name, kind, if_id = words
        return Device(name, kind, if_id=int(if_id), addresses=added)
    name, kind, local, to, remote, keys = words
    assert to == ">" and kind in ("vti", "vti6"), text
    ikey, okey = keys.split("/")
    return Device(name, kind, local, remote, int(ikey), int(okey), addresses=added)


def _route(text: str, device: str) -> Route:
    match = re.fullmatch(r"([0-9a-f.:]+/\d+)(@\S+?)?(?:\((.*)\))?", text)
    if not match or not (match[2] in (None, f"@{OUTSIDE}") or match[2].startswith("@rule,")):
        raise ValueError(f"no route: {text}")
    extra = dict(pair.split("=") for pair in (match[3] or "").split(",") if pair)
    destination = match[1] + (f" in table {extra.pop('table')}" if "table" in extra else "")
    by = match[2][1:] if match[2] else device
    route = Route(destination, by, extra.pop("src", ""), int(extra.pop("metric", 0)), extra.pop("via", ""))
    assert not extra, text
    return route


def _claims(text: str) -> Mapping[str, int] | None:
    if text == "?":
        return None
    claims: Counter[str] = Counter()
    for word in text.split():
        match = re.fullmatch(r"(\d*)(sa|trap|revive)", word)
        if match:
            claims[match[2]] += int(match[1] or 1)
        elif word != "none":
            raise ValueError(f"no claims: {text}")
    return claims


def sequences() -> list[Sequence]:
    """Both tables, in their order."""
    return [sequence for table in TABLES for sequence in _sequences(table)]


def _sequences(table: Path) -> list[Sequence]:
    nodes: dict[str, Node] = {}
    section: _Section | None = None
    settings = ""
    found: list[Sequence] = []
    for number, line in enumerate(table.read_text(encoding="ascii").splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#") or line == "[nodes]":
            continue
        if line.startswith("["):
            if section:
                found += section.sequences()
            section = _Section(line, nodes, settings)
        elif section:
            section.read(number, line)
        else:
            name, _, rest = line.partition(" ")
            if name == "set":
                settings += _settings(rest)
            else:
                nodes[name] = _node(rest)
    assert section
    return found + section.sequences()
