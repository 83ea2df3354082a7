"""Many tunnels: the kernel model with indexes where the real kernel has them, and what one event costs.

Costs are counts, not times: steps of SQLite's virtual machine, questions to the kernel with the rows of their answers, changes.
"""

import ipaddress
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from tests.kit.kernel_model import DEFAULT_SYSCTLS, LOCAL_TABLE, Entry, Kernel, identity, kept, place, refuse
from updown.kernel.netlink.route_messages import LOCAL, RouteSeen
from updown.ledger.store import Ledger
from updown.model.objects import MAIN_TABLE, Link, Route

Prefix = tuple[int, int, int]
QUESTIONS = ("link", "link_at", "addresses", "lasting_addresses", "match", "path", "routes", "read_sysctl", "links")


class Costs(NamedTuple):
    """What one event cost."""

    steps: int
    questions: int
    rows: int
    changes: int


class LargeKernel(Kernel):
    """The model's rules as far as plain tunnels need them: no replaced routes, no lost sources, no fallback devices."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.identities: dict[tuple[object, ...], int] = {}
        self.hosts: dict[str, int] = {}
        self.prefixes: dict[Prefix, list[Entry]] = {}
        self.through: dict[int, list[Entry]] = {}
        super().__init__()

    def link(self, name: str) -> Optional[Link]:
        return self.by_index.get(self.names.get(name, 0))

    def _new(self, link: Link) -> int:
        index = super()._new(link)
        self.names[link.name] = index
        self.identities[(link.kind, *identity(link))] = index
        return index

    def _check_identity(self, link: Link, but: int) -> None:
        if self.identities.get((link.kind, *identity(link)), but) not in (0, but):
            refuse(f"link {link.name}", 17)

    def remove(self, index: int) -> None:
        link = self.by_index.pop(index)
        del self.names[link.name]
        del self.identities[(link.kind, *identity(link))]
        for address in self.addressed.pop(index):
            del self.hosts[address.split("/")[0]]
        for entry in self.through.pop(index, []):
            self.prefixes[prefix(entry.route.destination)].remove(entry)
        for family, keys in DEFAULT_SYSCTLS.items():
            for key in keys:
                self.files.pop(f"net/{family}/conf/{link.name}/{key}", None)

    def physical(self, name: str, *addresses: str) -> int:
        index = super().physical(name, *addresses)
        self.hosts.update({address.split("/")[0]: index for address in addresses})
        return index

    def add_address(self, index: int, address: str, replace: bool = False, device: str = "") -> None:
        super().add_address(index, address, replace, device)
        self.hosts[address.split("/")[0]] = index

    def delete_address(self, index: int, address: str, device: str = "") -> None:  # noqa: ARG002
        self._change(f"address delete {address}")
        self.addressed[index].remove(address)
        del self.hosts[address.split("/")[0]]

    def add_route(
        self, route: Route, oif: int = 0, replace: bool = False, hops: Sequence[int] = (), beside: bool = False
    ) -> None:
        assert not hops
        assert not beside
        what = f"route add {route.destination}"
        self._change(what)
        link = self.by_index[oif or self.named(route.device).ifindex]
        entry = Entry(kept(route, link.name), link.ifindex)
        slot = self.prefixes.setdefault(prefix(route.destination), [])
        if replace or not link.up or any(place(have.route) == place(entry.route) for have in slot):
            refuse(what, 22)
        slot.append(entry)
        self.through.setdefault(link.ifindex, []).append(entry)

    def delete_route(self, route: Route, oif: int = 0) -> None:
        self._change(f"route delete {route.destination}")
        slot = self.prefixes.get(prefix(route.destination), [])
        for entry in slot:
            if entry.oif == oif and entry.route.protocol == route.protocol:
                slot.remove(entry)
                self.through[oif].remove(entry)
                return
        refuse(f"route delete {route.destination}", 3)

    def _best(self, address: str, oif: int, _mark: int = 0) -> Optional[RouteSeen]:
        if address in self.hosts:
            full = 128 if ":" in address else 32
            return RouteSeen(f"{address}/{full}", self.names["lo"], table=LOCAL_TABLE, protocol=2, type=LOCAL)
        version, length, bits = prefix(address)
        for shorter in range(length, -1, -1):
            for route, index, _ in self.prefixes.get((version, shorter, bits >> (length - shorter)), []):
                if oif in (0, index):
                    found = RouteSeen(route.destination, index, route.gateway, MAIN_TABLE, route.metric, source=route.source)
                    return found._replace(protocol=route.protocol)
        return None

    def everything(self) -> tuple[object, ...]:
        """What is there now, but for indexes."""
        routes = sorted(entry.route for slot in self.prefixes.values() for entry in slot)
        return sorted(self.names), sorted(self.hosts), routes, dict(self.files)


def prefix(destination: str) -> Prefix:
    """Version, length, and the bits that count."""
    network = ipaddress.ip_interface(destination).network
    return (network.version, network.prefixlen, int(network.network_address) >> (network.max_prefixlen - network.prefixlen))


class Meter:
    """Counts what events cost while it runs."""

    def __init__(self, kernel: Kernel, ledger: Ledger) -> None:
        self.kernel, self.ledger = kernel, ledger
        self.steps = self.questions = self.rows = self.before = 0

    def step(self) -> int:
        self.steps += 1
        return 0

    def __enter__(self) -> "Meter":
        self.before = len(self.kernel.changes)
        self.ledger.base.set_progress_handler(self.step, 1)
        for name in QUESTIONS:
            setattr(self.kernel, name, self.counting(getattr(self.kernel, name)))
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.base.set_progress_handler(None, 1)
        for name in QUESTIONS:
            delattr(self.kernel, name)

    def counting(self, real: Any) -> Any:
        """A question that is counted, and the rows of its answer."""

        def ask(*arguments: Any, **more: Any) -> Any:
            self.questions += 1
            answer = real(*arguments, **more)
            self.rows += len(answer) if isinstance(answer, list) else 1
            return answer

        return ask

    @property
    def costs(self) -> Costs:
        """What was counted."""
        return Costs(self.steps, self.questions, self.rows, len(self.kernel.changes) - self.before)
