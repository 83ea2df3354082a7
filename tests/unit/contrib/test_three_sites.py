"""The plan behind contrib/strongswan/three-sites, without a daemon."""

import importlib.machinery
import importlib.util
import ipaddress
from itertools import combinations
from types import ModuleType

import pytest

from tests import TOP
from tests.kit.settings_text import parse
from updown.settings.file import resolve

CONFIGURE = TOP / "contrib/strongswan/three-sites/configure"


@pytest.fixture(scope="module")
def plan() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("configure", str(CONFIGURE))
    spec = importlib.util.spec_from_loader("configure", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_both_ends_of_a_tunnel_share_a_127_that_no_other_pair_has(plan: ModuleType) -> None:
    gateways = [(site, which) for site in plan.SITES for which in plan.GATEWAYS]
    networks = set()
    for here, there in combinations(gateways, 2):
        ours, theirs = plan.transit(here, there)
        assert (theirs, ours) == plan.transit(there, here)
        network = ipaddress.ip_network(f"{ours}/127", strict=False)
        assert ipaddress.ip_address(theirs) in network
        networks.add(network)
    assert len(networks) == len(list(combinations(gateways, 2)))


@pytest.mark.parametrize(("xfrm", "vrf"), [(False, False), (True, False), (False, True)])
def test_the_settings_are_read_and_give_each_device_its_address(plan: ModuleType, xfrm: bool, vrf: bool) -> None:
    lines = tuple(parse(plan.settings((1, 1), xfrm, vrf), "f"))
    for there in plan.others((1, 1)):
        found = resolve(lines, plan.name(there), plan.device(there, xfrm))
        assert found.address == (f"{plan.transit((1, 1), there)[0]}/127",)
        assert (found.netns, found.vrf) == (("", "private") if vrf else ("private", ""))
        assert found.routing is False
