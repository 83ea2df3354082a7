"""What `check` looks at beside ledger, links and IPsec: files and folders, the state directory's file system, networks
behind tunnels, our ends, other managers, counters, denials. The only module of it that reads the machine, with run.py and
denials.py."""

from __future__ import annotations

import ipaddress
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

import updown
from updown.commands.check.denials import journal
from updown.commands.check.facts import CheckFacts, LocalNetwork, MachineFacts, Writable
from updown.kernel.netlink import dumps
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger.lock import LOOK
from updown.model.claims import REVIVE, SA
from updown.model.ipsec import selector_side
from updown.model.objects import OUR_PROTOCOL, is_any, netns_of
from updown.model.record import dumps as as_json
from updown.model.record import loads
from updown.model.resources import Sysctl
from updown.serve import StateDir
from updown.settings.file import other_writer

XFRM_STAT = "/proc/net/xfrm_stat"
COUNTED = "counted"
"""The file in the state directory that has what the counters were at the last look."""

NETWORKD, NETWORK_MANAGER = "/run/systemd/netif/links", "/run/NetworkManager/devices"
PROFILES = "/run/NetworkManager/system-connections"
LOCKS = "/proc/locks"
ROOM = 256 * 1024  # bytes that the ledger and its journal need at least
UNICAST, LOCAL = 1, 2  # RTN_*


def look(facts: CheckFacts, place: StateDir, netlink: Netlink) -> MachineFacts:
    """Everything that is looked at here. Raises UpdownError where the kernel does not tell."""
    return MachineFacts(
        tuple(writable(facts.config, place.state_dir)),
        tuple(unusable(place.state_dir)),
        tuple(networks(facts, netlink)),
        moved_away(facts, netlink),
        managers(facts),
        counted(place.path),
        tuple(dumps.routes(OUR_PROTOCOL)),
        *journal(),
    )


def writable(config: str, state_dir: str) -> Iterator[Writable]:
    """Files and folders that others than root may write. Of settings the folders alone: files are refused as they are read."""
    folder = os.path.dirname(os.path.abspath(config))
    library = os.path.dirname(os.path.abspath(updown.__file__))
    executable = os.path.realpath(sys.argv[0])
    code = [(library, library), *((executable, executable) for _ in [0] if os.path.basename(executable) == "vti-updown")]
    tops = [("settings", folder, False), ("settings", os.path.join(folder, "conf.d"), False)]
    tops += [("code", top, True) for top, _ in code] + [("state", state_dir, True)]
    for what, top, deep in tops:
        for path in [top, *(inner(top) if deep else ())]:
            with suppress(OSError):
                writer = other_writer(os.lstat(path))
                if writer and not os.path.islink(path):
                    yield Writable(what, path, writer, top)


def inner(top: str) -> Iterator[str]:
    """Everything below a folder."""
    for folder, folders, files in os.walk(top):
        yield from (os.path.join(folder, name) for name in (*folders, *files))


def unusable(state_dir: str) -> Iterator[tuple[str, str, str]]:
    """Why the file system of the state directory takes nothing more: a code, the directory, the mount."""
    place = os.path.abspath(state_dir)
    while not os.path.exists(place) and place != "/":
        place = os.path.dirname(place)
    mount = place
    while not os.path.ismount(mount):
        mount = os.path.dirname(mount)
    there = os.statvfs(place)
    if there.f_flag & os.ST_RDONLY:
        yield "state-read-only", state_dir, mount
    elif there.f_bavail * there.f_frsize < ROOM or (there.f_files and there.f_favail < 8):
        yield "state-full", state_dir, mount


def networks(facts: CheckFacts, netlink: Netlink) -> Iterator[LocalNetwork]:
    """The networks behind us that tunnels with an SA are for, where a route of their own leads to them. Not those of which only
    the default route knows: whether they are behind us at all nobody says."""
    names = {link.ifindex: link.name for link in facts.links if not netns_of(link.name)}
    asked: set[tuple[str, str]] = set()
    for claim in facts.claims:
        tunnel = claim.device
        forwards = [want for want in claim.resources if isinstance(want, Sysctl) and want.path.endswith("/forwarding")]
        by_daemon = any(want.by_daemon for want in claim.devices)
        side = selector_side(claim.sa.my_client)
        if claim.kind != SA or side is None or netns_of(tunnel) or not (by_daemon or any(w.value == "1" for w in forwards)):
            continue
        for prefix in side.prefixes:
            if (prefix, tunnel) not in asked:
                asked.add((prefix, tunnel))
                device = names.get(device_towards(prefix, netlink), "")
                if device and device not in facts.devices:
                    yield LocalNetwork(prefix, device, tunnel)


