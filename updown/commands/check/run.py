"""`vti-updown check`: what is wrong on this machine and how to mend it. This gathers facts; findings.py judges them.

What claims ask for is read by a dry run of `reconcile` on a copy of the ledger. Nothing is changed, and no lock is taken."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping

from updown.commands import probe
from updown.commands.arguments import Arguments
from updown.commands.check.facts import CheckFacts
from updown.commands.check.findings import find, settings
from updown.commands.check.ipsec import CHARON_TABLE
from updown.commands.check.settings import CheckedSettings, check_files
from updown.commands.make import kind_of, missing_keys
from updown.commands.reconcile import orphans
from updown.commands.reconcile import run as reconciling
from updown.commands.reconcile.run import UNREAD
from updown.concerns.sysctls import all_of, conf
from updown.kernel import sysctl
from updown.kernel.netlink import dumps
from updown.ledger import clock, spool
from updown.ledger.liveness import missed_probes
from updown.model import errors
from updown.model.errors import UpdownError
from updown.model.objects import VTIS, Link, family
from updown.output.lines import folded
from updown.output.report import JSON_VERSION, print_answer
from updown.serve import opened, present_state, settings_of
from updown.settings.file import DEFAULT_FILE, Line, is_glob, resolve

MODULES = {"vti": "ip_vti", "vti6": "ip6_vti", "xfrm": "xfrm_interface"}
PROGRAMS = {"mss": "nft"}
"""By key of the settings, what it needs."""

SEE = "docs/troubleshooting.md has this line"


def run(arguments: Arguments, _environ: Mapping[str, str]) -> int:
    """The sub-command: each finding, and status 5 if there is one."""
    checked = read_settings(arguments)
    if arguments.settings:
        found = tuple(settings(CheckFacts(mistakes=checked.mistakes)))
        good = f"settings are in order ({len(checked.lines)} lines)"
    else:
        facts = gather(arguments, checked)
        found = find(facts)
        good = f"nothing found ({len(facts.devices)} devices, {len(facts.claims)} claims)"
    fields = {"version": JSON_VERSION, "findings": [finding._asdict() for finding in found]}
    lines = [line for one in found for line in (*folded("", one.text), *folded("    mend: ", one.mend))]
    print_answer(arguments.json, fields, lines or [f"vti-updown check: {good}"])
    return errors.FOUND if found else errors.DONE


def read_settings(arguments: Arguments) -> CheckedSettings:
    """The settings, with every mistake; a file that was named has to be there."""
    path = arguments.config or DEFAULT_FILE
    if arguments.config and not os.path.exists(path):
        return CheckedSettings((), ((f"{path}: no such file", "write it, or name another one by --config FILE"),))
    return check_files(path)


def gather(arguments: Arguments, checked: CheckedSettings) -> CheckFacts:
    """Everything that the checks look at. What cannot be read is a fact too."""
    notes: list[tuple[str, str]] = []
    with present_state(arguments.state_dir) as place, opened(place, checked.lines, dry=True) as ledger:
        netlink = place.netlink
        claims = tuple(ledger.claims())
        if ledger.note and os.geteuid() == 0:
            notes.append((ledger.note, "the next event begins it anew; docs/troubleshooting.md, the ledger"))
        asked = reconciling.gather(claims)
        facts = CheckFacts(os.geteuid() == 0, claims, *checked, xfrm=asked.xfrm, missed=missed_probes(ledger))
        try:
            netnses = ("", *orphans.netnses(ledger, checked.lines))
            facts = facts._replace(links=tuple(link for netns in netnses for link in dumps.links(netns)))
            lines_of = settings_of(arguments.config, checked.lines, place.files)
            facts = facts._replace(probed=probe.questions(ledger, probe.targets(ledger, lines_of), netlink))
            outcome = reconciling.reconcile_ledger(ledger, netlink, lines_of, asked, clock.now(), dry=True)
            facts = facts._replace(audit=outcome.decision, operations=outcome.report.operations)
            notes += [(told, SEE) for told in outcome.report.warnings if told.kind != UNREAD.kind]  # a finding of its own
        except UpdownError as error:
            notes.append((error.text, error.hint or SEE))
        waiting = len(spool.waiting_events(place.path))
        if waiting:
            mend = "the next event applies them; more and more of them: docs/troubleshooting.md, the lock"
            notes.append((f"{waiting} events got no lock and wait", mend))
        table = tuple(netlink.routes(4, CHARON_TABLE) + netlink.routes(6, CHARON_TABLE))
    lacking, sysctls = (*modules(facts), *programs(checked.lines)), sysctl_values(facts.tunnels)
    return facts._replace(sysctls=sysctls, charon_routes=table, lacking=lacking, notes=tuple(notes))


def sysctl_values(links: Iterable[Link]) -> dict[str, str | None]:
    """The sysctls that the checks look at."""
    names = [link.name for link in links]
    paths = [conf("ipv4", name, key) for name in names for key in ("rp_filter", "disable_xfrm", "forwarding")]
    everyone = [all_of(name, key) for name in names for key in ("rp_filter", "send_redirects")]
    return {path: sysctl.read(path) for path in (*everyone, *paths)}


def modules(facts: CheckFacts) -> Iterator[tuple[str, str, str]]:
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
            mend = f"install the kernel's modules and `modprobe {module}`; cloud and container kernels may lack it"
            yield module, f"{name} needs the kernel module {module}, which this kernel lacks", mend


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


def programs(lines: tuple[Line, ...]) -> Iterator[tuple[str, str, str]]:
    """Programs that a key of the settings needs."""
    for line in lines:
        program = PROGRAMS.get(line.key)
        if program and not shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin"):
            yield program, f"{line.where}: {line.key} needs {program}, which is not here", f"install it: {program}"
