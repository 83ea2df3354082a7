"""`vti-updown check`: what is wrong on this machine and how to mend it. This gathers facts; findings.py judges them.

What claims ask for is read by a dry run of `reconcile` on a copy of the ledger. No lock is taken, and nothing is changed
but the note of what the kernel's counters were (look.py)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping

from updown.commands import probe
from updown.commands.arguments import Arguments
from updown.commands.check.facts import RECONCILE, CheckFacts, Finding, Mistake
from updown.commands.check.findings import find, settings
from updown.commands.check.ipsec import CHARON_TABLE
from updown.commands.check.look import look, remember_counters, wait_for_events
from updown.commands.check.machine import IP_FORWARD, SIX_FORWARD
from updown.commands.check.settings import CheckedSettings, check_files
from updown.commands.check.ways import other_ways
from updown.commands.make import kind_of, missing_keys
from updown.commands.reconcile import orphans
from updown.commands.reconcile import run as reconciling
from updown.commands.reconcile.decide import DAEMONS, Evidence
from updown.commands.reconcile.pause import write_time
from updown.commands.reconcile.run import UNREAD
from updown.concerns.device import identity
from updown.concerns.sysctls import all_of, conf
from updown.daemons.answer import ANSWERED, SILENT
from updown.kernel import namespace, sysctl
from updown.kernel.netlink import dumps
from updown.ledger import clock, failures, spool
from updown.ledger.liveness import missed_probes
from updown.model import errors
from updown.model.errors import Notice, UpdownError
from updown.model.objects import VTIS, Link, family, has_our_alias, netns_of
from updown.output.lines import folded
from updown.output.report import JSON_VERSION, print_answer
from updown.serve import StateDir, opened, present_state
from updown.settings.file import DEFAULT_FILE, Line, is_glob, resolve, settings_of
from updown.settings.keys import LOCK_WAIT

MODULES = {"vti": "ip_vti", "vti6": "ip6_vti", "xfrm": "xfrm_interface"}
PROGRAMS = {"mss": "nft"}
"""By key of the settings, what it needs."""

SEE = "docs/troubleshooting.md has this line"
TOLD_OTHERWISE = (UNREAD.kind, "unclaimed tunnel", "peer silent", "route not ours")
"""Kinds of reconcile's warnings of which there are findings of their own."""

MENDS = {"not done": "vti-updown reconcile  # once more", "no daemon device": "take its tunnel down and up"}
"""By kind of a warning, where it does not say itself."""


def run(arguments: Arguments, _environ: Mapping[str, str]) -> int:
    """The sub-command: each finding, and status 5 if there is one."""
    checked = read_settings(arguments)
    if arguments.settings:
        found = tuple(settings(CheckFacts(mistakes=checked.mistakes)))
        good = f"settings are in order ({len(checked.lines)} lines)"
    else:
        facts, found = look_twice(arguments, checked)
        good = f"nothing found ({len(facts.devices)} devices, {len(facts.claims)} claims)"
    fields = {"version": JSON_VERSION, "findings": [finding._asdict() for finding in found]}
    lines = [line for one in found for line in lines_of(one)]
    print_answer(arguments.json, fields, lines or [f"vti-updown check: {good}"])
    return errors.FOUND if found else errors.DONE


def lines_of(finding: Finding) -> list[str]:
    """A finding for people."""
    return [*folded("", f"{finding.text} [{finding.code}]"), *folded("    mend: ", finding.mend)]


def look_twice(arguments: Arguments, checked: CheckedSettings) -> tuple[CheckFacts, tuple[Finding, ...]]:
    """The facts and what is found in them. Where an event was under way meanwhile, which may just be mending what is found, or
    what the kernel lacks may be a rekeying's, once more after it: what is found both times counts."""
    with present_state(arguments.state_dir) as place:
        path = os.path.join(place.path, "ledger")
        stamp = write_time(path)
        facts = gather(arguments, checked, place)
        found = find(facts)
        if found and (wait_for_events(place.path, LOCK_WAIT) or write_time(path) != stamp or is_rekeying(found)):
            before = {(one.code, one.subject) for one in found}
            facts = gather(arguments, checked, place)
            found = tuple(one for one in find(facts) if (one.code, one.subject) in before)
        if facts.root and not arguments.dry_run:
            remember_counters(place.path)
    return facts, found


