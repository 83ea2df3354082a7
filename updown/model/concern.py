"""A concern: one kind of thing that tunnels ask for, with everything the rest of the program has to know of it.

Each module in concerns/ ends with its own; concerns/catalogue.py lists them. Ledger, plan, kernel, renderer, `reconcile` and
`check` loop over that list, so that another concern is one file and one line there."""

from __future__ import annotations

from collections.abc import Callable

from updown.model.objects import Link, netns_of
from updown.model.operations import Operation, Reason, Thing
from updown.model.record import Any, NamedTuple
from updown.model.resources import Left, Resource, Resources


def itself(asked: Any, _left: Left, _link: Link | None) -> Any:
    """What is asked for is what should stand in the kernel."""
    return asked


def no_change(_asked: Any, _reason: Any, _left: Left) -> list[Operation]:
    """Nothing of its own in the kernel: it shapes another concern's."""
    return []


def no_command(operation: Operation) -> str:
    """Nothing of its own is ever done."""
    raise NotImplementedError(operation.action)


class Concern(NamedTuple):
    """`kind` is the first word of a resource's key, `record` what a claim asks for, `key` the rest of its key: claims share
    what has one key. `wants`: what a tunnel (device_request.py) asks for. `thing`: what should stand in the kernel for it,
    given what there is and the device's link; None where nothing is needed. `diff`: the operations that bring a thing about;
    `remove`: those that end what the last claim asked for. `command`: an operation as a person would type it, `told`: what it
    mends, for `check`. `owner` says who notes that the thing is ours: the kernel (protocol, alias), the ledger, or its name."""

    kind: str
    record: type[Any]
    key: Callable[[Any], str]
    wants: Callable[[Any], Resources]
    thing: Callable[[Any, Left, Link | None], Thing | None] = itself
    diff: Callable[[Any, str, Left], list[Operation]] = no_change
    remove: Callable[[Any, Reason, Left], list[Operation]] = no_change
    command: Callable[[Operation], str] = no_command
    told: Callable[[Operation], str] = no_command
    load: Callable[[list[Any]], Resource] | None = None  # from what JSON made of its fields; None: they are plain
    owner: str = "kernel"


def ip(device: str) -> str:
    """`ip`, in the namespace of the device."""
    return f"ip -n {netns_of(device)}" if netns_of(device) else "ip"


def there(device: str) -> str:
    """The end of a key that names the namespace of a device; empty for the hook's own."""
    return f" @{netns_of(device)}" if netns_of(device) else ""


def in_row(*words: tuple[str, object]) -> str:
    """A command from its words; of each, whether it is said."""
    return " ".join(word for word, is_said in words if is_said)


def verb(operation: Operation) -> str:
    """What iproute2 calls an action: add, del, replace, prepend."""
    return {"delete": "del", "front": "prepend"}.get(operation.verb, operation.verb)


def told_as(noun: Callable[[Any], str]) -> Callable[[Operation], str]:
    """What an operation finds wrong with a thing that is called so, for `check`."""

    def told(operation: Operation) -> str:
        state = {"add": "is missing", "front": "is missing", "delete": "is left over", "replace": "is another"}.get(
            operation.verb, ""
        )
        return f"{operation.subject.device or 'here'}: {noun(operation.subject)} {state}"

    return told
