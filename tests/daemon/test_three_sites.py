"""Three sites with two gateways each, BGP by BIRD over the tunnels, and every device made by our hook
(contrib/strongswan/three-sites): with namespaces; in the full run with XFRM interfaces and VRFs as well, since six charons and
nine BIRDs take an emulated machine minutes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.daemon.conftest import a_ground
from tests.daemon.sites import GATEWAYS, SITES, Sites, inner

pytestmark = pytest.mark.daemon

VARIANTS = {
    "namespaces": [],
    "namespaces, XFRM interfaces": ["--xfrm"],
    "VRF": ["--vrf"],
    "VRF, XFRM interfaces": ["--xfrm", "--vrf"],
}
HOSTS = {site: (f"2001:db8:a{site}::10", f"10.{site}.0.10") for site in SITES}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] if options else []) for name, options in VARIANTS.items()],
)
def sites(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    with a_ground(tmp_path_factory.mktemp("sites")) as ground:
        made = Sites(ground, VARIANTS[request.param])
        yield made
        made.close()


@pytest.fixture(autouse=True)
def clean() -> None:
    """In the place of the one that empties every gateway after each test: these follow each other."""


def test_every_gateway_has_a_device_for_each_other_one_and_none_in_public(sites: Sites) -> None:
    for (site, _), gateway in sites.gateways.items():
        gateway.makes(sites.devices(site))
        if gateway.place:
            assert not sites.devices(site) & set(gateway.links())


def test_routes_are_learned_and_a_site_with_two_gateways_is_reached_by_both(sites: Sites) -> None:
    for here, host in sites.hosts.items():
        for network in (network for there in SITES if there != here for network in inner(there)):
            host.learns(network, ways=2)
    for network in inner(3):
        sites.gateways[1, 1].learns(network, {f"{sites.device}5", f"{sites.device}6"})


def test_hosts_reach_each_other_through_esp_in_both_families(sites: Sites) -> None:
    sites.ground.wire.seen()
    for ours, theirs in zip(HOSTS[1], HOSTS[3]):
        assert sites.hosts[1].ping(theirs, ours, count=4), f"no answer from {theirs}"
    seen = sites.ground.wire.seen()
    assert seen.esp >= 16
    assert not seen.clear


def test_when_a_gateway_dies_its_traffic_moves_to_the_other(sites: Sites) -> None:
    sites.gateways[3, 1].dies()
    sites.ground.wire.seen()
    for network in inner(3):
        for which in GATEWAYS:
            sites.gateways[1, which].learns(network, {f"{sites.device}6"})
    for network in inner(1):
        sites.hosts[3].learns(network, ways=1)
    for ours, theirs in zip(HOSTS[1], HOSTS[3]):
        assert sites.hosts[1].ping(theirs, ours, count=4), f"no answer from {theirs}"
    seen = sites.ground.wire.seen()
    assert seen.esp >= 16
    assert not seen.clear


def test_without_the_daemons_nothing_leaves(sites: Sites) -> None:
    """charon of both gateways of site 1 ends in good order, and takes the devices along: no packet finds a way out."""
    for which in GATEWAYS:
        sites.gateways[1, which].shut_down()
        sites.gateways[1, which].makes(set())
    sites.ground.wire.seen()
    for ours, theirs in zip(HOSTS[1], HOSTS[2]):
        assert not sites.hosts[1].ping(theirs, ours, count=1)
    assert not sites.ground.wire.seen().clear
