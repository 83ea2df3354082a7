"""What a running pluto says is up, on demand or to be brought up again: `whack --status`, which changes nothing.

Formats as printed by libreswan 4.10 (each line behind `000 `) and by 5.x (without it):

    000 #2: "t"[1] 198.51.100.2 esp.74d1ca6f@198.51.100.2 esp.dd642581@198.51.100.1 tun.0@... Traffic: ...
    000 "t"[1]: 10.1.0.0/24===198.51.100.1[@hub]...198.51.100.2[@ID]===10.2.0.0/24; prospective erouted; eroute owner: #0
    000 "t":   policy: IKEv2+PSK+ENCRYPT+TUNNEL+PFS+UP+IKE_FRAG_ALLOW;
    000 Total IPsec connections: loaded 4, active 1
    000 IPsec SAs: total(1), authenticated(1), anonymous(0)

A peer chooses its ID and its user name, with blanks, quotes and semicolons in them; pluto escapes line breaks alone. So a line
is told by how it begins, and what we read of it stands before a peer's words, or at the line's end after them, and nothing is
searched for. A line with SPIs stands for an installed child SA; the first SPI is that of packets to the peer; before an IPv6
address the separators are colons (lib/libswan/ip_said.c). The totals are held against what was read: a status that we do not
understand is a silence, never a word that nothing is up."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Container

from updown.daemons.answer import ANSWER_SECONDS, ANSWERED, ChildSa, DaemonAnswer, ask_one, end_address, silent
from updown.daemons.program import read_all, reap
from updown.model.record import NamedTuple

DAEMON = "libreswan"
WHACK = ("/usr/libexec/ipsec/whack", "/usr/lib/ipsec/whack")
"""Asked directly: `ipsec` is a shell script that does nothing else for `ipsec whack`."""

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
PID_FILE = "/run/pluto/pluto.pid"

CODE = re.compile(r"[0-9]{3} ")
STATE = re.compile(r"#[0-9]+: ")
SERIAL = re.compile(
    r'"(?P<name>.*)"(?:\[[0-9]+\])?: {3}(?:newest [A-Z]+ SA: #[0-9]+; newest IPsec SA: #[0-9]+; )?'
    r"conn serial: \$[0-9]+(?:, instantiated from: \$[0-9]+)?; *"
)
# an instance's address, or what it was acquired for: programs/pluto/connections.c jam_connection_instance
_WHO = r"(?:\[[0-9]+\])?(?: [^ @;]+){0,3}?"
SPIS = re.compile(
    rf"{_WHO}(?: used [0-9]+s ago;)? (?:esp|ah)[.:](?P<out>[0-9a-f]{{1,8}})@(?P<peer>\S+)"
    r" (?:esp|ah)[.:](?P<in>[0-9a-f]{1,8})@(?P<me>\S+)(?: |$)"
)
NEGOTIATION = re.compile(rf"{_WHO}:[0-9]+(?:\(tcp\))? ")
TOPOLOGY = re.compile(
    r"(?P<instance>(?:\[[0-9]+\])?): (?P<ends>[^ ].*); (?P<routing>[^;]*);"
    r" (?:eroute owner: #[0-9]+|my_ip=[^;]*; their_ip=[^;]*;) *"
)
DETAIL = re.compile(r"(?:\[[0-9]+\])?: (?P<blanks> *)(?P<text>.*)")
# names, which follow the address, may have any of this
OURS = re.compile(r"(?:[^=\[]*===)?(?P<me>[0-9A-Fa-f:.]+?)(?:\[|<|---|\.\.\.)")
SAS = re.compile(r"IPsec SAs: total\(([0-9]{1,9})\)(?:,.*)?")
LOADED = re.compile(r"Total IPsec connections: loaded ([0-9]{1,9})(?:,.*)?")


class WhackOutput(NamedTuple):
    """One run of whack: what it printed, and the reason where that is no answer."""

    text: str
    why: str = ""


def ask() -> DaemonAnswer:
    """What pluto says; bounded by ANSWER_SECONDS."""
    return ask_one(("pluto",), ask_pluto)


def ask_pluto(pid: int, since: int) -> DaemonAnswer:
    """What whack is told, where it would ask this process."""
    why = other_pluto(pid)
    status = WhackOutput("", why) if why else whack("--status")
    return silent(status.why, since) if status.why else read(status.text, since)


def other_pluto(ours: int) -> str:
    """Why whack would ask another pluto than that of this network namespace, if so: its socket is a file, and may be shared."""
    try:
        with open(PID_FILE, encoding="ascii") as file:
            pid = int(file.read().strip())
    except (OSError, ValueError):
        return ""
    return "" if pid == ours else f"{PID_FILE} names process {pid}, which is not in this network namespace"


def whack(question: str) -> WhackOutput:
    """Run whack with one option, without a shell; the first of WHACK that is there."""
    for path in WHACK:
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        try:
            child = subprocess.Popen([path, question], env=ENVIRONMENT, stdin=nothing, stdout=pipe, stderr=pipe)
        except FileNotFoundError:
            continue
        except OSError as error:
            return WhackOutput("", f"{path}: {error.strerror}")
        assert child.stdout and child.stderr
        with child.stdout, child.stderr:
            (printed, complaint), why = read_all((child.stdout.fileno(), child.stderr.fileno()), ANSWER_SECONDS)
        status = reap(child.pid, 0 if why else ANSWER_SECONDS)
        child.returncode = 0 if status is None else status  # else Popen would wait for it again
        if why or status is None:
            return WhackOutput("", f"whack {question}: {why or f'it did not end in {ANSWER_SECONDS:g} s'}")
        if status:
            said = complaint.decode("utf-8", "replace").strip().splitlines()
            return WhackOutput("", f"whack {question}: {said[-1] if said else f'status {status}'}")
        return WhackOutput(printed.decode("utf-8", "surrogateescape"))
    return WhackOutput("", f"{WHACK[0]} is not there")


def read(status: str, since: int = 0) -> DaemonAnswer:
    """The answer as records. Of a connection with a child that cannot be read pluto has said nothing; one whose topology cannot
    be read counts as held."""
    lines = [line[4:] if CODE.match(line) else line for line in status.split("\n")]
    # one line of each connection has nothing but its name and numbers: a quote in that is the name's
    names = {found["name"] for found in map(SERIAL.fullmatch, lines) if found}
    longest = max(map(len, names), default=0)
    details: dict[str, Detail] = {}
    children: list[ChildSa] = []
    unread: list[str] = []
    for line in lines:
        state = STATE.match(line)
        name, rest = named(line[state.end() :] if state else line, names, longest)
        if not state:
            details.update(with_line(name, details.get(name), rest))
        elif SPIS.match(rest):
            children.append(child_in(name, rest))
        elif rest and not NEGOTIATION.match(rest):
            unread.append(name)
    told_of = len(children) + len(unread)
    for what, pattern, count in (("IPsec SAs", SAS, told_of), ("connections", LOADED, len(details))):
        total = next(filter(None, map(pattern.fullmatch, lines)), None)
        if total is None or (int(total[1]) > count and (pattern is SAS or not count)):
            told = f"of {total[1]} {what} {count} could be read" if total else f"no number of {what}"
            return silent(f"whack --status: {told}; please report this libreswan", since)
    found = tuple(with_configuration(child, details.get(child.connection)) for child in children)
    held = tuple(name for name, detail in details.items() if detail.routed or detail.wished)
    ends = {name: details[name].me for name in held if details[name].me and details[name].oriented}
    return DaemonAnswer(ANSWERED, "", since, found, held, tuple(details), ends=ends, unread=tuple(dict.fromkeys(unread)))


def named(line: str, names: Container[str], longest: int) -> tuple[str, str]:
    """The connection that a line begins with, in quotes, and what follows; two empty texts where it begins otherwise. It is the
    longest of the names that are known, or else all up to the next quote."""
    first = line.find('"', 1)
    if not line.startswith('"') or first < 0:
        return "", ""
    end = line.rfind('"', 1, longest + 2)
    while end > first and line[1:end] not in names:
        end = line.rfind('"', 1, end)
    end = max(end, first)
    return line[1:end], line[end + 1 :]


def child_in(name: str, text: str) -> ChildSa:
    """The child SA that a line of --status tells of, by what follows its connection's name."""
    found = SPIS.match(text)
    assert found is not None
    me, peer = end_address(found["me"]), end_address(found["peer"])
    return ChildSa(DAEMON, name, me, peer, spi_in=int(found["in"], 16), spi_out=int(found["out"], 16))


