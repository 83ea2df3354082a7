"""Recorded calls played on the model machine, step by step as the tables of expectations have them."""

from __future__ import annotations

from collections import Counter

from tests.kernel.expectations import OUTSIDE, Device, Made, Route, Sequence, State
from tests.kit.kernel_model import Kernel
from tests.kit.machine import Machine
from updown.concerns.routes import IPV6_DEFAULT_METRIC
from updown.model import objects
from updown.model.errors import Conflict
from updown.model.objects import MAIN_TABLE, OUR_PROTOCOL, Link


def seen(kernel: Kernel) -> State:
    """What the machine holds of ours, in the words of the table."""
    names = {index: link.name for index, link in kernel.by_index.items()}
    routes = [(entry.route, names[entry.oif]) for entry in kernel.table if entry.route.protocol == OUR_PROTOCOL]
    plain = {index: link for index, link in kernel.by_index.items() if link.kind}
    rules = [
        Route(rule.destination, f"rule,{rule.priority},{rule.fwmark:#x},{rule.table}")
        for rule in kernel.policy
        if rule.protocol == OUR_PROTOCOL
    ]
    return State(
        frozenset(
            Device(
                link.name,
                link.kind,
                "" if link.kind == "xfrm" else link.local,
                "any" if link.remote in ("0.0.0.0", "::") else link.remote,
                link.ikey,
                link.okey,
                link.if_id,
                frozenset(address for address in kernel.addresses(index) if not address.startswith("fe80:")),
            )
            for index, link in plain.items()
        ),
        frozenset(
            Route(
                route.destination + (f" in table {route.table}" if route.table != MAIN_TABLE else ""),
                device,
                "" if device == OUTSIDE else route.source,
                route.metric % IPV6_DEFAULT_METRIC,
                route.gateway,
            )
            for route, device in routes
        )
        | frozenset(rules),
    )


def prepare(machine: Machine, sequence: Sequence) -> None:
    """The sequence's own addresses on eth0 and beside it, and its settings."""
    eth0 = machine.kernel.named(OUTSIDE).ifindex
    for address in machine.kernel.addresses(eth0):
        machine.kernel.delete_address(eth0, address)
    for address in sequence.node.addresses[OUTSIDE]:
        machine.kernel.add_address(eth0, address)
    for device, addresses in sequence.node.addresses.items():
        if device != OUTSIDE:
            machine.kernel.physical(device, *addresses)
    machine.kernel.table = []
    for gateway in sequence.node.gateways:
        happens(machine.kernel, f"route add default via {gateway}")
    if sequence.made:
        make(machine.kernel, sequence.made)
    machine.settings(sequence.settings)


def make(kernel: Kernel, made: Made) -> None:
    """A device that is there before the first call."""
    name = made.name.partition("@")[0]
    kernel.add_link(Link(name, "xfrm", if_id=made.if_id, up=True))
    for address in made.addresses:
        kernel.add_address(kernel.named(name).ifindex, address)


def status_of(machine: Machine, environment: dict[str, str]) -> int:
    """The exit status that the event would have."""
    try:
        machine.send(environment)
    except Conflict:
        return 3
    return 0


def happens(kernel: Kernel, command: str) -> None:
    """What `ip` does at the words that the tables have: of eth0's addresses, its default route, and other devices."""
    what, verb, *rest = command.split()
    eth0 = kernel.named(OUTSIDE).ifindex
    if what == "addr":
        (kernel.add_address if verb == "add" else kernel.delete_address)(eth0, rest[0])
    elif what == "route":
        assert (verb, rest[:2]) == ("add", ["default", "via"]), command
        kernel.add_route(objects.Route("0.0.0.0/0", OUTSIDE, rest[2], protocol=3), eth0)
    elif verb == "del":
        kernel.remove(kernel.named(rest[0]).ifindex)
    else:
        kernel.set_link(kernel.physical(rest[0]), up=False)


def differences(machine: Machine, sequence: Sequence) -> list[str]:
    """Send the calls, each once, and say where the machine holds something else than the table says."""
    prepare(machine, sequence)
    calls = {call.number: call for call in sequence.recording.calls()}
    found = []
    for step in sequence.steps:
        if step.command:
            happens(machine.kernel, step.command)
            continue
        status = status_of(machine, sequence.environment(calls[step.number]))
        state = State(*seen(machine.kernel)[:2], step.state.claims)
        held = Counter(claim.kind for claim in machine.claims())
        where = f"line {step.line}, after {calls[step.number].name}: "
        if status != step.status:
            found.append(f"{where}status {status}, not {step.status}")
        if state != step.state:
            found.append(f"{where}{state}, not {step.state}")
        if step.state.claims is not None and held != step.state.claims:
            found.append(f"{where}claims {dict(held)}, not {dict(step.state.claims)}")
    return found
