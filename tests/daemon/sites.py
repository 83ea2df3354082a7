"""The three sites of contrib/strongswan/three-sites: two gateways each, every one with a private namespace or VRF and BIRD in
it, and a host behind both. Configurations are those that the example's own script writes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

from tests import TOP
from tests.daemon.charon import Charon
from tests.daemon.endpoint import HOOK
from tests.daemon.nodes import Ground, Node, end, wait_for

CONFIGURE = TOP / "contrib/strongswan/three-sites/configure"
SITES, GATEWAYS = (1, 2, 3), (1, 2)
HOLD = ("--hold", "60")  # seconds: an emulated machine that starts a hook keeps BIRD waiting
PRIVATE = "private"
LEARNING = 600.0  # seconds: with everything emulated an IKE_AUTH may take ten, and BGP tries again every so often
FORWARDING = """
cd /proc/sys/net
echo 0 >ipv6/conf/all/accept_dad
echo 0 >ipv6/conf/default/accept_dad
echo 1 >ipv4/ip_forward
echo 1 >ipv6/conf/all/forwarding
ip link set lo up
"""


class Bird:
    """A routing daemon in a node, in its private namespace where `place` is `ip netns exec private`."""

    def __init__(self, node: Node, configuration: Path, place: Sequence[str] = ()) -> None:
        words = ["bird", "-d", "-c", str(configuration), "-s", "/run/bird.ctl", "-P", "/run/bird.pid"]
        command = ["setpriv", "--pdeathsig", "KILL", *node.inside, *place, *words]
        with open(node.folder / "bird.log", "ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> None:
        end(self._process)


class SiteGateway(Charon):
    """V1-1 to V3-2. Tunnel devices and eth1, the site's own network, are in the namespace, or VRF, named private."""

    bird: Bird | None = None
    place: tuple[str, ...] = ()

    def set_up(self, site: int, which: int, options: Sequence[str]) -> None:
        """The private side, BIRD, and charon with its connections loaded."""
        self.place = () if "--vrf" in options else ("ip", "netns", "exec", PRIVATE)
        if self.place:
            self.run("ip", "netns", "add", PRIVATE)
            self.ip(f"link set eth1 netns {PRIVATE}")
            self.privately("sh", "-e", "-c", FORWARDING)
        else:
            self.ip(f"link add {PRIVATE} type vrf table 1000", f"link set {PRIVATE} up", f"link set eth1 master {PRIVATE}")
        for address in (f"2001:db8:a{site}::{which}/64 nodad", f"10.{site}.0.{which}/24"):
            self.privately("ip", "addr", "add", *address.split()[:1], "dev", "eth1", *address.split()[1:])
        self.privately("ip", "link", "set", "eth1", "up")
        self.ip("route add 2001:db8::/32 dev eth0")
        subprocess.run([sys.executable, str(CONFIGURE), *HOLD, *options, str(site), str(which), str(self.folder)], check=True)
        self.bird = Bird(self, self.folder / "bird.conf", self.place)
        swanctl = (self.folder / "swanctl.conf").read_text().replace("/usr/libexec/vti-updown", HOOK)
        self.load((self.folder / "vti-updown.conf").read_text(), swanctl)

    def privately(self, *command: str) -> str:
        return self.run(*self.place, *command).stdout

    def tunnels(self) -> set[str]:
        """The names of the devices that carry tunnels, on the private side; none are on the public one."""
        links = json.loads(self.privately("ip", "-d", "-j", "link", "show") or "[]")
        kinds = {link["ifname"]: link.get("linkinfo", {}).get("info_kind") for link in links}
        return {name for name, kind in kinds.items() if kind in ("vti6", "xfrm") and name != "ip6_vti0"}

    def makes(self, devices: set[str]) -> None:
        """Wait until these are the devices that carry tunnels."""
        wait_for(lambda: self.tunnels() == devices, f"{self.name}'s devices {devices or 'gone'}", LEARNING)

    def learns(self, network: str, devices: set[str]) -> None:
        """Wait until a network behind the tunnels is reached by these devices."""
        family = "-6" if ":" in network else "-4"
        table = [] if self.place else ["table", "1000"]

        def does() -> bool:
            routes = json.loads(self.privately("ip", "-j", family, "route", "show", network, *table) or "[]")
            return devices_of(routes) == devices

        learned(does, f"{self.name}'s ways to {network}: {devices}", self, self.place)

    def dies(self) -> None:
        """The machine is gone: no daemon, no cable."""
        if self.bird:
            self.bird.kill()
        self.kill()
        self.ip("link set eth0 down")
        self.privately("ip", "link", "set", "eth1", "down")