class Detail(NamedTuple):
    """A connection: whether its policy is in place, whether pluto wishes it up; whether it calls us, and the VTI it asks for;
    our end, if it is no instance, and whether pluto found that on this machine: else it may be the other's."""

    routed: bool = False
    wished: bool = False
    calls_us: bool = False
    vti: str = ""
    me: str = ""
    oriented: bool = False


def with_configuration(child: ChildSa, detail: Detail | None) -> ChildSa:
    """A child, with what its connection is configured for, where that is told."""
    if detail is None:
        return child
    wants = detail.calls_us and bool(detail.vti)
    return child._replace(wants_device=wants, device=detail.vti, calls_us=detail.calls_us)


def with_line(name: str, have: Detail | None, text: str) -> dict[str, Detail]:
    """What another line of --status says of a connection, of which instances go by their template's name."""
    topology = TOPOLOGY.fullmatch(text)
    detail = DETAIL.match(text)
    if topology and "..." in topology["ends"]:
        had = have or Detail()
        me = had.me if topology["instance"] else our_end(topology["ends"])
        # 4.10: `erouted`, `prospective erouted`, `erouted HOLD`, `fail erouted`; 5.x: `routed-tunnel`, `routed-ondemand`
        routed = had.routed or "routed" in topology["routing"].replace("unrouted", "")
        return {name: had._replace(routed=routed, me=me)}
    if detail and not detail["blanks"]:
        return {name: (have or Detail())._replace(routed=True)}
    return {name: with_detail(have, detail["text"])} if detail and have else {}


def our_end(ends: str) -> str:
    """`10.1.0.0/24===198.51.100.1[@west]...198.51.100.2===10.2.0.0/24`: the address; empty where there is none, as in %any."""
    found = OURS.match(ends)
    return end_address(found["me"]) if found else ""


def with_detail(have: Detail, text: str) -> Detail:
    """The same with what a line says that is no topology, as `policy: IKEv2+PSK+UP;`; told by its first word."""
    head, _, rest = text.partition(" ")
    if head == "oriented;" or text.startswith("host: oriented;"):
        have = have._replace(oriented=True)
    if head in ("oriented;", "unoriented;") or head.startswith("my_updown="):
        have = have._replace(calls_us=have.calls_us or "vti-updown" in text.rpartition("my_updown=")[2])
    if head == "policy:" and {"UP", "KEEP"} & set(rest.rstrip("; ").split("+")):
        have = have._replace(wished=True)
    if head == "nflog-group:":
        named = next((column[10:].rstrip(";") for column in rest.split("; ") if column.startswith("vti-iface:")), "unset")
        have = have._replace(vti=have.vti if named == "unset" else named)
    return have
