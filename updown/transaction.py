"""The one loop: what is asked for, what is there, the plan, and carrying it out. Whatever changes the kernel is a request to
`converge`.

What is touched is written to the ledger as unfinished before the kernel is, and cleared after: a call killed in between
leaves a note from which the next event mends everything."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from updown.concerns.catalogue import key_of
from updown.kernel.apply import Outcome, apply
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger import liveness
from updown.ledger.store import Ledger, LedgerError
from updown.model.claims import REVIVE, Change, Claim, FormerHolder
from updown.model.errors import Notice, StateError, UpdownError
from updown.model.objects import Link, Route
from updown.model.operations import Report
from updown.model.record import NamedTuple
from updown.model.resources import Observed, follows_tunnels, split
from updown.plan.diff import make_plan
from updown.plan.inputs import Plan, PlanInput, is_ownership
from updown.plan.scope import Touched, look


class Request(NamedTuple):
    """What is to come about: claims that change, keys of resources to plan `also`, and resources that somebody asked for
    before, which nobody may ask for now. `note` is written in the same transaction.

    `ends`: the event makes nothing, and a conflict is only told: what it ends has ended, and the daemon will not say so again.
    `anew`: all claims are looked at, and none is the newest."""

    connection: str = ""
    change: Change = Change()
    also: Sequence[str] = ()
    former: Sequence[FormerHolder] = ()
    note: Callable[[Ledger], None] | None = None
    plan: Callable[[PlanInput, Observed], Plan] = make_plan
    ends: bool = False
    anew: bool = False

    @property
    def newest(self) -> str:
        """The key of the claim that is made or renewed; empty where none is."""
        return self.change.put[0].key if self.change.put and not self.anew else ""


def converge(request: Request, ledger: Ledger, netlink: Netlink, dry: bool) -> Report:
    """Write the request, plan what it touches, and make the kernel follow; `dry`, with a copy of the ledger, it is written as
    if the kernel had. Nobody else changes the kernel, and the caller has no transaction open. Raises Conflict or KernelError;
    ledger and kernel are then as before."""
    with ledger.transaction():
        before, woken = write_change(request, ledger)
        request = request._replace(also=[*request.also, *woken])
        inputs, plan = plan_touched(request, before, ledger, netlink)
        if dry or not plan.operations:
            mark_done(ledger, inputs, plan, Outcome(plan.operations, (), (), ()))
            return Report(request.connection, plan.operations, plan.warnings, plan.remarks)
        for name, value in plan.made.items():
            if value is not None:
                ledger.set_made(name, value)
        ledger.start(pending(inputs))
    try:
        outcome = apply(plan.operations, netlink, ledger.owner)
    except BaseException as error:
        try:
            with ledger.transaction():
                roll_back(before, request.newest, inputs, plan, ledger)
            if isinstance(error, UpdownError) and (before or request.newest):
                finish_pending(ledger, netlink, dry)
        except LedgerError as trouble:
            why = f"{error}; undone, but the ledger could not be told ({trouble}) and keeps the claim"
            raise StateError(why, "free space there; the next event of this machine tries it again") from error
        raise
    warnings = plan.warnings + outcome.warnings
    try:
        with ledger.transaction():
            mark_done(ledger, inputs, plan, outcome)
    except LedgerError as error:
        text = f"done, but the ledger could not be told ({error}); the next event tells it"
        warnings += (Notice("ledger not told", text),)
    return Report(request.connection, outcome.done, warnings, plan.remarks)


def finish_pending(ledger: Ledger, netlink: Netlink, dry: bool) -> Report:
    """Finish what an earlier event began. Where that fails it is told, and stays noted: this event is another one's."""
    report = Report("")
    parts: dict[bool, list[FormerHolder]] = {True: [], False: []}
    for old in ledger.unfinished().values():
        parts[is_ownership(old)].append(old)
    for ownership, former in parts.items():
        names = ", ".join(sorted({old.connection for old in former if old.connection and not ownership}))
        if former:
            if ownership:
                from updown.plan.ownership import plan_ownership  # an `adopt` or `release` was killed
            request = Request(former=former, plan=plan_ownership if ownership else make_plan)
            what = f"an earlier event of {names or 'ours'} cannot be finished: "
            report = report.plus(converge_or_warn(request, ledger, netlink, dry, what))
    return report


def converge_or_warn(request: Request, ledger: Ledger, netlink: Netlink, dry: bool, what: str = "") -> Report:
    """The same, where a failure is told after `what` and keeps nothing else from its due."""
    try:
        return converge(request, ledger, netlink, dry)
    except UpdownError as error:
        return as_warning(error, what)


def as_warning(error: UpdownError, what: str = "") -> Report:
    """What could not be done, after `what`, and what to do about it."""
    text = f"{what}{error.text}{f'; {error.hint}' if error.hint else ''}"
    return Report("", warnings=(Notice("not done", text, mend=error.hint),))


