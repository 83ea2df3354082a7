"""Findings about a confinement (AppArmor, SELinux) that keeps the hook from its work: what the kernel wrote to the journal
since it was given the profile or policy. `journal` reads the machine, the rest is pure.

The lines are those of security/apparmor/audit.c and security/selinux/avc.c; the journal has them from the kernel's log, or by
its own audit socket. Where auditd alone takes them they are not seen."""

from __future__ import annotations

import os
import re
import shlex
import string
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from updown.commands.check.facts import CheckFacts, Denial, Finding, appended
from updown.daemons.program import read_all, reap
from updown.ledger.file import STATE_DIR
from updown.model.record import loads
from updown.model.values import escaped
from updown.settings.file import DEFAULT_FILE

ENABLED = "/sys/module/apparmor/parameters/enabled"
SELINUX = "/sys/fs/selinux/enforce"
PROFILES = "/etc/apparmor.d"
JOURNALCTL = "/usr/bin/journalctl"
JOURNALS = ("/run/log/journal", "/var/log/journal")
ENTRIES = 5000  # of these since boot, the latest
WORDS = "apparmor=|avc:  denied|policy loaded"
ANSWER_SECONDS = 10.0
LARGEST = 16 * 1024 * 1024  # bytes
OURS = "vti-updown"

LINE = re.compile(r"(?:audit: type=14\d\d audit\([\d.:]+\): |AVC )(?=apparmor=|avc:  denied)")
LOADED = re.compile(r"(?:audit: type=1403 audit\([\d.:]+\): |MAC_POLICY_LOAD )(?:policy loaded|auid)")
"""How the audit's lines begin: what else is in the kernel's log may have words of anybody's in it, as a crashed process's."""

PLAIN = frozenset(string.ascii_letters + string.digits + "/._+-:@~ ,")

LOADS = ("profile_load", "profile_replace", "profile_remove")

NEEDED = (
    f'"{os.path.dirname(DEFAULT_FILE)}/{{,**}}" r,',
    f'"{STATE_DIR}/{{,**}}" rwk,',
    '"@{PROC}/{sys/net/**,*/ns/net,sys/kernel/random/boot_id,net/xfrm_stat}" rw,',
    '"/usr/{,local/}lib/python3*/{,**}" mr,',
    "network netlink raw,",
    "capability net_admin,",
)
"""What the hook cannot work without, as lines of a profile: who denies it one of them would deny the others next."""


def confined() -> bool:
    """Whether AppArmor or SELinux is at work on this machine."""
    with suppress(OSError), open(ENABLED, encoding="ascii") as file:
        if file.read().strip() == "Y":
            return True
    return os.path.exists(SELINUX)