def device_towards(prefix: str, netlink: Netlink) -> int:
    """The index of the device that a network is behind; 0 where it is all our own, or only a default route leads there."""
    network = ipaddress.ip_network(prefix)
    if not network.prefixlen:
        return 0
    last = network.num_addresses - 1
    for number in dict.fromkeys(min(number, last) for number in (1, 2, 3, 4, last // 2, 0)):
        seen = netlink.match(str(network[number])).route
        if seen is not None and seen.type == UNICAST:
            return seen.oif if not seen.destination.endswith("/0") else 0
    return 0


def moved_away(facts: CheckFacts, netlink: Netlink) -> frozenset[str]:
    """Our ends of tunnels with an SA, or that wait for one, that no device here has, a VRF's included."""
    ends = {claim.sa.me for claim in facts.claims if claim.kind in (SA, REVIVE) and claim.sa.me and not is_any(claim.sa.me)}
    gone = {end for end in ends if not is_local(end, netlink)}
    if gone:
        here = [link.ifindex for link in facts.links if not netns_of(link.name)]
        gone -= {address.split("/")[0] for index in here for address in netlink.addresses(index)}
    return frozenset(gone)


def is_local(address: str, netlink: Netlink) -> bool:
    """Whether packets to an address are for this machine."""
    seen = netlink.match(address).route
    return seen is not None and seen.type == LOCAL


def managers(facts: CheckFacts) -> Mapping[str, str]:
    """By device of ours, who else manages it: as systemd-networkd and NetworkManager say of it in /run, by its index. Both look
    after the first network namespace."""
    if not in_first_namespace():
        return {}
    found: dict[str, str] = {}
    described = descriptions()
    for link in facts.tunnels:
        if netns_of(link.name):
            continue
        said = keys_in(f"{NETWORKD}/{link.ifindex}")
        if said.get("NETWORK_FILE") and said.get("ADMIN_STATE") not in ("unmanaged", ""):
            found[link.name] = "systemd-networkd"
        said = keys_in(f"{NETWORK_MANAGER}/{link.ifindex}")
        if said.get("managed") in ("1", "true") and said.get("connection-uuid", "") not in described:
            found[link.name] = "NetworkManager"
    return found


def descriptions() -> set[str]:
    """The profiles by which NetworkManager only shows what others configure, by uuid; none is the profile of a device that it
    has nothing to do with (src/core/nm-manager.c, nm_manager_write_device_state)."""
    paths = [os.path.join(PROFILES, name) for name in os.listdir(PROFILES)] if os.path.isdir(PROFILES) else []
    shown = [said for said in map(keys_in, paths) if "true" in (said.get("external"), said.get("nm-generated"))]
    return {"", *(said.get("uuid", "") for said in shown)}


def in_first_namespace() -> bool:
    """Whether this is the namespace of the machine's first process."""
    try:
        return os.stat("/proc/1/ns/net").st_ino == os.stat("/proc/thread-self/ns/net").st_ino
    except OSError:
        return False


def keys_in(path: str) -> dict[str, str]:
    """The lines KEY=VALUE of a file; none where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in file)}
    except OSError:
        return {}


def counters_now() -> dict[str, int] | None:
    """What the kernel has counted since this namespace is there; None where it does not tell."""
    try:
        with open(XFRM_STAT, encoding="ascii") as file:
            pairs = [line.split() for line in file]
        return {name: int(count) for name, count in pairs}
    except (OSError, ValueError):
        return None


def counted(folder: str) -> Mapping[str, int] | None:
    """By counter, by how much it rose since the last look; all that it counted where there was none."""
    now = counters_now()
    before: dict[str, int] = {}
    with suppress(OSError, ValueError, TypeError), open(os.path.join(folder, COUNTED), encoding="ascii") as file:
        before = {str(name): int(count) for name, count in loads(file.read())}
    return None if now is None else {name: count - min(before.get(name, 0), count) for name, count in now.items()}


def remember_counters(folder: str) -> None:
    """Note what the counters are, for the next look: the one thing that `check` writes. Where there is no state directory, no
    event was served, and none is made."""
    now = counters_now()
    path = os.path.join(folder, COUNTED)
    if now is None or not os.path.isdir(folder):
        return
    with suppress(OSError):  # a full or read-only file system is a finding of its own
        with open(os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
            file.write(as_json(list(now.items())))
        os.rename(f"{path}.new", path)


def wait_for_events(folder: str, seconds: float) -> bool:
    """Wait while an event holds the lock, for no longer than `seconds`; whether one did. The lock itself is not touched: who
    tries for it in that moment would find it held."""
    end = time.monotonic() + seconds
    held = False
    while is_locked(os.path.join(folder, "lock")):
        held = True
        if time.monotonic() >= end:
            break
        time.sleep(LOOK)
    return held


def is_locked(path: str) -> bool:
    """Whether somebody holds a lock on a file, by /proc/locks: KIND ... PID MAJOR:MINOR:INODE START END."""
    try:
        inode = str(os.stat(path).st_ino)
        with open(LOCKS, encoding="ascii", errors="replace") as file:
            return any(is_held(line.split(), inode) for line in file)
    except OSError:
        return False


def is_held(fields: Iterable[str], inode: str) -> bool:
    """Whether a line of /proc/locks is of a lock on this inode that is held, not waited for."""
    words = list(fields)
    return (
        "FLOCK" in words
        and "->" not in words
        and any(word.rpartition(":")[2] == inode for word in words if word.count(":") == 2)
    )
