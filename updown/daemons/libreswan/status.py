"""What a running pluto says is up, on demand or to be brought up again: `whack --status`, which changes nothing.

Formats as printed by libreswan 4.10 (each line behind `000 `) and by 5.x (without it):

    000 #2: "t"[1] 198.51.100.2 esp.74d1ca6f@198.51.100.2 esp.dd642581@198.51.100.1 tun.0@... Traffic: ...
    000 "t"[1]: 10.1.0.0/24===198.51.100.1...198.51.100.2===10.2.0.0/24; prospective erouted; eroute owner: #0
    000 "t":   policy: IKEv2+PSK+ENCRYPT+TUNNEL+PFS+UP+IKE_FRAG_ALLOW;
    000 Total IPsec connections: loaded 4, active 1
    000 IPsec SAs: total(1), authenticated(1), anonymous(0)

A line with SPIs stands for an installed child SA; the first SPI is that of packets to the peer. Both totals are held against
what was read: a status that we do not understand is a silence, never a word that nothing is up."""

from __future__ import annotations

import re
import subprocess

from updown.daemons.answer import ANSWER_SECONDS, ANSWERED, ChildSa, DaemonAnswer, ask_one, end_address, silent
from updown.model.record import NamedTuple

DAEMON = "libreswan"
WHACK = ("/usr/libexec/ipsec/whack", "/usr/lib/ipsec/whack")
"""Asked directly: `ipsec` is a shell script that does nothing else for `ipsec whack`."""

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
PID_FILE = "/run/pluto/pluto.pid"

NAME = r'(?:\d{3} )?(?:#\d+: )?"(?P<name>[^"]*)"(?P<instance>(?:\[\d+\])?)'
SPIS = re.compile(
    rf"{NAME}(?P<address>[^;]*?) (?:esp|ah)\.(?P<out>[0-9a-f]+)@(?P<peer>\S+) (?:esp|ah)\.(?P<in>[0-9a-f]+)@(?P<me>\S+)"
)
ROUTING = re.compile(rf"{NAME}: (?P<ends>[^;]*\.\.\.[^;]*); (?P<routing>[^;]*);")
# names, which follow the address, may have any of this
OURS = re.compile(r"(?:[^=\[]*===)?(?P<me>[0-9A-Fa-f:.]+?)(?:\[|<|---|\.\.\.)")
SAS = re.compile(r"(?:\d{3} )?IPsec SAs: total\((\d+)\)", re.MULTILINE)
LOADED = re.compile(r"(?:\d{3} )?Total IPsec connections: loaded (\d+)", re.MULTILINE)
DETAIL = re.compile(rf"{NAME}: +(?P<text>.*)")


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
        try:
            done = subprocess.run(
                [path, question], stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_SECONDS, env=ENVIRONMENT
            )
        except FileNotFoundError:
            continue
        except subprocess.TimeoutExpired:
            return WhackOutput("", f"whack {question}: no answer in {ANSWER_SECONDS:g} s")
        except OSError as error:
            return WhackOutput("", f"{path}: {error.strerror}")
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            return WhackOutput("", f"whack {question}: {said[-1] if said else f'status {done.returncode}'}")
        return WhackOutput(done.stdout.decode("utf-8", "surrogateescape"))
    return WhackOutput("", f"{WHACK[0]} is not there")


def read(status: str, since: int = 0) -> DaemonAnswer:
    """The answer as records."""
    details = connections(status)
    asking = {name for name, detail in details.items() if detail.calls_us and detail.vti}
    found = [child for child in map(child_in, status.splitlines()) if child is not None]
    children = tuple(child._replace(wants_device=child.connection in asking) for child in found)
    for what, pattern, count in (("IPsec SAs", SAS, len(children)), ("connections", LOADED, len(details))):
        total = pattern.search(status)
        if total is None or (int(total[1]) > count and (pattern is SAS or not count)):
            told = f"of {total[1]} {what} {count} could be read" if total else f"no number of {what}"
            return silent(f"whack --status: {told}; please report this libreswan", since)
    held = [name for name, detail in details.items() if detail.routed or detail.wished]
    ends = {name: details[name].me for name in held if details[name].me and details[name].oriented}
    return DaemonAnswer(ANSWERED, "", since, children, tuple(held), tuple(details), ends=ends)


def child_in(line: str) -> ChildSa | None:
    """The child SA that a line of --status tells of."""
    found = SPIS.match(line)
    if found is None:
        return None
    me, peer = end_address(found["me"]), end_address(found["peer"])
    return ChildSa(DAEMON, found["name"], me, peer, spi_in=int(found["in"], 16), spi_out=int(found["out"], 16))


class Detail(NamedTuple):
    """A connection: whether its policy is in place, whether pluto wishes it up; whether it calls us, and asks for a VTI; our
    end, if it is no instance, and whether pluto found that on this machine: else it may be the other's."""

    routed: bool = False
    wished: bool = False
    calls_us: bool = False
    vti: bool = False
    me: str = ""
    oriented: bool = False


_NOTHING = Detail()


def connections(status: str) -> dict[str, Detail]:
    """The connections that --status lists, instances under their template's name."""
    found: dict[str, Detail] = {}
    for line in status.splitlines():
        routing = ROUTING.match(line)
        if routing:
            name = routing["name"]
            have = found.get(name, _NOTHING)
            me = have.me if routing["instance"] else our_end(routing["ends"])
            # 4.10: `erouted`, `prospective erouted`, `erouted HOLD`, `fail erouted`; 5.x: `routed-tunnel`, `routed-ondemand`
            routed = have.routed or "routed" in routing["routing"].replace("unrouted", "")
            found[name] = have._replace(routed=routed, me=me)
            continue
        detail = DETAIL.match(line)
        if detail and detail["name"] in found:
            found[detail["name"]] = with_detail(found[detail["name"]], detail["text"])
    return found


def our_end(ends: str) -> str:
    """`10.1.0.0/24===198.51.100.1[@west]...198.51.100.2===10.2.0.0/24`: the address; empty where there is none, as in %any."""
    found = OURS.match(ends)
    return end_address(found["me"]) if found else ""


def with_detail(have: Detail, text: str) -> Detail:
    """What another line of --status says of a connection, as `policy: IKEv2+PSK+UP;`."""
    words = [word.strip() for word in text.split(";")]
    for word in words:
        head, _, value = word.partition(":")
        if word in ("oriented", "host: oriented"):
            have = have._replace(oriented=True)
        elif head == "policy" and {"UP", "KEEP"} & set(value.strip().split("+")):
            have = have._replace(wished=True)
        elif head == "vti-iface" and value.strip() != "unset":
            have = have._replace(vti=True)
        elif word.startswith("my_updown=") and "vti-updown" in word:
            have = have._replace(calls_us=True)
    return have
