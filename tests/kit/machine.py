"""A machine for tests: the kernel model, a real ledger on disk, settings, and a daemon's calls to put into it."""

import errno
import os
import shutil
import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, cast

import pytest

from tests.kit.kernel_model import Kernel, Kill
from tests.kit.settings_text import parse
from updown import daemons, event
from updown.commands.arguments import Arguments
from updown.commands.arguments import parse as parse_words
from updown.hook import dispatch
from updown.kernel import nft, sysctl
from updown.kernel.netlink import dumps
from updown.kernel.netlink.rtnetlink import Netlink
from updown.ledger.file import connect, open_ledger, prepare_tables
from updown.ledger.store import Ledger
from updown.model.claims import Claim
from updown.model.errors import KernelError
from updown.model.objects import Route
from updown.model.operations import Report
from updown.serve import StateDir, opened, serve_event
from updown.settings.file import Line

WEST, EAST, THIRD = "198.51.100.1", "198.51.100.2", "198.51.100.3"
WEST6, EAST6 = "2001:db8:0:1::1", "2001:db8:0:1::2"
GATEWAY = "198.51.100.254"
NOW = 100_000  # seconds since boot

REFUSALS = (errno.EBUSY, errno.ENOMEM, errno.EPERM, errno.ENOSPC)

Environment = dict[str, str]


class Tunnel(NamedTuple):
    """A connection as its administrator sees it, and what a daemon makes of it. `release` is 4 (libreswan 4.10) or 5."""

    connection: str = "t"
    me: str = WEST
    peer: str = EAST
    mine: str = "10.1.0.0/24"
    theirs: str = "10.2.0.0/24"
    mark_in: str = "5/0xffffffff"
    mark_out: str = "5/0xffffffff"
    device: str = "vti5"
    routing: str = "yes"
    shared: str = "no"
    address: str = ""
    source: str = ""
    metric: str = ""
    mtu: str = ""
    kind: str = "CK_PERMANENT"
    reqid: int = 16388
    release: int = 5
    next_hop: str = ""
    underlay: str = "eth0"
    protocol: str = "0"
    my_port: str = "0"
    peer_port: str = "0"


def call(
    tunnel: Tunnel,
    verb: str,
    child: bool = True,
    wishes: tuple[str, ...] = (),
    spi: int = 0x1000,
    sa_type: str = "",
    mobike: str = "",
) -> Environment:
    """The environment of one call, with the variables and the quirks of the tunnel's release."""
    outer, inner = ("ipv6" if ":" in end else "ipv4" for end in (tunnel.me, tunnel.theirs))
    host = tunnel.mine.split("/")[0] == tunnel.me
    suffix = "-host" if host else "-client"
    if (outer if host or tunnel.release == 4 else inner) == "ipv6":
        suffix += "-v6"
    automatic = tunnel.reqid > 16383
    environment = {
        "PLUTO_VERB": verb if "-" in verb else verb + suffix,
        "PLUTO_CONNECTION": tunnel.connection,
        "PLUTO_CONNECTION_TYPE": "tunnel",
        "PLUTO_VIRT_INTERFACE": "NULL",
        "PLUTO_INTERFACE": tunnel.underlay,
        "PLUTO_XFRMI_ROUTE": "",
        "PLUTO_NEXT_HOP": tunnel.next_hop or tunnel.peer,
        "PLUTO_ME": tunnel.me,
        "PLUTO_PEER": tunnel.peer,
        "PLUTO_MY_ID": tunnel.me,
        "PLUTO_PEER_ID": tunnel.peer,
        "PLUTO_MY_CLIENT": tunnel.mine,
        "PLUTO_PEER_CLIENT": tunnel.theirs,
        "PLUTO_MY_PORT": tunnel.my_port,
        "PLUTO_PEER_PORT": tunnel.peer_port,
        "PLUTO_MY_PROTOCOL": tunnel.protocol,
        "PLUTO_PEER_PROTOCOL": tunnel.protocol,
        "PLUTO_SA_REQID": str(tunnel.reqid + (1 if child and automatic and tunnel.release == 5 else 0)),
        "PLUTO_SA_TYPE": sa_type or ("ESP" if child else "none"),
        "PLUTO_STACK": "xfrm",
        "PLUTO_CONN_POLICY": "+".join(("IKEv2", "PSK", "ENCRYPT", "TUNNEL", "PFS", *wishes, "ESN_NO")),
        "PLUTO_CONN_KIND": tunnel.kind,
        "PLUTO_CONN_ADDRFAMILY": outer,
        "CONNMARK_IN": tunnel.mark_in,
        "CONNMARK_OUT": tunnel.mark_out,
        "VTI_IFACE": tunnel.device,
        "VTI_ROUTING": tunnel.routing,
        "VTI_SHARED": tunnel.shared,
        "VTI_IP": tunnel.address,
        "SPI_IN": f"{spi + 1:#x}" if child else "0x0",
        "SPI_OUT": f"{spi:#x}" if child else "0x0",
        "PLUTO_MY_SOURCEIP": tunnel.source,
        "PLUTO_METRIC": tunnel.metric,
        "PLUTO_MTU": tunnel.mtu,
        "PLUTO_MOBIKE_EVENT": mobike,
    }
    if tunnel.release == 5:
        environment["PLUTO_CLIENT_FAMILY"] = inner
    return {name: value for name, value in environment.items() if value}