class Host(Node):
    """A host of a site. It learns from both gateways where the others are."""

    bird: Bird | None = None

    def set_up(self, site: int) -> None:
        self.ip("link set eth0 down", "link set eth1 up")
        self.addresses_on("eth1", f"2001:db8:a{site}::10/64", f"10.{site}.0.10/24")
        subprocess.run([sys.executable, str(CONFIGURE), *HOLD, str(site), "host", str(self.folder)], check=True)
        self.bird = Bird(self, self.folder / "bird.conf")

    def learns(self, network: str, ways: int) -> None:
        """Wait until a network is reached by so many gateways."""
        family = "-6" if ":" in network else "-4"

        def does() -> bool:
            routes = json.loads(self.run("ip", "-j", family, "route", "show", network).stdout or "[]")
            return sum(len(route.get("nexthops", [route])) for route in routes) == ways

        learned(does, f"{ways} ways from {self.name} to {network}", self)


def learned(does: Callable[[], bool], what: str, node: Node, place: Sequence[str] = ()) -> None:
    """Wait for what BIRD learns; where it does not come, say what BIRD has."""
    try:
        wait_for(does, what, LEARNING)
    except AssertionError as failure:
        words = [*place, "birdc", "-s", "/run/bird.ctl", "show"]
        said = [node.run(*words, what_of, check=False).stdout for what_of in ("protocols", "route")]
        raise AssertionError("\n".join([str(failure), *said])) from None


def devices_of(routes: Any) -> set[str]:
    """Of one route with several next hops, or of several routes with one."""
    return {hop["dev"] for route in routes for hop in route.get("nexthops", [route]) if "dev" in hop}


def inner(site: int) -> tuple[str, str]:
    """The networks of a site."""
    return f"2001:db8:a{site}::/64", f"10.{site}.0.0/24"


class Sites:
    """All of it, up and learned."""

    def __init__(self, ground: Ground, options: Sequence[str] = ()) -> None:
        self.ground = ground
        self.device = "ipsec" if "--xfrm" in options else "vti"
        self.gateways: dict[tuple[int, int], SiteGateway] = {}
        self.hosts: dict[int, Host] = {}
        for site in SITES:
            ground.segment(f"site{site}")
            for which in GATEWAYS:
                node = ground.node(SiteGateway, f"v{site}-{which}", f"2001:db8:{site}::{which}/64")
                ground.plug(node, f"site{site}", "eth1")
                node.lay_over()
                self.gateways[site, which] = node
            host = ground.node(Host, f"h{site}")
            ground.plug(host, f"site{site}", "eth1")
            host.set_up(site)
            self.hosts[site] = host
        # Who begins comes last: charon gives up for good on a peer that runs and has no connections yet (NO_PROPOSAL_CHOSEN).
        for (site, which), node in reversed(self.gateways.items()):
            node.set_up(site, which, options)

    def devices(self, site: int) -> set[str]:
        """What each gateway of a site is to have: a device for every gateway of the others."""
        return {f"{self.device}{(other - 1) * 2 + which}" for other in SITES if other != site for which in GATEWAYS}

    def close(self) -> None:
        birds = [gateway.bird for gateway in self.gateways.values()] + [host.bird for host in self.hosts.values()]
        for bird in birds:
            if bird:
                bird.kill()
