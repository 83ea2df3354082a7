"""Two tunnels of a cloud gateway: packets go by the one that lives (tests/cases/field/01-failover-metric-revive)."""

from __future__ import annotations

import json
from functools import partial

import pytest

from tests.kit import field_cases
from tests.kit.machine import Environment, Machine
from tests.kit.reconciling import reconcile, said
from updown.commands.status import run as show
from updown.ledger.liveness import MISSES, set_missed_probes
from updown.model.claims import MADE
from updown.model.operations import Report
from updown.output.iproute2 import command
from updown.transaction import Request, converge

CASE = "01-failover-metric-revive"
BEHIND = "10.0.5.5"  # an address behind the gateway

SETTINGS = {
    "a metric each": field_cases.settings(CASE),
    "one metric": "[connection cloud*]\nroute = 10.0.0.0/16\n",
    "a hop each": "[connection cloud*]\nroute = 10.0.0.0/16\nmultipath = yes\n",
    "a wider prefix": "[connection cloud1]\nroute = 10.0.0.0/16\n[connection cloud2]\nroute = 10.0.0.0/8\n",
    "a default route": "[connection cloud1]\nroute = 10.0.0.0/16\n[connection cloud2]\nroute = default\n",
    "a table": "[connection *]\nroute = 10.0.0.0/16\ntable = 100\nrule = from 10.1.0.0/24\n[connection cloud2]\nmetric = 9\n",
    "links that follow": field_cases.settings(CASE) + "[connection cloud*]\nlink = follow\n",
}


def cloud(number: int, verb: str = "up", wish: bool = True) -> Environment:
    """A call of one of the two tunnels."""
    prepare, route, up, *others = field_cases.calls(CASE)
    of = {1: {"prepare": prepare, "route": route, "up": up}, 2: dict(zip(("prepare", "route", "up"), others))}
    found = {**of[number].get(verb, of[number]["up"]), "PLUTO_VERB": f"{verb}-client"}
    return found if wish else {**found, "PLUTO_CONN_POLICY": found["PLUTO_CONN_POLICY"].replace("+UP", "")}


def way(machine: Machine) -> set[str]:
    """The devices that packets to the cloud leave by, in the table that is asked: those of the best route there is."""
    names = {index: link.name for index, link in machine.kernel.by_index.items()}
    there = [entry for entry in machine.kernel.table if entry.route.destination in WIDER]
    there.sort(key=lambda entry: (-int(entry.route.destination.split("/")[1]), entry.route.metric))
    return {names[index] for index in (there[0].oif, *there[0].more)} if there else set()


WIDER = ("10.0.0.0/16", "10.0.0.0/8", "0.0.0.0/1")


@pytest.fixture(params=SETTINGS)
def both_up(machine: Machine, request: pytest.FixtureRequest) -> Machine:
    """Both tunnels are up, in each form of the settings."""
    machine.settings(SETTINGS[request.param])
    *comes, _ = field_cases.calls(CASE)
    machine.send_all(comes)
    return machine


def test_the_case(machine: Machine) -> None:
    machine.settings(field_cases.settings(CASE))
    *comes, dead = field_cases.calls(CASE)
    machine.send_all(comes)
    assert machine.kernel.path(BEHIND).device == "vti1"  # type: ignore[union-attr]
    report = machine.send(dead)
    assert machine.kernel.path(BEHIND).device == "vti2"  # type: ignore[union-attr]
    assert [command(one) for one in report.operations] == ["ip route del 10.0.0.0/16 dev vti1 proto 160 metric 100"]


def test_packets_go_by_the_tunnel_that_lives(both_up: Machine) -> None:
    machine = both_up
    before = machine.kernel.picture()
    assert "vti1" in way(machine)
    machine.send(cloud(1, "down"))
    assert way(machine) == {"vti2"}
    assert machine.send(cloud(1, "down")).operations == ()
    machine.send(cloud(1))
    assert machine.kernel.picture() == before


def test_who_waits_has_the_way_again_in_the_event_in_which_the_other_one_goes(both_up: Machine) -> None:
    machine = both_up
    machine.send(cloud(1, "down"))
    machine.send(cloud(2, "down", wish=False))
    assert not machine.kernel.named("vti1").up or way(machine) == {"vti1"}