def is_rekeying(found: tuple[Finding, ...]) -> bool:
    """Whether something found is as in the moment between a daemon's word and the kernel's."""
    return any(one.code in ("sa-missing", "policy-missing", "tunnel-uncounted") for one in found)


def read_settings(arguments: Arguments) -> CheckedSettings:
    """The settings, with every mistake; a file that was named has to be there."""
    path = arguments.config or DEFAULT_FILE
    if arguments.config and not os.path.exists(path):
        return CheckedSettings((), (Mistake(f"{path}: no such file", "write it, or name another one by --config FILE", path),))
    return check_files(path)


def gather(arguments: Arguments, checked: CheckedSettings, place: StateDir) -> CheckFacts:
    """Everything that the checks look at. What cannot be read is a fact too."""
    notes: list[Finding] = []
    root, config = os.geteuid() == 0, arguments.config or DEFAULT_FILE
    with opened(place, checked.lines, dry=True) as ledger:
        netlink = place.netlink
        claims = tuple(ledger.claims())
        if ledger.note and root:
            mend = f"{RECONCILE}  # it begins the ledger anew, as the next event does"
            notes.append(Finding("ledger-damaged", os.path.join(place.path, "ledger"), ledger.note, mend))
        asked = reconciling.gather(claims)
        children = tuple(child for said in asked.said.values() for child in said.children)
        facts = CheckFacts(root, claims, *checked, xfrm=asked.xfrm, missed=missed_probes(ledger), config=config)
        facts = facts._replace(children=children)
        try:
            netnses = ("", *orphans.netnses(ledger, checked.lines))
            facts = facts._replace(links=tuple(link for netns in netnses for link in dumps.links(netns)))
            facts = facts._replace(moved=tuple(moved_devices(facts)))
            lines_of = settings_of(arguments.config, checked.lines, place.files)
            facts = facts._replace(probed=probe.questions(ledger, probe.targets(ledger, lines_of), netlink))
            outcome = reconciling.reconcile_ledger(ledger, netlink, lines_of, asked, clock.now(), dry=True)
            facts = facts._replace(audit=outcome.decision, operations=outcome.report.operations)
            notes += [as_finding(told) for told in outcome.report.warnings if told.kind not in TOLD_OTHERWISE]
            facts = facts._replace(machine=look(facts, place, netlink))
            facts = facts._replace(other_ways=other_ways(netlink, claims))
        except UpdownError as error:
            notes.append(Finding("not-looked-at", "-", f"{error.text}: the rest is not seen", error.hint or SEE))
        waiting = len(spool.waiting_events(place.path))
        if waiting:
            text = f"{waiting} events got no lock and wait"
            notes.append(Finding("events-wait", place.path, text, f"{RECONCILE}  # it applies them, as the next event does"))
        failed = tuple(failures.failures(place.path, clock.now()))
        facts = facts._replace(failed=failed, booted=clock.booted())
        table = tuple(netlink.routes(4, CHARON_TABLE) + netlink.routes(6, CHARON_TABLE))
    silent = {one.subject for one in notes if one.code == "daemon-silent"}
    notes += [one for one in unasked(asked) if one.subject not in silent]
    lacking = (*modules(facts), *programs(checked.lines))
    paths = [conf("ipv4", one.device, "forwarding") for one in facts.machine.networks]
    sysctls = sysctl_values(facts.tunnels, (*paths, IP_FORWARD, SIX_FORWARD))
    return facts._replace(sysctls=sysctls, charon_routes=table, lacking=lacking, notes=tuple(notes))


