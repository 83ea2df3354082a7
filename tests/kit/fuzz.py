"""Mutated input in a process of its own, whose memory is counted: `python -m tests.kit.fuzz KIND SEED COUNT` prints as JSON
what was wrong: any exception but a known error, a byte that is not printable ASCII in a line for people or for the daemon, and
more seconds of the processor than any such input is worth."""

from __future__ import annotations

import json
import random
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.kit.daemon_answers import Connection, list_sa, vici_message, whack_status
from tests.kit.machine import THIRD, SwiftMachine, Tunnel, call, establish
from tests.kit.reconciling import reconcile_with
from tests.recordings import recordings
from updown import daemons
from updown.commands.check.settings import check_files
from updown.commands.reconcile.decide import Evidence
from updown.commands.reconcile.report import outcome_json, outcome_lines
from updown.daemons.answer import ANSWERED, ChildSa, DaemonAnswer
from updown.daemons.libreswan.status import read
from updown.daemons.strongswan.vici import Session, children_in
from updown.daemons.strongswan.vici_message import Silence, parse
from updown.model.errors import UpdownError
from updown.model.ipsec import Database
from updown.model.operations import Report
from updown.model.record import dumps
from updown.output.lines import folded, prefix
from updown.output.report import explanation, hook_lines, plan_lines, report_json
from updown.settings.file import read_files, resolve

CASES = Path(__file__).parents[1] / "cases/robustness"
LONGEST = 120  # bytes of a line for a daemon's log
SECONDS = 5  # of the processor for one input, on a slow machine
RENEWED = 40  # inputs after which the machine is a new one

PIECES = (
    *(
        "",
        " ",
        "\t",
        "\n",
        "\r",
        "\0",
        "\x1b[2J",
        "\x85",
        "\u2028",
        "\udcff",
        "é",
        "%s",
        "{}",
        "{if_id}",
        "$(id)",
        "`id`",
        ";",
        "'",
    ),
    *(
        '"',
        "#",
        "=",
        "[",
        "]",
        "[connection *]",
        "interface = x",
        "@",
        "/",
        "..",
        "../../etc",
        "-",
        "--help",
        ",",
        ":",
        "0",
        "-1",
    ),
    *(
        "1",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "1e9",
        "0x",
        "0xffffffff",
        "٣",
        "1_0",
        "+1",
        "00",
        "none",
        "auto",
    ),
    *(
        "0.0.0.0/0",
        "::/0",
        "255.255.255.255",
        "10.0.0.1/33",
        "1.2.3.4.5",
        "::ffff:1.2.3.4",
        "fe80::1%eth0",
        "%any",
        "10.1.0.0/24",
    ),
    *("esp.1@10.0.0.1 esp.2@10.0.0.2", "IPsec SAs: total(9999)", "; erouted; eroute owner: #1", '"t": ', '#3: "t" ', "000 "),
    *("A" * 300, "9" * 5000, '"' * 2000, "; " * 2000, "[" * 3000, " esp.1@" * 500, "\udcff" * 400, "==="),
)

Run = Callable[[random.Random, SwiftMachine], list[str]]


def mutated(text: str, chance: random.Random) -> str:
    """The text with some of it gone, twice, elsewhere, or something else."""
    for _ in range(chance.choice((1, 1, 2, 4, 9))):
        first, last = sorted(chance.randrange(len(text) + 1) for _ in range(2))
        last = min(last, first + chance.choice((1, 3, 20, 400)))
        piece, place = text[first:last], chance.randrange(len(text) + 1)
        text = chance.choice(
            (
                text[:first] + text[last:],
                text[:first] + chance.choice(PIECES) + text[last:],
                text[:first] + chance.choice(PIECES) + text[first:],
                text[:place] + piece + text[place:],
                text[:first]
                + chance.choice((chr(chance.randrange(256)), chr(chance.randrange(0xD800)), "\udcff"))
                + text[first + 1 :],
                text[:first] + piece * chance.choice((2, 30)) + text[last:],
            )
        )
    return text