def journal() -> tuple[tuple[Denial, ...], str]:
    """What was denied to us since boot, and why that is not known, else nothing."""
    if not confined():
        return (), ""
    if not any(map(os.path.isdir, JOURNALS)):  # of none at all journalctl says no more than of one without these words
        return (), f"there is no journal: neither {' nor '.join(JOURNALS)}"
    words = ["-b", "-o", "json", "--no-pager", "--output-fields=MESSAGE", "-n", str(ENTRIES), f"--grep={WORDS}"]
    command = [JOURNALCTL, *words, "_TRANSPORT=kernel", "+", "_TRANSPORT=audit"]
    try:
        child = subprocess.Popen(command, env={}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        return (), f"{JOURNALCTL}: {error.strerror}"
    assert child.stdout is not None and child.stderr is not None
    with child.stdout, child.stderr:
        (printed, complaint), why = read_all((child.stdout.fileno(), child.stderr.fileno()), ANSWER_SECONDS, LARGEST)
    child.returncode = reap(child.pid, 0 if why else ANSWER_SECONDS) or 0
    if not printed and complaint:  # its status says nothing: no match is 1 as well
        why = why or escaped(complaint.decode("utf-8", "replace").strip(), 200)
    if printed.count(b"\n") >= ENTRIES:
        why = why or f"there are more than the latest {ENTRIES}, which were read"
    found = denials(messages(printed), os.path.realpath(sys.executable))
    return tuple(one._replace(file=profile_file(one.profile)) for one in found), why


def messages(printed: bytes) -> Iterator[str]:
    """The texts of a journal in JSON, a line each; one that is no text is a list of bytes."""
    for line in printed.splitlines():
        with suppress(ValueError, KeyError, TypeError):
            said = loads(line.decode("utf-8", "replace"))["MESSAGE"]
            yield said if isinstance(said, str) else bytes(said).decode("utf-8", "replace")


def denials(said: Iterable[str], python: str) -> list[Denial]:
    """What the kernel denied to the hook, oldest first, each once: not what was denied before the profile, or SELinux's whole
    policy, was loaded as it is. `python`: the interpreter, which a daemon's profile has to let run too."""
    found: list[Denial] = []
    for text in said:
        if LOADED.match(text):
            found = [one for one in found if one.profile]
        if not LINE.match(text):
            continue
        fields = fields_of(text)
        if fields.get("apparmor") == "STATUS" and fields.get("operation", "") in LOADS:
            if not fields.get("info", "").startswith("same as current"):
                found = [one for one in found if one.profile != fields.get("name")]
        elif is_denied(text, fields) and is_ours(fields, python):
            what = fields.get("name") or fields.get("path") or fields.get("capname") or fields.get("family") or "-"
            rule = rule_of(fields) if "apparmor" in fields else ""
            done = fields.get("operation") or text.partition("{")[2].partition("}")[0].strip()
            one = Denial(fields.get("profile", ""), escaped(done, 40), escaped(what, 200), rule)
            found += [one] if one not in found else []
    return found


def fields_of(text: str) -> dict[str, str]:
    """The fields KEY="VALUE" or KEY=VALUE of a line of the audit's; a quoted value has no quote in it: the kernel writes such a
    one in hexadecimal digits."""
    found: dict[str, str] = {}
    rest = text
    while "=" in rest:
        before, _, rest = rest.partition("=")
        key = before.split()[-1] if before.split() else ""
        if rest.startswith('"'):
            value, _, rest = rest[1:].partition('"')
        else:
            value, _, rest = rest.partition(" ")
            with suppress(ValueError):
                value = bytes.fromhex(value).decode("utf-8", "replace") if key in ("name", "comm", "profile") else value
        found.setdefault(key, value)
    return found


def is_denied(text: str, fields: dict[str, str]) -> bool:
    """Whether something was kept from happening: not what a profile in complain mode, or a permissive domain, let happen."""
    return fields.get("apparmor") == "DENIED" or ("avc:  denied" in text and fields.get("permissive") != "1")


def is_ours(fields: dict[str, str], python: str) -> bool:
    """Whether it was the hook's, or the daemon's when it wanted to run it. Root's alone: anybody may name a process so."""
    if fields.get("fsuid", "0") != "0" or "namespace" in fields:  # a container's
        return False
    name, profile = fields.get("name", fields.get("path", "")), fields.get("profile", "")
    daemon = any(word in profile for word in ("charon", "ipsec", "pluto"))
    runs = fields.get("operation") == "exec" and daemon and (name == python or os.path.basename(name) == OURS)
    return fields.get("comm") == OURS or runs


def rule_of(fields: dict[str, str]) -> str:
    """The line of a profile that lets a program run, which reads a script too (apparmor.d(5)); none for a name that could say
    more than itself. What else the hook needs is known: see NEEDED."""
    name = fields.get("name", "")
    runs = fields.get("operation") == "exec" and name.startswith("/") and not set(name) - PLAIN
    return f'"{name}" rix,' if runs else ""


def profile_file(profile: str) -> str:
    """The file of a profile below /etc/apparmor.d: named as its program is, with dots (apparmor.d(5)); empty where there is no
    such file."""
    name = profile.partition("//")[0].strip("/").replace("/", ".")
    return name if name and os.path.isfile(f"{PROFILES}/{name}") else ""


def access_denied(facts: CheckFacts) -> Iterator[Finding]:
    """What a profile, or SELinux's policy, denied to us: one finding for each."""
    for profile in dict.fromkeys(one.profile for one in facts.machine.denied):
        each = [one for one in facts.machine.denied if one.profile == profile]
        what = ", ".join(dict.fromkeys(f"{one.operation} {one.what}" for one in each[:6])) + (", ..." if len(each) > 6 else "")
        if not profile:
            mend = f"{JOURNALCTL} -b -k | grep 'comm=\"{OURS}\"' | audit2allow -M vti-updown-local"
            text = f"SELinux denied to vti-updown: {what}"
            yield Finding(
                "access-denied", "SELinux", text, f"{mend}  # read vti-updown-local.te, then semodule -i vti-updown-local.pp"
            )
            continue
        name = escaped(profile, 100)
        yield Finding("access-denied", name, f"AppArmor's profile {name} denied: {what}", allowed(each))
    if facts.machine.denied_unknown:
        text = f"what AppArmor or SELinux denied is not seen ({facts.machine.denied_unknown})"
        yield Finding("not-looked-at", "journal", text, f"{JOURNALCTL} -k  # as root; it has DENIED where there is something")


def allowed(each: Sequence[Denial]) -> str:
    """The mend: lines for what the administrator adds to a profile, and loading it; one that has no file of the usual name has
    to be looked for."""
    lines = dict.fromkeys((*NEEDED, *(one.rule for one in each if one.rule)))
    rules, file = tuple(f"  {line}" for line in lines), each[0].file
    if file:
        return f"{appended(rules, f'{PROFILES}/local/{file}')}; apparmor_parser -r {shlex.quote(f'{PROFILES}/{file}')}"
    return f"write {' '.join(rule.strip() for rule in rules)} into profile {escaped(each[0].profile, 100)}, and load it"
