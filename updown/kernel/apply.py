"""Carrying a plan out: each operation to the room that can do it, and back again where one of them fails for good."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress

from updown.concerns.device import identity, is_fallback, moved_mend, moved_text
from updown.kernel import namespace, sysctl
from updown.kernel.actors import perform
from updown.kernel.netlink.rtnetlink import Netlink
from updown.model.errors import Conflict, KernelError, Notice, UpdownError
from updown.model.objects import Link, bare, has_our_alias, netns_of
from updown.model.operations import Operation
from updown.model.record import NamedTuple

Owner = Callable[[str], str]
"""Who holds a device, for a message: `for t`, or `not ours`."""

NOBODY = "not ours"

ALREADY = {
    "address add": (errno.EEXIST,),
    "route prepend": (errno.EEXIST,),
    "route front": (errno.EEXIST,),
    "link delete": (errno.ENODEV,),
    "address delete": (errno.EADDRNOTAVAIL, errno.ENODEV),
    "rule add": (errno.EEXIST,),
    "rule delete": (errno.ENOENT,),
    "route delete": (errno.ESRCH, errno.ENODEV),
}
"""Answers that mean the kernel is where the operation would have taken it."""


class Outcome(NamedTuple):
    """What was done, what could not be, the warnings that says, and the index of a device that was made."""

    done: tuple[Operation, ...]
    failed: tuple[Operation, ...]
    warnings: tuple[Notice, ...]
    indexes: tuple[tuple[str, int], ...]


def apply(operations: tuple[Operation, ...], netlink: Netlink, owner: Owner) -> Outcome:
    """Do all of them; raises what the first fatal failure raised, after undoing those done before, last first."""
    done: list[Operation] = []
    failed: list[tuple[Operation, KernelError]] = []
    indexes: list[tuple[str, int]] = []
    lost: list[Operation] = []
    for operation in operations:
        lost += saved_sysctls(operation, operations)
        try:
            index = perform(operation, netlink)
        except KernelError as error:
            if error.errno in ALREADY.get(operation.action, ()):
                continue
            if operation.fatal or (error.errno == errno.EPERM and operation.action != "sysctl"):
                refusal = as_conflict(operation, error, owner)
                undo(done, netlink, lost)
                raise refusal from None
            failed.append((operation, error))
            continue
        done.append(operation)
        if index:
            indexes.append((operation.subject.name, index))
    return Outcome(tuple(done), tuple(operation for operation, _ in failed), warnings_of(failed), tuple(indexes))


def warnings_of(failed: list[tuple[Operation, KernelError]]) -> tuple[Notice, ...]:
    """A warning each; sysctls that one reason keeps from being written, such as a read-only /proc/sys, share one."""
    alike: dict[object, list[KernelError]] = {}
    for operation, error in failed:
        alike.setdefault(error.errno if operation.action == "sysctl" else error.text, []).append(error)
    return tuple(
        Notice(
            "kernel refused",
            first.text + (f" (and {len(more)} more)" if more else "") + (f"; {first.hint}" if first.hint else ""),
        )
        for first, *more in alike.values()
    )


def saved_sysctls(operation: Operation, operations: tuple[Operation, ...]) -> list[Operation]:
    """The sysctls of a device that is about to be made anew as they are, of those that this plan sets: with its undoing they
    come back too, though no claim may be left that asks for them."""
    if operation.action != "link delete":
        return []
    wanted = [one.subject for one in operations if one.effect == "sysctl"]
    values = [(want, sysctl.read(want.path)) for want in wanted if want.device == operation.subject.name]
    return [Operation("sysctl", want._replace(value=value)) for want, value in values if value]


def undo(done: list[Operation], netlink: Netlink, lost: list[Operation]) -> None:
    """Take back what was done, last first, and then what a device `lost` that was made again by that. What cannot be is left to
    the next event: its resources stay unfinished."""
    for operation in [*(one.undo() for one in reversed(done)), *lost]:
        with suppress(KernelError):
            perform(operation, netlink)


def as_conflict(operation: Operation, error: KernelError, owner: Owner) -> UpdownError:
    """EEXIST for a new device means its name or its identity; we looked for the name before, so it is the identity. For one
    that is changed it is the identity alone."""
    if operation.action not in ("link add", "link change") or error.errno != errno.EEXIST:
        return error
    makes = operation.verb == "add"
    wanted: Link = operation.subject
    ends = f"local {wanted.local} remote {wanted.remote}"
    hint = f"one {wanted.kind} has these ends, whatever its key; delete the other, share it, or use an XFRM interface"
    if wanted.kind == "xfrm":
        ends = "external" if wanted.external else f"if_id {wanted.if_id}"
        hint = "one XFRM interface has this if_id, whatever its name; take its name, delete it, or take another if_id"
    try:
        found = links_of(wanted)
    except UpdownError as missing:
        why = f"{missing.text}, so its name is not known"
        return Conflict(f"{wanted.name}: another device has {ends}", f"{why}. {hint}")
    named = [link for link in found if link.name == bare(wanted.name) and makes]
    if named and is_fallback(named[0]):  # the request itself loaded the module that brings it
        return Conflict(f"{wanted.name} is the kernel's fallback device, not a tunnel", "choose another name")
    if named and netns_of(wanted.name):
        why = f"{bare(wanted.name)} exists here, where {wanted.name} is made before it moves"
        return Conflict(why, f"delete it (ip link del {bare(wanted.name)}), or choose another name")
    if named:
        return Conflict(f"{wanted.name} was made by someone else in this moment", "run the event again")
    same = [link for link in found if identity(link) == identity(wanted)]
    if not same:
        why = f"{wanted.name}: a {wanted.kind} made here and moved to another namespace has {ends}"
        return Conflict(why, f"`vti-updown check` names it; or `ip -all netns exec ip -d link show type {wanted.kind}`")
    if has_our_alias(same[0]) and netns_of(same[0].name) and not netns_of(wanted.name):
        return Conflict(moved_text(wanted.name, same[0]), moved_mend(same[0]))
    who = owner(same[0].name)
    if who == NOBODY and has_our_alias(same[0]):
        who = "ours, renamed"
        if makes:
            renames = f"ip link set {same[0].name} down; ip link set {same[0].name} name {bare(wanted.name)}"
            hint = f"was it {bare(wanted.name)}, it gets its name again by: {renames}; else {hint}"
    return Conflict(f"{wanted.name}: {same[0].name} ({who}) has {ends} already", hint)


def links_of(wanted: Link) -> list[Link]:
    """The links here; and where none of them has the wanted one's identity, those of other namespaces: a device keeps it where
    it was made. Raises UpdownError."""
    from updown.kernel.netlink.dumps import links

    found = links()
    if all(identity(link) != identity(wanted) for link in found):
        for name in namespace.names():
            try:
                found += links(name)
            except UpdownError:
                continue  # a name without a namespace behind it
    return found
