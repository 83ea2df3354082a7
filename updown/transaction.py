"""From a change of claims to the kernel: what is touched, what is there, the plan, and carrying it out.

What is touched is written to the ledger as unfinished before the kernel is, and cleared after: a call killed in between
leaves a note from which the next event mends everything.
"""

from __future__ import annotations

from collections.abc import Sequence

from updown.kernel.apply import Outcome, apply
from updown.kernel.netlink.rtnetlink import Netlink
from updown.kernel.netlink.xfrm import Xfrm
from updown.ledger.store import Ledger, LedgerError
from updown.model.claims import REVIVE, Change, Claim, FormerHolder
from updown.model.errors import StateError, UpdownError
from updown.model.ipsec import in_use, without_policies_of
from updown.model.objects import Link, Route
from updown.model.operations import Report
from updown.model.resources import Observed, follows_tunnels, key_of, split
from updown.plan.diff import make_plan
from updown.plan.order import Plan, PlanInput
from updown.plan.scope import look_at_touched


def apply_change(
    connection: str,
    change: Change,
    ledger: Ledger,
    netlink: Netlink,
    dry: bool,
    ends: bool = False,
    also: Sequence[str] = (),
    anew: bool = False,
) -> Report:
    """Write the change, plan it and what is touched `also`, and unless `dry` make the kernel follow. The caller has begun a
    transaction. `ends`: the event makes nothing, and a conflict is only told: what it ends has ended, and the daemon will not
    say so again.

    Raises Conflict or KernelError; ledger and kernel are then as before.
    """
    before = {claim.key: claim for new in (*change.put, *change.end) for claim in ledger.claims("key = ?", new.key)}
    for claim in change.end:
        ledger.end(claim)
    for claim in change.put:
        ledger.put(claim)
    newest = change.put[0].key if change.put and not anew else ""
    touched = list(dict.fromkeys([*touched_resources(change, before), *also]))
    return converge(connection, touched, previous_resources(before), newest, ledger, netlink, dry, before, ends, anew)


def finish_pending(ledger: Ledger, netlink: Netlink, dry: bool) -> Report:
    """Finish what an earlier event began. Where that fails it is told, and stays noted: this event is another one's."""
    unfinished = ledger.unfinished()
    if not unfinished:
        return Report("")
    asked = {name: [old] for name, old in unfinished.items()}
    try:
        with ledger.transaction():
            return converge("", list(unfinished), asked, "", ledger, netlink, dry, {})
    except UpdownError as error:
        names = ", ".join(sorted({old.connection for old in unfinished.values() if old.connection}))
        return Report("", warnings=(f"an earlier event of {names or 'ours'} cannot be finished: {error.text}",))


def converge(
    connection: str,
    touched: Sequence[str],
    ended: dict[str, list[FormerHolder]],
    newest: str,
    ledger: Ledger,
    netlink: Netlink,
    dry: bool,
    before: dict[str, Claim],
    ends: bool = False,
    anew: bool = False,
) -> Report:
    """Bring the touched resources to what the claims, as now written, desire; `before` is what to write again on failure."""
    if not touched:
        ledger.commit()
        return Report(connection)
    ground, observed = look_at_touched(touched, ended, newest, ledger, netlink, anew)
    used = used_by_other_tunnels(ground, observed, tuple(before.values()))
    plan = make_plan(ground._replace(ends=ends, anew=anew, used=used), observed)
    for operation in plan.operations:
        if operation.action == "link add" and isinstance(operation.subject, Link):
            netlink.at(
                operation.subject.name
            )  # a namespace that is not there is told before anything is done, or shown
    if dry:
        ledger.finish(ground.holders)
        ledger.commit()
        return Report(connection, plan.operations, plan.warnings)
    if not plan.operations:
        mark_done(ledger, ground, plan, Outcome((), (), (), ()))
        return Report(connection, (), plan.warnings)
    for name, value in plan.made.items():
        if value is not None:
            ledger.set_made(name, value)
    ledger.start(pending(ground))
    ledger.commit()
    try:
        outcome = apply(plan.operations, netlink, ledger.owner)
    except BaseException as error:
        try:
            roll_back(before, newest, ground, plan, ledger)
            if isinstance(error, UpdownError) and (before or newest):
                finish_pending(ledger, netlink, dry)
        except LedgerError as trouble:
            ledger.rollback()
            why = f"{error}; undone, but the ledger could not be told ({trouble}) and keeps the claim"
            raise StateError(why, "free space there; the next event of this machine tries it again") from error
        raise
    warnings = plan.warnings + outcome.warnings
    try:
        ledger.begin()
        mark_done(ledger, ground, plan, outcome)
    except LedgerError as error:
        ledger.rollback()
        warnings += (f"done, but the ledger could not be told ({error}); the next event tells it",)
    return Report(connection, outcome.done, warnings)