def write_change(request: Request, ledger: Ledger) -> tuple[dict[str, Claim], list[str]]:
    """Write the request; by key, the claims that it changes as they were, and the keys of what hangs on devices that are taken
    for silent no longer."""
    change = request.change
    keys = [claim.key for claim in (*change.put, *change.end)]
    before = {claim.key: claim for key in keys for claim in ledger.claims("key = ?", key)}
    if request.note is not None:
        request.note(ledger)
    for claim in change.end:
        ledger.end(claim.key)
    devices = list(dict.fromkeys(claim.device for claim in (*change.put, *before.values())))
    woken = liveness.forget_left(ledger, devices)
    for claim in change.put:
        ledger.put(claim)
    woken += liveness.forget_left(ledger, devices)
    return before, [key for device in woken for key in ledger.keys_on(device)]


def plan_touched(request: Request, before: dict[str, Claim], ledger: Ledger, netlink: Netlink) -> tuple[PlanInput, Plan]:
    """The plan for everything that the request touches, and what it was made from. Raises Conflict or KernelError."""
    former = former_holders(request, before)
    asked = (key_of(old.resource) for old in request.former)
    touched = list(dict.fromkeys([*touched_resources(request.change, before), *request.also, *asked]))
    alone = request.plan is not make_plan  # it takes nothing along
    ended = tuple(before.values())
    what = Touched(touched, former, request.newest, ended, request.ends, alone)
    inputs, observed = look(what, ledger, netlink)
    return inputs, request.plan(inputs, observed)


def touched_resources(change: Change, before: dict[str, Claim]) -> list[str]:
    """Resources whose claims change. A claim that only begins to wait touches its routes, which may yield, and everything where
    a device follows tunnels."""
    names: list[str] = []
    for claim in change.put:
        old = before.get(claim.key)
        waits = claim.kind == REVIVE and not follows_tunnels(claim.resources)
        only_routes = waits and old is not None and old.resources == claim.resources
        wants = (*claim.resources, *(old.resources if old else ()))
        names += [key_of(want) for want in wants if isinstance(want, Route) or not only_routes]
    for claim in change.end:
        names += [key_of(want) for want in claim.resources]
    return list(dict.fromkeys(names))


def former_holders(request: Request, before: dict[str, Claim]) -> dict[str, list[FormerHolder]]:
    """By key, what the changed claims asked for before, and what the request says was asked for."""
    found: dict[str, list[FormerHolder]] = {}
    renewed = [before[claim.key] for claim in request.change.put if claim.key in before]
    claims = {claim.key: claim for claim in (*renewed, *request.change.end)}.values()
    each = [FormerHolder(claim.connection, want) for claim in claims for want in claim.resources]
    for old in (*each, *request.former):
        found.setdefault(key_of(old.resource), []).append(old)
    return found


def pending(inputs: PlanInput) -> list[FormerHolder]:
    """Each touched resource with one who asks, or asked, for it."""
    found: list[FormerHolder] = []
    for name, holders in inputs.holders.items():
        asking = [FormerHolder(holder.claim.connection, holder.resource) for holder in holders[:1]]
        found += inputs.former.get(name, [])[-1:] or asking
    return found


def mark_done(ledger: Ledger, inputs: PlanInput, plan: Plan, outcome: Outcome) -> None:
    """The event is over: what we made is what we made, its resources are finished. Where something could not be deleted, what
    nobody asks for any more stays unfinished, and so does another tunnel's that could not be put back, and a device that could
    not be set down: the next event tries again."""
    indexes = dict(outcome.indexes)
    not_made = {operation.makes for operation in plan.operations} - {operation.makes for operation in outcome.done}
    left: set[str] = set()
    if any(operation.verb == "delete" for operation in outcome.failed):
        left = {name for name, holders in inputs.holders.items() if not holders}
    for one in outcome.failed:
        name = f"device {one.subject.name}" if isinstance(one.subject, Link) else key_of(one.subject)
        others = all(holder.claim.key != inputs.newest for holder in inputs.holders.get(name, []))
        # `prepend`: what was to stand beside a route that has gone with its device by now
        if isinstance(one.subject, Link) or one.action == "route prepend" or others:
            left.add(name)
    for name in plan.made.keys() - left:
        value = plan.made[name]
        index: int | None = indexes.get(split(name)[1], value) if name.startswith("device ") else value
        ledger.set_made(name, None if name in not_made else index)
    ledger.finish(inputs.holders.keys() - left)


def roll_back(before: dict[str, Claim], newest: str, inputs: PlanInput, plan: Plan, ledger: Ledger) -> None:
    """The claims as they were. The resources stay unfinished, in case something could not be undone; a device that was only to
    be made is not ours, one that was made anew is known by its attributes (see `device.is_ours`)."""
    for key in {newest, *before}:
        ledger.end(key)  # it may have lost its place
    for claim in before.values():
        ledger.put(claim)
    links = [one.subject.name for one in plan.operations if one.action == "link delete"]
    anew = {f"device {name}" for name in links}
    for name in plan.made:
        earlier = inputs.made.get(name)
        ledger.set_made(name, 0 if earlier is not None and name in anew else earlier)
    # a device of ours that nobody held before stays as it was: what only the failed claim asked for says nothing of it
    alone = [name for name, asking in inputs.holders.items() if all(one.claim.key == newest for one in asking)]
    ledger.finish(name for name in alone if inputs.made.get(name) is not None and name not in inputs.former)