def as_finding(told: Notice) -> Finding:
    """What a plan of reconcile's warns of."""
    return Finding(told.kind.replace(" ", "-"), told.subject or "-", str(told), told.mend or MENDS.get(told.kind, SEE))


def unasked(asked: Evidence) -> Iterator[Finding]:
    """Daemons that run and did not tell all: what they have up is not looked at."""
    for daemon, said in asked.said.items():
        name = DAEMONS.get(daemon, daemon)
        if said.state == SILENT:
            yield Finding("daemon-silent", name, f"{name} runs but says nothing ({said.why})", SEE)
        elif said.state == ANSWERED and not said.whole:
            text = f"{name} is at work with IKE SAs of which it does not tell: their tunnels are not looked at"
            yield Finding("not-looked-at", name, text, "vti-updown check  # again, when it has come to rest")


def moved_devices(facts: CheckFacts) -> Iterator[tuple[str, Link]]:
    """Devices that claims ask for here, that are not here, and that are ours in another namespace."""
    wants = {name: each[0].link for name, each in facts.devices.items() if not (netns_of(name) or each[0].by_daemon)}
    missing = {name: want for name, want in wants.items() if name not in facts.by_name}
    found = [link for netns in (namespace.names() if missing else ()) for link in links_in(netns) if has_our_alias(link)]
    for name, want in missing.items():
        same = [link for link in found if identity(link) == identity(want)]
        yield from [(name, link) for link in same if link.kind == want.kind][:1]


def links_in(netns: str) -> list[Link]:
    """The links of a namespace; none of a name without one behind it."""
    try:
        return dumps.links(netns)
    except UpdownError:
        return []


def sysctl_values(links: Iterable[Link], more: Iterable[str]) -> dict[str, str | None]:
    """The sysctls that the checks look at."""
    names = [link.name for link in links]
    paths = [*more]
    paths += [conf("ipv4", name, key) for name in names for key in ("rp_filter", "disable_xfrm", "forwarding")]
    everyone = [all_of(name, key) for name in names for key in ("rp_filter", "send_redirects")]
    return {path: sysctl.read(path) for path in (*everyone, *paths)}


def modules(facts: CheckFacts) -> Iterator[Finding]:
    """Kernel modules that claims or described devices need, and that are neither there nor to be had."""
    users: dict[str, str] = {}
    for name, wants in facts.devices.items():
        users.setdefault(wants[0].link.kind, name)
    for line in facts.lines:
        if line.kind == "device" and not is_glob(line.pattern):
            said = resolve(facts.lines, "", line.pattern)
            six = kind_of(said) in VTIS and family(said.local) == 6
            if not missing_keys(said):
                users.setdefault("vti6" if six else kind_of(said), line.pattern)
    for kind, name in users.items():
        module = MODULES.get(kind, "")
        if module and not any(link.kind == kind for link in facts.links) and not has_module(module):
            mend = f"modprobe {module}  # install the kernel's modules; cloud and container kernels may lack it"
            text = f"{name} needs the kernel module {module}, which this kernel lacks"
            yield Finding("module-missing", name, text, mend)


def has_module(module: str) -> bool:
    """Whether the running kernel has a module, or could load it."""
    if os.path.isdir(f"/sys/module/{module}"):
        return True
    for name in ("modules.builtin", "modules.dep"):
        try:
            with open(f"/lib/modules/{os.uname().release}/{name}", encoding="utf-8", errors="replace") as file:
                if any(line.split(":")[0].strip().rpartition("/")[2].split(".")[0] == module for line in file):
                    return True
        except OSError:
            continue
    return False


def programs(lines: tuple[Line, ...]) -> Iterator[Finding]:
    """Programs that a key of the settings needs."""
    for line in lines:
        program = PROGRAMS.get(line.key)
        if program and not shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin"):
            text = f"{line.where}: {line.key} needs {program}, which is not here"
            yield Finding("program-missing", line.where, text, f"install {program}")