def test_where_both_wait_neither_route_is_missing(both_up: Machine) -> None:
    machine = both_up
    before = machine.routes()
    machine.send(cloud(1, "down"))
    machine.send(cloud(2, "down"))
    assert not machine.kernel.named("vti1").up or machine.routes() == before
    machine.send(cloud(2))
    assert way(machine) == {"vti2"}


def test_reconcile_finds_nothing_to_do_in_either_state(both_up: Machine) -> None:
    machine = both_up
    machine.send(cloud(1, "down"))
    assert way(machine) == {"vti2"}
    for claim in machine.claims():
        assert claim.connection in ("cloud1", "cloud2")
    done = reconcile(machine, said(held=("cloud1", "cloud2"))).report  # pluto says that both wait
    assert not [one for one in done.operations if one.verb == "delete" and one.effect == "route"]
    assert reconcile(machine, said(held=("cloud1", "cloud2"))).report.operations == ()


def test_what_somebody_else_put_back_is_withdrawn_by_reconcile(both_up: Machine) -> None:
    machine = both_up
    machine.send(cloud(1, "down"))
    picture = machine.kernel.picture()
    if not machine.kernel.named("vti1").up:
        return
    machine.send(cloud(1))
    with machine.ledger() as ledger:  # as after a ledger that told nothing: the claim waits, the route stands
        (claim,) = ledger.claims("connection = ?", '"cloud1"')
        with ledger.transaction():
            ledger.put(claim._replace(kind="revive"))
        converge(Request(also=ledger.keys_on("vti1")), ledger, machine.kernel, dry=False)  # type: ignore[arg-type]
    assert machine.kernel.picture() == picture


@pytest.mark.parametrize("settings", [text for name, text in SETTINGS.items() if name != "links that follow"])
def test_a_silent_far_end_yields_too_until_it_answers(machine: Machine, settings: str) -> None:
    machine.settings(settings)
    *comes, _ = field_cases.calls(CASE)
    machine.send_all(comes)
    before = machine.kernel.picture()
    probed(machine, MISSES)
    assert way(machine) == {"vti2"}
    machine.send(cloud(2, "down"))
    assert "vti1" in way(machine) or "vti2" in way(machine)
    machine.send(cloud(2))
    assert way(machine) == {"vti2"}
    probed(machine, 0)
    assert machine.kernel.picture() == before


def probed(machine: Machine, missed: int) -> Report:
    """What `probe` does where cloud1's far end begins to be silent, or answers again."""
    with machine.ledger() as ledger:
        note = partial(set_missed_probes, device="vti1", probes=missed, now=machine.now)
        request = Request(also=ledger.keys_on("vti1"), note=note)
        return converge(request, ledger, machine.kernel, dry=False)  # type: ignore[arg-type]


def test_what_make_made_waits_with_its_tunnel(machine: Machine) -> None:
    machine.settings(
        "[device vti1]\nlocal = 198.51.100.1\nremote = 203.0.113.1\nmark = 100\nroute = 10.0.0.0/16\nmetric = 100\n"
        "[connection cloud2]\nroute = 10.0.0.0/16\nmetric = 200\n"
    )
    made(machine)
    *comes, dead = field_cases.calls(CASE)
    machine.send_all(comes)
    assert way(machine) == {"vti1"}
    machine.send(dead)
    assert way(machine) == {"vti2"}


def made(machine: Machine) -> None:
    """`vti-updown make vti1`, as its claim."""
    machine.send_all(field_cases.calls(CASE)[:3])
    with machine.ledger() as ledger, ledger.transaction():
        (claim,) = ledger.claims()
        ledger.put(claim._replace(key="made", kind=MADE, connection="", tunnel="made", group="", order=0))


def test_status_says_who_has_the_way_meanwhile(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.settings(field_cases.settings(CASE))
    machine.send_all(field_cases.calls(CASE))
    show(machine.arguments)
    line = "# 10.0.0.0/16 metric 100 of cloud1 (vti1) is withdrawn: cloud1 waits for its peer; cloud2 on vti2 lives"
    assert line in capsys.readouterr().out.splitlines()
    show(machine.arguments._replace(json=True))
    assert json.loads(capsys.readouterr().out)["withdrawn"] == [
        {
            "destination": "10.0.0.0/16",
            "table": 254,
            "metric": 100,
            "device": "vti1",
            "connection": "cloud1",
            "by": "cloud2 on vti2",
        }
    ]
    machine.send(cloud(1))
    show(machine.arguments)
    assert "withdrawn" not in capsys.readouterr().out