def told(report: Report, connection: str = "") -> list[str]:
    """What a report says to the daemon and to people."""
    return [*hook_lines(report._replace(connection=connection or report.connection)), *plan_lines(report, True)]


def refused(connection: str, error: UpdownError) -> list[str]:
    """What the hook says of an error."""
    head = prefix(connection)
    return folded(f"{head}error: ", error.text) + folded(f"{head}hint: ", error.hint)


ENVIRONMENTS = [one.environment for found in recordings() for one in found.calls()][::7]


def environment(chance: random.Random, machine: SwiftMachine) -> list[str]:
    """A daemon's call, with some of its variables changed."""
    environ = dict(chance.choice(ENVIRONMENTS))
    names = [name for name in environ if name.startswith(("PLUTO", "VTI", "SPI", "CONNMARK", "INTERFACE"))]
    for _ in range(chance.choice((1, 1, 2, 5))):
        name = chance.choice(names)
        how = chance.randrange(6)
        if how == 0:
            environ.pop(name, None)
        elif how == 1:
            environ[name] = environ.get(chance.choice(names), "")
        elif how == 2:
            environ[name] = chance.choice(PIECES)
        else:
            environ[name] = mutated(environ.get(name, ""), chance)
    environ = {name: value.replace("\0", "") for name, value in environ.items()}  # which no environment has
    try:
        context = daemons.read(environ)
        report = machine.send(environ)
    except UpdownError as error:
        return refused(environ.get("PLUTO_CONNECTION", ""), error)
    return [*told(report), *explanation(context, report), dumps(report_json(context, report))]


SETTINGS = (
    """[defaults]
lock_wait = 3
rp_filter = 0
[connection t]
interface = vti5
address = 10.99.0.1/30, fd00:99::1/64
route = 10.7.0.0/16, 10.8.0.0/16 via 10.99.0.2
routing = yes
metric = 50
mtu = auto
mss = clamp
link = follow
probe = 10.99.0.2
delete = last
[device vti5]
accept_ra = 0
""",
    """[connection *]
interface = vti{mark}
rule = iif eth0
table = 100
mtu = 1400
forwarding = yes
[connection t]
multipath = yes
disable_policy = yes
shared = yes
[device made]
kind = vti
mark = 7
local = 198.51.100.1
remote = 198.51.100.2
""",
)
"""Files without a mistake."""


def settings(chance: random.Random, machine: SwiftMachine) -> list[str]:
    """The administrator's file, and an event by it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "vti-updown.conf")
        text = chance.choice(SETTINGS).splitlines()
        number = chance.randrange(len(text))
        key, _, value = text[number].partition(" = ")
        if value and chance.random() < 0.7:
            text[number] = f"{key} = {mutated(value, chance)}"
        whole = "\n".join(text)
        whole = whole if value else mutated(whole, chance)
        path.write_bytes(whole.encode("utf-8", "surrogateescape"))
        lines: list[str] = []
        for mistake in check_files(str(path)).mistakes:
            lines += folded("# ", f"{mistake.text} {mistake.hint}".replace(folder, ""))
        try:
            machine.lines = read_files(str(path))
            resolve(machine.lines, "t", "vti5")
            for environ in establish(Tunnel(device=chance.choice(("", "vti5")))):
                lines += told(machine.send(environ))
        except UpdownError as error:
            return lines + refused("t", error)
        return lines


STATUSES = [path.read_text() for path in sorted(CASES.glob("*/*.txt"))]
UP = (Connection("t", routed=True, asks=True, spis=(0x1000, 0x1001)), Connection("r", 1, asks=True, spis=(0x2000, 0x2001)))
STATUSES += [whack_status(release, UP) for release in (4, 5)]


def reconciled(chance: random.Random, machine: SwiftMachine, daemon: str, said: DaemonAnswer) -> list[str]:
    """What `reconcile` makes of one answer in four."""
    if chance.random() > 0.25:
        return []
    if not machine.kinds():
        other = Tunnel("r", device="vti6", mark_in="6/0xffffffff", mark_out="6/0xffffffff", peer=THIRD, theirs="10.3.0.0/24")
        machine.send_all([*establish(Tunnel()), call(other, "up")])
    outcome = reconcile_with(machine, Evidence({daemon: said}, Database()))
    return [*outcome_lines(outcome, True), dumps(outcome_json(outcome, 0))]


def status(chance: random.Random, machine: SwiftMachine) -> list[str]:
    """pluto's status."""
    return reconciled(chance, machine, "libreswan", read(mutated(chance.choice(STATUSES), chance), 1))


