"""The command line. Read without argparse: the hook is called with the same flags, and argparse costs it 10 ms."""

from __future__ import annotations

from collections.abc import Sequence

from updown.model import values
from updown.model.errors import Refused
from updown.model.record import NamedTuple
from updown.model.values import escaped, suggestion

USAGE = """\
vti-updown: updown hook for libreswan and strongSwan; device, addresses and routes of a route-based tunnel.

As the hook it takes PLUTO_* variables and no sub-command. libreswan: leftupdown=/usr/libexec/vti-updown;
strongSwan: updown = /usr/libexec/vti-updown in the child, and `interface` in the settings.
For people:
  vti-updown --dry-run [FILE]      what would be done for this environment (or a saved one); changes nothing
  vti-updown explain [FILE]        the same with the reason for each line and the claim behind it
  vti-updown status                devices and claims
  vti-updown replay FILE...        run saved environments, one event each; with --dry-run change nothing
  vti-updown clean                 release everything we own; with --dry-run show it
  vti-updown reconcile             end claims that no tunnel backs, mend what the others need, remove left-overs
  vti-updown make DEV | --boot     make a device that the settings describe (or all of them) before firewall and daemon
  vti-updown check [--settings]    what is wrong on this machine (or in the settings alone) and how to mend it
  vti-updown probe                 ping the far ends that `probe` in the settings names; for a timer
  vti-updown adopt DEV             take over a device that another script left; release DEV lets go of one, untouched
Flags:
  --config FILE       settings (default /etc/vti-updown/vti-updown.conf, and conf.d beside it)
  --state-dir DIR     the ledger's place (default /run/vti-updown)
  --json              for programs        -v, --verbose    reasons, and a traceback where we fail
  --dry-run, -n       change nothing      --version        print it          --help    this
  --before-start      reconcile: a daemon that is not running has no event under way (for its unit's ExecStartPre, ExecStopPost)
Exit status: 0 done, 1 failed, 2 wrong usage, setting or variable, 3 conflict with something not ours, 4 lock not obtained,
  5 check found something.
A saved environment is `env -0` output, /proc/PID/environ, or lines NAME=value."""

COMMANDS = ("explain", "status", "replay", "clean", "reconcile", "make", "check", "probe", "adopt", "release")
LATER = ("capture", "graph", "worker")
WITH_WORDS = ("explain", "replay", "make", "adopt", "release")  # sub-commands that take files, or a device
FLAGS = ("--dry-run", "--json", "--verbose", "--version", "--help")  # each says yes to the field of its name
FLAG_OF = {"reconcile": "--before-start", "make": "--boot", "check": "--settings"}  # and so do these of one sub-command
SHORT = {"-n": "--dry-run", "-v": "--verbose", "-h": "--help"}
PATHS = ("--config", "--state-dir")
STOCK_WITH_VALUE = ("--route", "--iproute")  # the stock script's words: accepted, without effect


CLOUD_FLAGS = ("-ln", "-ll", "-lr", "-m", "-r")  # of a cloud's script: its device, both addresses, mark, network


class Arguments(NamedTuple):
    """`command` None is hook mode, or, with `files` or `dry_run`, an event by hand."""

    command: str | None = None
    files: tuple[str, ...] = ()
    config: str = ""
    state_dir: str = ""
    json: bool = False
    dry_run: bool = False
    verbose: bool = False
    version: bool = False
    help: bool = False
    before_start: bool = False
    boot: bool = False
    settings: bool = False


def parse(words: Sequence[str], verb_given: bool) -> Arguments:
    """The arguments in `words`; raises Refused. `verb_given`: PLUTO_VERB is set, so a daemon may have chosen the words."""
    found = Arguments()
    rest: list[str] = list(words)
    files: list[str] = []
    while rest:
        given = rest.pop(0)
        word = SHORT.get(given, given)
        name, equals, value = word.partition("=")
        if name in PATHS:
            if not equals:
                value = rest.pop(0) if rest else ""
            if not value:
                raise Refused(f"{name} needs a path")
            found = found._replace(config=value) if name == "--config" else found._replace(state_dir=value)
        elif word in FLAGS or word == FLAG_OF.get(found.command or ""):
            found = found._replace(**{word[2:].replace("-", "_"): True})  # type: ignore[arg-type]
        elif name in STOCK_WITH_VALUE:
            if not equals and rest:
                rest.pop(0)
        elif word == "custom" and verb_given:
            continue
        elif found.command is None and not files and word in COMMANDS:
            found = found._replace(command=word)
        elif word in LATER and found.command is None and not files:
            raise Refused(f"{word} is not served by this release", "see vti-updown --help")
        elif word.startswith("-") or not (found.command in WITH_WORDS or (found.dry_run and not found.command)):
            said = settings_for([given, *rest], verb_given)
            if said:
                shown = escaped(" ".join([given, *rest]), 80)
                raise Refused(f"{shown}: another script's words on the command line, which are settings here", said)
            known = suggestion(word, (*COMMANDS, *FLAGS, *PATHS))
            raise Refused(f"unknown word {word!r} on the command line{known}", "see vti-updown --help")
        else:
            files.append(word)
    if found.command == "replay" and not files and not found.help:
        raise Refused("replay needs at least one saved environment", "such as a copy of /proc/PID/environ")
    if found.command in ("adopt", "release") and len(files) != 1 and not found.help:
        raise Refused(f"{found.command} needs the name of one device", f"such as: vti-updown {found.command} vti5")
    if found.command == "make" and len(files) != (0 if found.boot else 1) and not found.help:
        raise Refused("make needs the name of one device, or --boot", "such as: vti-updown make vti5")
    return found._replace(files=tuple(files))


def settings_for(words: Sequence[str], verb_given: bool) -> str:
    """Which settings take the words that a cloud's guide gives to its script: two addresses inside the tunnel, a device, a
    number, a network, in any order; empty where these are other words."""
    found: dict[str, list[str]] = {"address": [], "network": [], "number": [], "device": []}
    for word in [word for word in words if word not in CLOUD_FLAGS]:
        kind = kind_of_word(word)
        if kind:
            found[kind].append(word)
    known = sum(map(len, found.values())) == len([word for word in words if word not in CLOUD_FLAGS])
    ours, far = [*found["address"], "", ""][:2]
    if not known or not (ours or (verb_given and (found["number"] or found["network"]))):
        return ""
    device, number = next(iter(found["device"]), ""), next(iter(found["number"]), "")
    lines = [f"`interface = {device or f'vti{number}'}`"] if device or number else []
    if ours:
        lines.append(f"`address = {ours if '/' in ours or not far else f'{ours} peer {far}'}`")
    lines += [f"`route = {', '.join(found['network'])}`"] if found["network"] else []
    text = f"write into [connection NAME] {', '.join(lines)}"
    if far:
        text += f"; {far}, the far end's, needs no line (`probe` may ping it)"
    if device and number:
        text += f"; {number} may be its mark (a setting of the daemon's connection) or `metric`"
    return text


def kind_of_word(word: str) -> str:
    """address, network, number or device; empty for what is none."""
    for kind, read in (("network", values.network_alone), ("address", values.interface_address), ("number", values.number)):
        try:
            read(word)
        except ValueError:
            continue
        return kind
    try:
        return "device" if values.device_name(word) not in values.KERNELS_OWN and word[-1].isdigit() else ""
    except ValueError:
        return ""
