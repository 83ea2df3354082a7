"""PLUTO_VERB: steps, scope and family, for every verb that a daemon sends, and a refusal for the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updown.model.context import parse_verb
from updown.model.errors import Refused

Case = tuple[str, tuple[str, ...], str, int]
SINGLE: list[Case] = [
    (f"{step}-{scope}{suffix}", (step,), scope, family)
    for step in ("prepare", "route", "up", "down", "unroute")
    for scope in ("host", "client")
    for suffix, family in (("", 4), ("-v6", 6))
]
JOINED: list[Case] = [("prepare-route-up", ("prepare", "route", "up"), "", 0), ("prepare-up", ("prepare", "up"), "", 0)]


@pytest.mark.parametrize(("text", "steps", "scope", "family"), SINGLE + JOINED, ids=[row[0] for row in SINGLE + JOINED])
def test_each_verb_has_steps_scope_and_family(text: str, steps: tuple[str, ...], scope: str, family: int) -> None:
    verb = parse_verb(text)
    assert (verb.text, verb.steps, verb.scope, verb.family) == (text, steps, scope, family)


@pytest.mark.parametrize(
    ("text", "makes", "routes", "joined"),
    [
        ("prepare-client", True, False, False),
        ("route-client", True, True, False),
        ("up-client", True, True, False),
        ("down-client", False, False, False),
        ("unroute-client", False, False, False),
        ("prepare-route-up", True, True, True),
        ("prepare-up", True, True, True),
    ],
    ids=lambda value: str(value),
)
def test_prepare_makes_the_device_and_route_or_up_make_routes_too(text: str, makes: bool, routes: bool, joined: bool) -> None:
    verb = parse_verb(text)
    assert (verb.makes, verb.routes, verb.joined) == (makes, routes, joined)


@pytest.mark.parametrize("text", ["disconnectNM-client", "disconnectNM-host"])
def test_a_verb_of_network_manager_asks_for_nothing(text: str) -> None:
    verb = parse_verb(text)
    assert verb.steps == ()
    assert not verb.makes


@pytest.mark.parametrize(
    "text",
    [
        "fly-client",
        "up-",
        "-client",
        "client",
        "v6",
        "up-v6",
        "up-client-v4",
        "UP-client",
        "up--client",
        "up-prepare",
        "up-down",
        "down-unroute",
        "prepare-prepare",
        "up client",
        "up-client\n",
        "up-client-v6-v6",
        "\udcff",
    ],
    ids=ascii,
)
def test_an_unknown_verb_is_refused_by_the_name_of_its_variable(text: str) -> None:
    with pytest.raises(Refused) as refusal:
        parse_verb(text)
    assert refusal.value.text.startswith("PLUTO_VERB: ")
    assert refusal.value.hint


@given(st.text(st.characters(), max_size=40))
def test_no_text_makes_the_parser_raise_anything_but_a_refusal(text: str) -> None:
    try:
        verb = parse_verb(text)
    except Refused:
        return
    assert verb.text == text