def used_by_other_tunnels(ground: PlanInput, observed: Observed, ended: tuple[Claim, ...]) -> frozenset[str]:
    """The devices about to be left that this ledger did not make, but one that was lost (a negative index says so), and whose
    key is in IPsec policies beside those of the claims that end."""
    found = [
        (name, link)
        for name, holders in ground.holders.items()
        if name.startswith("device ") and not holders and (ground.made.get(name) or 0) < 0
        for link in [observed.links.get(split(name)[1])]
        if link is not None
    ]
    if not found:
        return frozenset()
    try:
        with Xfrm() as socket:
            others = without_policies_of(ended, socket.policies())
    except UpdownError:
        return frozenset(name for name, _ in found)
    return frozenset(name for name, link in found if in_use(link, others))


def touched_resources(change: Change, before: dict[str, Claim]) -> list[str]:
    """Resources whose claims change. A claim that only begins to wait touches nothing, but for a device that
    follows its tunnels."""
    names: list[str] = []
    for claim in change.put:
        old = before.get(claim.key)
        if (
            old is not None
            and old.resources == claim.resources
            and claim.kind == REVIVE
            and not follows_tunnels(claim.resources)
        ):
            continue
        names += [key_of(want) for want in (*claim.resources, *(old.resources if old else ()))]
    for claim in change.end:
        names += [key_of(want) for want in claim.resources]
    return list(dict.fromkeys(names))


def previous_resources(before: dict[str, Claim]) -> dict[str, list[FormerHolder]]:
    """What the changed claims asked for before this event."""
    ended: dict[str, list[FormerHolder]] = {}
    for claim in before.values():
        for want in claim.resources:
            ended.setdefault(key_of(want), []).append(FormerHolder(claim.connection, want))
    return ended


def pending(ground: PlanInput) -> list[FormerHolder]:
    """Each touched resource with one who asks, or asked, for it."""
    found: list[FormerHolder] = []
    for name, holders in ground.holders.items():
        last = ground.ended.get(name, [])
        found += (
            last[-1:] if last else [FormerHolder(holder.claim.connection, holder.resource) for holder in holders[:1]]
        )
    return found


def mark_done(ledger: Ledger, ground: PlanInput, plan: Plan, outcome: Outcome) -> None:
    """The event is over: what we made is what we made, its resources are finished. Where something could not be deleted, what
    nobody asks for any more stays unfinished, and so does another tunnel's that could not be put back, and a device that could
    not be set down: the next event tries again."""
    indexes = dict(outcome.indexes)
    not_made = {operation.makes for operation in plan.operations} - {operation.makes for operation in outcome.done}
    left: set[str] = set()
    if any(operation.action.endswith("delete") for operation in outcome.failed):
        left = {name for name, holders in ground.holders.items() if not holders}
    left |= {f"device {one.subject.name}" for one in outcome.failed if isinstance(one.subject, Link)}
    # what was to stand beside a route that has gone with its device by now
    beside = [one.subject for one in outcome.failed if one.action == "route prepend"]
    left |= {key_of(route) for route in beside if isinstance(route, Route)}
    for name in {key_of(operation.subject) for operation in outcome.failed if not isinstance(operation.subject, Link)}:
        if all(holder.claim.key != ground.newest for holder in ground.holders.get(name, [])):
            left.add(name)
    for name in plan.made.keys() - left:
        value = plan.made[name]
        index: int | None = indexes.get(split(name)[1], value) if name.startswith("device ") else value
        ledger.set_made(name, None if name in not_made else index)
    ledger.finish(ground.holders.keys() - left)
    ledger.commit()


def roll_back(before: dict[str, Claim], newest: str, ground: PlanInput, plan: Plan, ledger: Ledger) -> None:
    """The claims as they were. The resources stay unfinished, in case something could not be undone; a device that was only to
    be made is not ours, one that was made anew is known by its attributes (see `device.is_ours`)."""
    ledger.begin()
    if newest and newest not in before:
        ledger.end_key(newest)
    for claim in before.values():
        ledger.end_key(claim.key)  # it may have lost its place
        ledger.put(claim)
    anew = {
        f"device {operation.subject.name}"
        for operation in plan.operations
        if isinstance(operation.subject, Link) and operation.action == "link delete"
    }
    for name in plan.made:
        earlier = ground.made.get(name)
        ledger.set_made(name, 0 if earlier is not None and name in anew else earlier)
    # a device of ours that nobody held before stays as it was: what only the failed claim asked for says nothing of it
    ledger.finish(name for name in ground.holders if ground.made.get(name) is not None and name not in ground.ended)
    ledger.commit()
