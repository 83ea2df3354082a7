"""`vti-updown probe`: ping the far ends that `probe` in the settings names, and withdraw routes where they do not answer.

Run by a timer, never by the hook. Where a far end misses `MISSES` probes in a row, our routes into its device yield to those of
living tunnels, and it becomes dormant; with the first answer both are undone. The device stays up, since the kernel takes
nothing in through one that is down, so that no probe could ever be answered. What cannot be sent is told, and no miss.
docs/settings.md has the rest of the reasons."""

from __future__ import annotations

import os
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from ipaddress import ip_address, ip_network

from updown.commands.arguments import Arguments
from updown.commands.reconcile.pause import lock_yielder
from updown.kernel import ping
from updown.kernel.netlink.rtnetlink import Netlink
from updown.kernel.netlink.xfrm import Xfrm
from updown.kernel.ping import Answer, Question
from updown.ledger import clock, liveness
from updown.ledger.liveness import MISSES
from updown.ledger.store import Ledger
from updown.model import errors
from updown.model.claims import SaInfo
from updown.model.concern import ip
from updown.model.errors import KernelError, Notice
from updown.model.ipsec import Policy, selector_side, serves_device
from updown.model.objects import Link, bare, family, host, netns_of, placed
from updown.model.operations import Report
from updown.model.record import Any, NamedTuple
from updown.output.lines import folded
from updown.output.report import plan_lines, print_answer, report_fields
from updown.serve import opened, present_state
from updown.settings.file import Line, resolver, settings_lines, settings_of
from updown.transaction import Request, converge_or_warn, finish_pending

SOURCES = 3  # addresses of ours that one far end is asked from at most
ICMP = {4: 1, 6: 58}
NEXT_RUN = "the next run tries again"

LinesOf = Callable[[str], tuple[Line, ...]]
Asked = dict[str, "Question | Answer"]
"""By device what is sent, or why nothing can be."""


class ProbeResult(NamedTuple):
    """What became of one probe: `missed` in a row, 0 where it was answered; `why` it was not."""

    device: str
    far: str
    missed: int
    why: str = ""
    sent: bool = True


class Ours(NamedTuple):
    """Addresses of this machine of one family, in their order: by device; of devices without a tunnel of ours; and of all."""

    on: Mapping[int, list[Any]]
    apart: list[Any]
    every: list[Any]


def run(arguments: Arguments, _environ: Mapping[str, str]) -> int:
    """The sub-command: ask first, without the lock, and lock only to note what came of it."""
    lines = settings_lines(arguments.config)
    with present_state(arguments.state_dir) as place:
        lines_of = settings_of(arguments.config, lines, place.files)
        with opened(place, lines, dry=True) as copy:
            fars = targets(copy, lines_of)
            asked = questions(copy, fars, place.netlink)
            stale = set(liveness.missed_probes(copy)) - set(asked)
        sent = [one for one in asked.values() if isinstance(one, Question)]
        said = {device: one for device, one in asked.items() if isinstance(one, Answer)}
        said.update(zip((one.device for one in sent), ping.ping(sent) if sent else ()))
        if not asked and not stale:
            return print_answers(arguments, [], Report("", remarks=("no device that is up has a `probe`",)))
        with opened(place, lines, arguments.dry_run) as ledger:
            pause = lock_yielder(ledger, os.path.join(place.path, "ledger"))
            answers, report = count_answers(said, fars, lines_of, ledger, place.netlink, arguments.dry_run, pause)
    return print_answers(arguments, answers, report)


def targets(ledger: Ledger, lines_of: LinesOf) -> dict[str, str]:
    """The far address of each device that has a tunnel up and a `probe` in its settings; not of those that only receive."""
    sending = liveness.receiving_devices(ledger)
    far_of = cache(lambda config: resolver(lines_of(config), "probe"))
    said = {
        device: far_of(sa.config)(sa.connection, bare(device))
        for device, sa in liveness.devices_with_sa(ledger).items()
        if device in sending
    }
    return {device: far for device, far in sorted(said.items()) if far}