def establish(tunnel: Tunnel, **more: Any) -> list[Environment]:
    """What the daemon calls when a tunnel comes up from nothing."""
    order = ("up", "prepare", "route") if tunnel.release == 4 else ("prepare", "route", "up")
    return [call(tunnel, verb, **more) for verb in order]


def withdraw(tunnel: Tunnel) -> list[Environment]:
    """What the daemon calls when a tunnel goes for good: main's `ipsec down`, 4.10's `ipsec delete`."""
    return [call(tunnel, "down"), call(tunnel, "unroute")]


class MortalLedger(Ledger):
    """A ledger whose process may die before and after each commit."""

    moment: Callable[[str], None]

    def commit(self) -> None:
        self.moment("before a commit")
        super().commit()
        self.moment("after a commit")


class Machine:
    """Sends calls through the library as serve.serve_event does, against the kernel model."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "state"
        self.grave = folder / "grave"
        self.kernel = Kernel()
        self.kernel.physical("eth0", f"{WEST}/24", f"{WEST6}/64")
        eth0 = self.kernel.named("eth0").ifindex
        self.kernel.add_route(Route("0.0.0.0/0", "eth0", GATEWAY, protocol=3), eth0)
        self.kernel.add_route(Route("::/0", "eth0", "2001:db8:0:1::fe", protocol=3), eth0)
        self.kernel.fault = lambda _number, text: self.moment(text)
        self.lines: tuple[Line, ...] = ()
        self.now = NOW
        self.moments: list[str] = []
        self.dies_at: Optional[int] = None
        self.fails_at: Optional[tuple[int, Exception]] = None
        self.dead = False
        patch.setattr(sysctl, "read", self.kernel.read_sysctl)
        patch.setattr(sysctl, "write", self.kernel.write_sysctl)
        patch.setattr(nft, "read_table", self.kernel.table_of)
        patch.setattr(nft, "put_table", self.kernel.put_table)
        patch.setattr(nft, "delete_table", self.kernel.remove_table)
        patch.setattr(nft, "clamped_devices", lambda _netns="": list(self.kernel.tables))
        patch.setattr(dumps, "links", self.kernel.links)
        patch.setattr(dumps, "routes", self.kernel.routes_of)
        patch.setattr("updown.plan.scope.Xfrm", lambda: self.kernel)
        patch.setattr("updown.commands.probe.Xfrm", lambda: self.kernel)
        patch.setattr("updown.serve.Netlink", lambda: self.kernel)

    @property
    def arguments(self) -> Arguments:
        """For what goes through serve.py and the commands."""
        return Arguments(state_dir=str(self.folder))

    def settings(self, text: str) -> None:
        """The administrator's file."""
        self.lines = tuple(parse(text, "vti-updown.conf"))

    def ledger(self) -> MortalLedger:
        """The ledger, opened and locked."""
        found = open_ledger(str(self.folder), "1", wait=0.05)
        mortal = MortalLedger(found.base, found.lock)
        mortal.moment = self.moment
        return mortal

    def send(self, environment: Environment, dry: bool = False) -> Report:
        """One event; what raises, raises."""
        self.moments = []
        context = daemons.read(environment)
        with self.ledger() as ledger:
            return event.run(context, self.lines, ledger, cast(Netlink, self.kernel), self.now, dry)

    def serve(self, environment: Environment, dry: bool = False, config: str = "") -> Report:
        """One event as the hook runs it: with the settings file, the lock and the spool."""
        arguments = self.arguments
        return serve_event(daemons.read(environment), environment, arguments.state_dir, config or arguments.config, dry)

    def opened(self) -> AbstractContextManager[Ledger]:
        """The ledger as sub-commands open it: locked, with nothing waiting."""
        return opened(StateDir(str(self.folder), "1", cast(Netlink, self.kernel), {}), (), dry=False)

    def send_all(self, environments: list[Environment]) -> list[Report]:
        """Several events, one after the other."""
        return [self.send(environment) for environment in environments]

    def command(self, *words: str, **environ: str) -> int:
        """`vti-updown WORD...`, by hand or in a hook's environment; its exit status."""
        return dispatch(parse_words(["--state-dir", str(self.folder), *words], "PLUTO_VERB" in environ), environ)

    def dies(self, environment: Environment, at: int) -> bool:
        """The process of this event dies at moment number `at`; False if it was over before that."""
        self.dies_at = at
        try:
            self.send(environment)
        except Kill:
            assert self.dead
            self.revive()
            return True
        finally:
            self.dies_at, self.dead = None, False
        return False

    def moment(self, text: str) -> None:
        """Before every change of the kernel, and around every commit."""
        number = len(self.moments)
        self.moments.append(text)
        if self.dead:
            raise Kill  # handlers that a dead process would not run change nothing
        if self.dies_at == number:
            self.dead = True
            self.bury()
            raise Kill
        if self.fails_at and self.fails_at[0] == number:
            raise self.fails_at[1]

    def bury(self) -> None:
        """Keep what a death at this moment leaves on the disk."""
        shutil.rmtree(self.grave, ignore_errors=True)
        shutil.copytree(self.folder, self.grave)

    def revive(self) -> None:
        """The state directory is as the dead process left it."""
        shutil.rmtree(self.folder)
        shutil.move(str(self.grave), str(self.folder))

    # -- pictures

    def claims(self) -> list[Claim]:
        """All claims."""
        with self.ledger() as ledger:
            return list(ledger.claims())

    def kinds(self) -> set[tuple[str, str]]:
        """Connection and kind of every claim."""
        return {(claim.connection, claim.kind) for claim in self.claims()}

    def made(self) -> dict[str, int]:
        """What the ledger says we made."""
        with self.ledger() as ledger:
            return ledger.all_made()

    def unfinished(self) -> list[str]:
        """Resources of events that were begun and not finished."""
        with self.ledger() as ledger:
            return list(ledger.unfinished())

    def devices(self) -> set[str]:
        """Names of the tunnel devices there are."""
        return {link.name for link in self.kernel.by_index.values() if link.kind}

    def routes(self) -> set[tuple[str, str]]:
        """Destination and device of every route of ours."""
        names = {index: link.name for index, link in self.kernel.by_index.items()}
        return {
            (entry.route.destination, names[index])
            for entry in self.kernel.table
            if entry.route.protocol == 160
            for index in (entry.oif, *entry.more)
        }

    def sysctls(self, device: str) -> dict[str, str]:
        """Sysctls of a device, by family and name."""
        found = {path: value for path, value in self.kernel.files.items() if f"/{device}/" in path}
        return {path.replace("net/", "").replace(f"/conf/{device}/", " "): value for path, value in found.items()}

    def addresses(self, device: str) -> list[str]:
        """Addresses of a device."""
        return self.kernel.addresses(self.kernel.named(device).ifindex)