CHILD = ChildSa("strongswan", "t", "198.51.100.1", "198.51.100.2", 1, 2, 3, 4, 5, 6, 0, 0, ("10.2.0.0/24",), ("w", "e"), True)
EVENT = vici_message(list_sa(CHILD))


def vici(chance: random.Random, machine: SwiftMachine) -> list[str]:
    """charon's answer, and packets of it."""
    data = mutated(EVENT.decode("latin-1"), chance).encode("utf-8" if chance.random() < 0.1 else "latin-1", "replace")
    children: list[ChildSa] = []
    try:
        children = children_in(parse(data))
    except Silence as error:
        folded("# ", str(error))
    body = b"\x07\x07list-sa" + data
    sent = b"\0\0\0\1\5" + len(body).to_bytes(4, "big") + body + b"\0\0\0\1\1"
    if chance.random() < 0.5:
        sent = mutated(sent.decode("latin-1"), chance).encode("latin-1", "replace")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(sent[:60_000])
        theirs.shutdown(socket.SHUT_WR)
        session = Session.__new__(Session)
        vars(session).update(_socket=ours, _end=time.monotonic() + 5, _seconds=5.0, _received=0)
        try:
            children += [child for section in session.listed("list-sas", "list-sa", {}) for child in children_in(section)]
        except (Silence, OSError) as error:
            folded("# ", str(error))
    return reconciled(chance, machine, "strongswan", DaemonAnswer(ANSWERED, "", 1, tuple(children)))


KINDS: dict[str, Run] = {"environment": environment, "settings": settings, "status": status, "vici": vici}


def faults_in(lines: list[str]) -> Iterator[str]:
    """What is wrong with lines that are printed."""
    for line in lines:
        if not (line.isascii() and line.isprintable()):
            yield f"unescaped: {line!a}"
        if line.startswith("vti-updown:") and len(line) > LONGEST:
            yield f"{len(line)} bytes: {line!a}"


def peak_memory() -> int:
    """In KiB, of this program alone: ru_maxrss has that of who started it too (mm/mmap.h, setmax_mm_hiwater_rss at exec)."""
    (line,) = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM:")]
    return int(line.split()[1])


def run(kind: str, seed: int, count: int) -> dict[str, Any]:
    """So many inputs; what was wrong, by input, and the most memory in KiB."""
    faults: list[str] = []
    patch = pytest.MonkeyPatch()
    machine = cast(SwiftMachine, None)
    slowest = 0.0
    for number in range(count):
        if number % RENEWED == 0:
            patch.undo()
            machine = SwiftMachine(patch)
        chance = random.Random(f"{seed} {number}")
        began = time.process_time()
        try:
            found = list(faults_in(KINDS[kind](chance, machine)))
        except Exception as error:
            frames = traceback.format_exc().splitlines()
            found = [f"{type(error).__name__}: {error!a}"[:300], *frames[-9:]]
            patch.undo()
            machine = SwiftMachine(patch)
        took = time.process_time() - began
        slowest = max(slowest, took)
        if took > SECONDS:
            found.append(f"took {took:.1f} s")
        faults += [f"{kind} {seed} {number}: {text}" for text in found]
    patch.undo()
    peak = peak_memory()
    return {"runs": count, "peak": peak, "slowest": slowest, "faults": faults[:60]}


if __name__ == "__main__":
    kind, seed, count = sys.argv[1:]
    print(json.dumps(run(kind, int(seed), int(count))))