def questions(ledger: Ledger, fars: Mapping[str, str], netlink: Netlink) -> Asked:
    """How each far address is asked through its device, or why it cannot be."""
    if not fars:
        return {}
    sas, hearing = liveness.sas_on_devices(ledger), liveness.receiving_devices(ledger)
    preferred, link_of, policies = liveness.route_sources(ledger), cache(netlink.link), cache(outbound)

    @cache
    def ours(netns: str, version: int) -> Ours:
        links = (link_of(device) for device in sas if netns_of(device) == netns)
        tunnels = {link.ifindex for link in links if link is not None}
        return addresses_of(netlink.at(placed("", netns)).all_addresses(), version, tunnels)

    def question(device: str, far: str) -> Question | Answer:
        link = link_of(device)
        if link is None:
            return Answer(trouble="the device is not here", mend="vti-updown reconcile")
        here, told = ours(netns_of(device), family(far)), sas[device]
        unfit = misfit(device, far, link, here)
        if unfit:
            return unfit
        selectors, index, may = [(sa.my_client, sa.peer_client) for sa in told], link.ifindex, preferred.get(device, ())

        def sources(pairs: Iterable[tuple[str, str]]) -> tuple[str, ...]:
            return sources_of(local_networks(far, pairs), far, told[0], here, index, may)

        # somebody else's tunnels, which no claim tells of, may lead into it as well
        found = sources(selectors) or sources(pair_of(one) for one in policies() if serves_device(one.key, link))
        return Question(device, far, found, hearing.get(device, (device,)), link.vrf) if found else outside(far, selectors)

    asked: Asked = {}
    for device, far in fars.items():
        try:
            asked[device] = question(device, far)
        except KernelError as error:
            asked[device] = Answer(trouble=error.text, mend=error.hint or NEXT_RUN)
    return asked


def outbound() -> list[Policy]:
    """The policies by which packets leave into tunnels; none where they may not be read."""
    try:
        with Xfrm() as xfrm:
            return [policy for policy in xfrm.policies() if policy.direction == "out" and policy.ends]
    except KernelError:
        return []


def addresses_of(seen: Iterable[tuple[int, str]], version: int, tunnels: set[int]) -> Ours:
    """The addresses of a namespace as they may be asked from: link-local ones by their own device alone."""
    each = sorted((ip_address(host(text)), index) for index, text in seen if family(text) == version)
    on: dict[int, list[Any]] = {}
    for address, index in each:
        on.setdefault(index, []).append(address)
    wide = [(address, index) for address, index in each if not (address.is_loopback or address.is_link_local)]
    return Ours(on, [address for address, index in wide if index not in tunnels], [address for address, _ in wide])


def misfit(device: str, far: str, link: Link, ours: Ours) -> Answer | None:
    """What is wrong with the device, or with the address that is to be asked."""
    if not link.up:
        return Answer(trouble="the device is down", mend=f"{ip(device)} link set {bare(device)} up")
    if link.external:
        return Answer(trouble="an external interface has many peers", mend="`probe = no` for it")
    if inside([ip_network(far)], ours.every):
        return Answer(trouble="that is an address of this machine", mend="name the far end's as `probe`")
    return None


def pair_of(policy: Policy) -> tuple[str, str]:
    """The selectors of a policy, as a claim has them."""
    rest = f" {policy.protocol}/{policy.source_port or policy.destination_port}" if policy.protocol else ""
    return policy.source + rest, policy.destination


def local_networks(far: str, selectors: Iterable[tuple[str, str]]) -> list[Any]:
    """What packets to `far` may come from, by these local and remote selectors."""
    address, found = ip_address(far), []
    for mine, theirs in selectors:
        sides = selector_side(mine), selector_side(theirs)
        if all(side and side.protocol in (0, ICMP[address.version]) and not side.port for side in sides):
            local, remote = sides
            if local and remote and any(address in ip_network(prefix) for prefix in remote.prefixes):
                found += [ip_network(prefix) for prefix in local.prefixes if family(prefix) == address.version]
    return found


def sources_of(
    networks: Sequence[Any], far: str, sa: SaInfo, ours: Ours, index: int, preferred: Iterable[str]
) -> tuple[str, ...]:
    """Which addresses of ours to ask from: the source of its routes, else those of the device, else others of this machine, at
    last those on other tunnels and the tunnel's own end; in each case such as are in one of these networks. Where that is
    everything, its own end is none: whoever sends everything into the tunnel sends its own packets beside it."""
    beside, own = ":" in far and ip_address(far).is_link_local, ours.on.get(index, [])
    if ":" in far:
        own = [one for one in own if one.is_link_local == beside]
    named = sorted({ip_address(one) for one in preferred if family(one) == family(far)})
    here = [one for one in named if one in own or inside([ip_network(one)], ours.every)]
    me = ip_address(sa.me)
    others = [[one for one in inside(networks, each) if one != me] for each in (ours.apart, ours.every)]
    is_here = me.version == ip_address(far).version and inside([ip_network(me)], ours.every)
    mine = inside([network for network in networks if network.prefixlen], [me]) if is_here else []
    for found in (inside(networks, here), inside(networks, own), *(() if beside else (*others, mine))):
        if found:
            return tuple(map(str, dict.fromkeys(found)))[:SOURCES]
    return ()


