"""Reads expectations.txt, the table written by hand; says nothing about what is right."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Tuple

from tests.recordings import Call, Recording

TABLE = Path(__file__).with_name("expectations.txt")
OUTSIDE = "eth0"  # where a route with @eth0 goes


class Device(NamedTuple):
    name: str
    kind: str
    local: str = ""
    remote: str = ""  # "any"
    ikey: int = 0
    okey: int = 0
    if_id: int = 0
    addresses: FrozenSet[str] = frozenset()

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
    """What the node holds of ours; the device may be pluto's."""

    device: Optional[Device] = None
    routes: FrozenSet[Route] = frozenset()
    claims: Optional[Mapping[str, int]] = {}  # None: the documents do not say

    def __str__(self) -> str:
        routes = " ".join(map(str, sorted(self.routes))) or "no route"
        return f"{self.device or 'no device'} | {routes}"


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

    addresses: Mapping[str, Tuple[str, ...]]
    gateways: Tuple[str, ...]


class Made(NamedTuple):
    """A device that is there before the first call; `name` may be `name@parent`."""

    name: str
    if_id: int
    addresses: Tuple[str, ...]


class Sequence(NamedTuple):
    """The calls of one recording and what each leaves."""

    recording: Recording
    variant: str
    node: Node
    made: Optional[Made]
    changes: Mapping[str, Optional[str]]  # None: without the variable
    steps: List[Step]

    def __str__(self) -> str:
        return f"{self.recording}" + (f":{self.variant}" if self.variant else "")

    def environment(self, call: Call) -> Dict[str, str]:
        """What the call has in its environment, with the changes of the variant."""
        environment = {name: value for name, value in call.environment.items() if name not in self.changes}
        environment.update({name: value for name, value in self.changes.items() if value is not None})
        return environment


class _Section:
    """The lines between two headings, while they are read."""

    def __init__(self, heading: str, nodes: Mapping[str, Node]) -> None:
        match = re.fullmatch(r"\[(\S+) (\S+): ([^\]]+)\] ?(\S*)", heading)
        if not match:
            raise ValueError(f"no heading: {heading}")
        self.version, self.name, scenarios, self.variant = match.groups()
        self.scenarios = scenarios.split()
        self.node = nodes[self.name]
        self.made: Optional[Made] = None
        self.changes: Dict[str, Optional[str]] = {}
        self.device: Optional[Device] = None
        self.state = State()
        self.steps: List[Step] = []

    def read(self, number: int, line: str) -> None:
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if word == "node":
            self.node = _node(rest)
        elif word == "made":
            name, kind, if_id, *addresses = rest.split()
            assert kind == "xfrm", line
            self.made = Made(name, int(if_id), tuple(addresses))
            self.state = State(Device(name.split("@")[0], "xfrm", if_id=int(if_id), addresses=frozenset(addresses)))
        elif word == "with":
            self.changes.update((name, value) for name, _, value in (pair.partition("=") for pair in rest.split()))
        elif word == "without":
            self.changes.update((name, None) for name in rest.split())
        elif word == "on":
            self.device = _device(rest)
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
            dev, *routes = held.split()
            if dev != "dev" or not self.device or not claims:
                raise ValueError(f"line {line}: not understood: {text}")
            name = self.device.name
            self.state = State(self.device, frozenset(_route(route, name) for route in routes), _claims(claims))
        return Step(line, call, verb, self.state, match[2] or "", int(match[3] or 0))

    def sequences(self) -> List[Sequence]:
        return [
            Sequence(
                Recording(self.version, scenario, self.name),
                self.variant,
                self.node,
                self.made,
                self.changes,
                self.steps,
            )
            for scenario in self.scenarios
        ]


def _node(text: str) -> Node:
    addresses: Dict[str, Tuple[str, ...]] = {}
    for part in text.split(";"):
        device, *rest = part.split()
        addresses[device] = tuple(rest)
    return Node(addresses, addresses.pop("via", ()))


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
    if not match or match[2] not in (None, f"@{OUTSIDE}"):
        raise ValueError(f"no route: {text}")
    extra = dict(pair.split("=") for pair in (match[3] or "").split(",") if pair)
    route = Route(
        match[1],
        OUTSIDE if match[2] else device,
        extra.pop("src", ""),
        int(extra.pop("metric", 0)),
        extra.pop("via", ""),
    )
    assert not extra, text
    return route


def _claims(text: str) -> Optional[Mapping[str, int]]:
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


def sequences() -> List[Sequence]:
    """The whole table, in its order."""
    nodes: Dict[str, Node] = {}
    section: Optional[_Section] = None
    found: List[Sequence] = []
    for number, line in enumerate(TABLE.read_text(encoding="ascii").splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#") or line == "[nodes]":
            continue
        if line.startswith("["):
            if section:
                found += section.sequences()
            section = _Section(line, nodes)
        elif section:
            section.read(number, line)
        else:
            name, _, rest = line.partition(" ")
            nodes[name] = _node(rest)
    assert section
    return found + section.sequences()