class LentLedger(MortalLedger):
    """A ledger whose connection outlives it."""

    def close(self) -> None:
        """It is closed by nobody."""


class SwiftMachine(Machine):
    """The same without a disk, for thousands of sequences: the ledger is a data base in memory, and a death takes with it what
    was not committed."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        super().__init__(Path(os.devnull), patch)
        self.refuses_at: Optional[int] = None
        self.base = connect(":memory:")
        prepare_tables(self.base)

    def ledger(self) -> MortalLedger:
        """The ledger; it needs no lock."""
        mortal = LentLedger(self.base)
        mortal.moment = self.moment
        return mortal

    def dies(self, environment: Environment, at: int) -> bool:
        """As with a disk: a transaction that was not committed goes with its process."""
        return self.interrupted(lambda: self.send(environment), at)

    def interrupted(self, work: Callable[[], object], at: int) -> bool:
        """Whatever is at work dies at moment number `at`; False if it was over before that."""
        self.dies_at = at
        try:
            work()
        except Kill:
            if self.base.in_transaction:
                self.base.execute("ROLLBACK")
            return True
        finally:
            self.dies_at, self.dead = None, False
        return False

    def refused(self, environment: Environment, at: int) -> Report:
        """The kernel refuses what comes at moment number `at`, or the disk of the ledger is full then."""
        self.refuses_at = at
        try:
            return self.send(environment)
        finally:
            self.refuses_at = None

    def moment(self, text: str) -> None:
        number = len(self.moments)
        super().moment(text)
        if self.refuses_at == number:
            if text == "before a commit":
                raise sqlite3.OperationalError("database or disk is full")
            if text != "after a commit":
                raise KernelError("refused", REFUSALS[number % len(REFUSALS)])

    def bury(self) -> None:
        """There is no disk."""