def inside(networks: Sequence[Any], ordered: Sequence[Any]) -> list[Any]:
    """The first of these addresses, in their order, that are in one of these networks: one more than are asked from."""
    found: list[Any] = []
    for network in networks:
        first = bisect_left(ordered, network.network_address)
        found += ordered[first : bisect_right(ordered, network.broadcast_address)][: SOURCES + 1]
    return found


def outside(far: str, selectors: Sequence[tuple[str, str]]) -> Answer:
    """The tunnel takes no packet from here to there: by which side's selector."""
    side = 0 if local_networks(far, selectors) else 1
    said = ", ".join(list(dict.fromkeys(pair[side] for pair in selectors))[:3])
    if side:
        return Answer(False, f"its tunnel takes {said} only", "name an address in there as `probe`, or none: `probe = no`")
    but = "" if all(network.prefixlen for network in local_networks(far, selectors)) else " but the tunnel's own end"
    return Answer(False, f"no address of this machine{but} is in {said}", "put one on the device: `address`, or `probe = no`")


def count_answers(
    said: Mapping[str, Answer],
    fars: Mapping[str, str],
    lines_of: LinesOf,
    ledger: Ledger,
    netlink: Netlink,
    dry: bool,
    pause: Callable[[], object] = lambda: None,
) -> tuple[list[ProbeResult], Report]:
    """Count what was not answered; where a device crosses the line by that, routes go or come back. Between these others may
    have the lock (`pause`)."""
    report = finish_pending(ledger, netlink, dry)
    answers: list[ProbeResult] = []
    crossing: dict[str, int] = {}
    now = clock.now()
    with ledger.transaction():
        before = liveness.missed_probes(ledger)
        unprobed = liveness.unprobed(ledger, before, lines_of)
        for device in sorted({*before, *said}):
            was, answer = before[device].probes if device in before else 0, said.get(device)
            up = liveness.is_up(ledger, device)
            count = 0 if device in unprobed else counted(was, answer, up)
            if answer and up:
                why = f"cannot be asked ({answer.trouble})" if answer.trouble else "" if answer.heard else "does not answer"
                answers.append(ProbeResult(device, fars[device], count, why, sent=not answer.trouble))
                if answer.trouble:
                    text = f"{device}: {fars[device]} {why}: {answer.mend}"
                    report = report.plus(Report("", warnings=(Notice("not probed", text),)))
            if (was >= MISSES) != (count >= MISSES):
                crossing[device] = count
            elif was != count:
                liveness.set_missed_probes(ledger, device, count, now)
    for device, count in crossing.items():
        pause()
        if count and not liveness.is_up(ledger, device):
            continue  # it went down meanwhile
        note = partial(liveness.set_missed_probes, device=device, probes=count, now=now)
        request = Request(also=ledger.keys_on(device), note=note)
        report = report.plus(converge_or_warn(request, ledger, netlink, dry, f"{device}: "))
    return answers, report


def counted(was: int, answer: Answer | None, up: bool) -> int:
    """How many probes in a row were missed now. What was not asked, or could not be, is no miss; and a silent far end stays so
    until there is an answer, whether its tunnel goes down meanwhile or not."""
    if not up:
        return was if was >= MISSES else 0
    if answer is None or answer.trouble:
        return was
    return 0 if answer.heard else was + 1


def print_answers(arguments: Arguments, answers: list[ProbeResult], report: Report) -> int:
    """What was asked, and what changed; status 1 where something went wrong."""
    talks = arguments.verbose or sys.stdout.isatty()  # a timer's journal gets only what is worth a line
    lines: list[str] = []
    for device, far, count, why, sent in answers:
        if not why:
            lines += [f"# {device}: {far} answers"] if talks else []
        elif sent:  # else a warning says it
            withheld = "; our routes yield" if count >= liveness.MISSES else f" of {liveness.MISSES}"
            lines += folded("# ", f"{device}: {far} {why}, {count}{withheld}")
    if report.operations or report.warnings or (talks and report.remarks):
        lines += plan_lines(report, arguments.verbose)
    probes = [dict(zip(("device", "far", "missed", "why"), answer)) for answer in answers]
    fields = {**report_fields(report), "probes": probes}
    print_answer(arguments.json, fields, lines)
    return errors.FAILED if report.warnings else errors.DONE
