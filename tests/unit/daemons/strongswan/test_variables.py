"""strongSwan's variables become a context: each quirk of the contracts undone, each bad value refused by its variable."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.charon import Child, charon_call
from tests.kit.machine import Tunnel, call
from updown import daemons
from updown.daemons.strongswan.variables import SERIES, TABLE
from updown.daemons.table import NEEDED, OPTIONAL, STRICT
from updown.model.context import Context
from updown.model.errors import Refused
from updown.model.values import Mark

UP = charon_call(Child(), "up")

CONTRACT = [
    "PLUTO_VERSION",
    "PLUTO_VERB",
    "PLUTO_CONNECTION",
    "PLUTO_INTERFACE",
    "PLUTO_REQID",
    "PLUTO_PROTO",
    "PLUTO_UNIQUEID",
    "PLUTO_ME",
    "PLUTO_PEER",
    "PLUTO_MY_ID",
    "PLUTO_PEER_ID",
    "PLUTO_MY_CLIENT",
    "PLUTO_PEER_CLIENT",
    "PLUTO_MY_PROTOCOL",
    "PLUTO_PEER_PROTOCOL",
    "PLUTO_MY_PORT",
    "PLUTO_PEER_PORT",
    "PLUTO_XAUTH_ID",
    "PLUTO_MY_SOURCEIP",
    "PLUTO_PEER_SOURCEIP",
    "PLUTO_MARK_IN",
    "PLUTO_MARK_OUT",
    "PLUTO_IF_ID_IN",
    "PLUTO_IF_ID_OUT",
    "PLUTO_UDP_ENC",
    "PLUTO_IPCOMP",
    "PLUTO_HOST_ACCESS",
]
"""contracts/strongswan.md section 2, without PATH and the numbered ones."""

NUMBERED = [
    "PLUTO_MY_SOURCEIP4_",
    "PLUTO_MY_SOURCEIP6_",
    "PLUTO_PEER_SOURCEIP4_",
    "PLUTO_PEER_SOURCEIP6_",
    "PLUTO_DNS4_",
    "PLUTO_DNS6_",
]


def read(**changes: str) -> Context:
    return daemons.read({**UP, **changes})


@pytest.mark.parametrize("variable", CONTRACT)
def test_every_variable_of_the_contract_has_one_row(variable: str) -> None:
    assert [row.variable for row in TABLE].count(variable) == 1


def test_every_numbered_variable_of_the_contract_has_a_series() -> None:
    assert list(SERIES) == NUMBERED


QUIRKS: dict[str, tuple[dict[str, str], str, Any]] = {
    "the daemon": ({}, "daemon", "strongswan"),
    "unknown is no interface": ({"PLUTO_INTERFACE": "unknown"}, "underlay", None),
    "unknown is not known": ({"PLUTO_INTERFACE": "unknown"}, "way_unknown", True),
    "an interface is known": ({"PLUTO_INTERFACE": "eth0"}, "way_unknown", False),
    "a bad name is not unknown": ({"PLUTO_INTERFACE": "eth/0"}, "way_unknown", False),
    "an absent interface is not unknown": ({"PLUTO_INTERFACE": ""}, "way_unknown", False),
    "a mark has its mask": ({"PLUTO_MARK_IN": "33/0x000000ff"}, "mark_in", Mark(33, 0xFF)),
    "a mark per direction": ({"PLUTO_MARK_OUT": "34/0x000000ff"}, "mark_out", Mark(34, 0xFF)),
    "no mark": ({"PLUTO_MARK_IN": ""}, "mark_in", None),
    "an if_id is decimal": ({"PLUTO_IF_ID_IN": "42"}, "if_id_in", 42),
    "an if_id per direction": ({"PLUTO_IF_ID_OUT": "4294967295"}, "if_id_out", 4294967295),
    "no if_id": ({}, "if_id_out", 0),
    "the number of the IKE SA": ({"PLUTO_UNIQUEID": "4711"}, "unique_id", 4711),
    "the reqid as it is": ({"PLUTO_REQID": "16389"}, "reqid", 16389),
    "the reqid tells nothing": ({"PLUTO_REQID": "16389"}, "reqid_automatic", False),
    "esp": ({"PLUTO_PROTO": "esp"}, "sa_type", "ESP"),
    "ah": ({"PLUTO_PROTO": "ah"}, "sa_type", "AH"),
    "there is always a child": ({"PLUTO_PROTO": ""}, "child", True),
    "UDP": ({"PLUTO_UDP_ENC": "4500"}, "encapsulation_port", 4500),
    "no UDP": ({}, "encapsulation_port", 0),
    "IPComp": ({"PLUTO_IPCOMP": "1"}, "compressed", True),
    "host access": ({"PLUTO_HOST_ACCESS": "1"}, "host_access", True),
    "the user's name": ({"PLUTO_XAUTH_ID": "carol $(reboot)"}, "username", "carol $(reboot)"),
    "an identity is carried as it is": ({"PLUTO_PEER_ID": "C=CH, O=x\x1b[2J"}, "peer_id", "C=CH, O=x\x1b[2J"),
    "a child's name is carried as it is": ({"PLUTO_CONNECTION": "a b;\udcff"}, "connection", "a b;\udcff"),
    "never an instance": ({}, "instance", False),
    "nothing is brought back": ({}, "revives", False),
    "the first address is any family's": (
        {"PLUTO_MY_SOURCEIP": "10.7.0.1", "PLUTO_MY_SOURCEIP4_1": "10.7.0.1", "PLUTO_MY_SOURCEIP6_1": "fd07::1"},
        "virtual_addresses",
        ("10.7.0.1", "fd07::1"),
    ),
    "the first address alone": ({"PLUTO_MY_SOURCEIP": "10.7.0.1"}, "virtual_addresses", ("10.7.0.1",)),
    "the ninth comes before the tenth": (
        {f"PLUTO_MY_SOURCEIP4_{number}": f"10.7.0.{number}" for number in (10, 9, 1)},
        "virtual_addresses",
        ("10.7.0.1", "10.7.0.9", "10.7.0.10"),
    ),
    "what the peer was given": (
        {"PLUTO_PEER_SOURCEIP4_1": "10.7.0.1", "PLUTO_PEER_SOURCEIP6_1": "fd07::1"},
        "peer_virtual_addresses",
        ("10.7.0.1", "fd07::1"),
    ),
    "DNS servers come once": (
        {"PLUTO_DNS4_1": "10.1.0.53", "PLUTO_DNS4_2": "10.1.0.53", "PLUTO_DNS6_1": "fd00:1::53"},
        "dns_servers",
        ("10.1.0.53", "fd00:1::53"),
    ),
    "a variable that is no number is none": ({"PLUTO_DNS4_x": "10.1.0.53"}, "dns_servers", ()),
}


@pytest.mark.parametrize("quirk", QUIRKS)
def test_a_quirk_is_undone(quirk: str) -> None:
    changes, field, wanted = QUIRKS[quirk]
    assert getattr(read(**changes), field) == wanted


SOURCES: dict[str, tuple[str, str, dict[str, str], Any]] = {
    "the one of the family": ("10.7.0.1/32", "10.2.0.0/24", {"4_1": "10.7.0.1", "6_1": "fd07::1"}, "10.7.0.1"),
    "the one of the other family": ("fd07::1/128", "fd00:2::/64", {"4_1": "10.7.0.1", "6_1": "fd07::1"}, "fd07::1"),
    "none of the family": ("fd00:1::/64", "fd00:2::/64", {"": "10.7.0.1", "4_1": "10.7.0.1"}, None),
    "the one in the selector": ("10.7.0.2/32", "10.2.0.0/24", {"4_1": "10.7.0.1", "4_2": "10.7.0.2"}, "10.7.0.2"),
    "the first where none is in it": ("10.1.0.0/24", "10.2.0.0/24", {"4_1": "10.7.0.1", "4_2": "10.7.0.2"}, "10.7.0.1"),
    "the one without a number": ("10.7.0.1/32", "10.2.0.0/24", {"": "10.7.0.1"}, "10.7.0.1"),
    "none": ("10.1.0.0/24", "10.2.0.0/24", {}, None),
}


@pytest.mark.parametrize("case", SOURCES)
def test_the_source_address_is_the_assigned_one_that_fits_the_selectors(case: str) -> None:
    mine, theirs, addresses, wanted = SOURCES[case]
    given = {f"PLUTO_MY_SOURCEIP{end}": address for end, address in addresses.items()}
    assert read(PLUTO_MY_CLIENT=mine, PLUTO_PEER_CLIENT=theirs, **given).source_address == wanted


SELECTORS = {
    "any": ("0", "0", "0", "0", "10.1.0.0/24", "10.2.0.0/24"),
    "a port": ("6", "0", "6", "443", "10.1.0.0/24 6/0", "10.2.0.0/24 6/443"),
    "a range of ports": ("6", "8000:8010", "6", "0", "10.1.0.0/24 6/8000:8010", "10.2.0.0/24 6/0"),
    "opaque ports": ("17", "65535:0", "17", "65535:0", "10.1.0.0/24 17/65535:0", "10.2.0.0/24 17/65535:0"),
    "ICMP type and code": ("1", "8", "1", "0", "10.1.0.0/24 1/8", "10.2.0.0/24 1/0"),
    "a protocol on one side": ("6", "0", "0", "0", "10.1.0.0/24 6/0", "10.2.0.0/24"),
}


@pytest.mark.parametrize("case", SELECTORS)
def test_protocols_and_ports_are_part_of_the_selectors(case: str) -> None:
    my_protocol, my_port, peer_protocol, peer_port, mine, theirs = SELECTORS[case]
    context = read(
        PLUTO_MY_PROTOCOL=my_protocol, PLUTO_MY_PORT=my_port, PLUTO_PEER_PROTOCOL=peer_protocol, PLUTO_PEER_PORT=peer_port
    )
    assert (context.my_client.text, context.peer_client.text) == (mine, theirs)


VERBS = {
    "up-host": ("up", "host", 4),
    "up-client": ("up", "client", 4),
    "up-host-v6": ("up", "host", 6),
    "up-client-v6": ("up", "client", 6),
    "down-host": ("down", "host", 4),
    "down-client": ("down", "client", 4),
    "down-host-v6": ("down", "host", 6),
    "down-client-v6": ("down", "client", 6),
}


@pytest.mark.parametrize("text", VERBS)
def test_each_of_the_eight_verbs_is_known(text: str) -> None:
    step, scope, family = VERBS[text]
    verb = read(PLUTO_VERB=text).verb
    assert (verb.steps, verb.scope, verb.family) == ((step,), scope, family)


@pytest.mark.parametrize(
    "text", ["prepare-client", "route-client", "unroute-host", "prepare-route-up", "disconnectNM", "up", "up-v6", "x"]
)
def test_any_other_verb_is_refused(text: str) -> None:
    with pytest.raises(Refused, match=r"^PLUTO_VERB: "):
        read(PLUTO_VERB=text)


def least(*more: str) -> dict[str, str]:
    """What no call lacks, and `more` of UP."""
    names = ("VERB", "CONNECTION", "UNIQUEID", "ME", "PEER", "MY_CLIENT", "PEER_CLIENT")
    return {name: UP[name] for name in [*(f"PLUTO_{name}" for name in names), *more]}


def test_the_smallest_environment() -> None:
    context = daemons.read(least())
    assert (context.mark_in, context.mark_out, context.if_id_in, context.if_id_out) == (None, None, 0, 0)
    assert (context.underlay, context.way_unknown, context.warnings) == (None, False, ())


DETECTED: dict[str, tuple[dict[str, str], str]] = {
    "strongSwan's call": (UP, "strongswan"),
    "PLUTO_UNIQUEID alone": (least(), "strongswan"),
    "libreswan's call": (call(Tunnel(), "up"), "libreswan"),
    "4.10's call": (call(Tunnel(release=4), "up"), "libreswan"),
    "an old libreswan's version": ({**call(Tunnel(release=4), "up"), "PLUTO_VERSION": "2.0"}, "libreswan"),
}


@pytest.mark.parametrize("case", DETECTED)
def test_the_daemon_is_told_by_its_variables(case: str) -> None:
    environment, daemon = DETECTED[case]
    assert daemons.read(environment).daemon == daemon


@pytest.mark.parametrize("sign", [{"PLUTO_VERSION": "1.1"}, {"PLUTO_UNIQUEID": "1"}, {"PLUTO_PROTO": "esp"}], ids=str)
def test_each_sign_of_strongswan_is_enough(sign: dict[str, str]) -> None:
    """What is missing is then named by strongSwan's table."""
    with pytest.raises(Refused, match=r"^PLUTO_CONNECTION is not set$"):
        daemons.read({"PLUTO_VERB": "up-client", **sign})


@pytest.mark.parametrize("version", ["2.0", "1.2", ""])
def test_another_version_is_no_sign(version: str) -> None:
    with pytest.raises(Refused, match="which daemon"):
        daemons.read({"PLUTO_VERB": "up-client", "PLUTO_VERSION": version})


@pytest.mark.parametrize("variable", [row.variable for row in TABLE if row.weight == NEEDED])
def test_a_missing_variable_that_is_needed_is_named(variable: str) -> None:
    with pytest.raises(Refused, match=f"^{variable} is not set$"):
        read(**{variable: ""})


BAD_SHAPES = {
    "a mask that is none": ("PLUTO_MARK_IN", "5/zz"),
    "a mark that is too large": ("PLUTO_MARK_OUT", "4294967296/0xffffffff"),
    "an if_id in another base": ("PLUTO_IF_ID_IN", "0x2a"),
    "an if_id that is too large": ("PLUTO_IF_ID_OUT", "4294967296"),
    "an IKE SA that is no number": ("PLUTO_UNIQUEID", "1;reboot"),
    "an address that is none": ("PLUTO_ME", "999.1.1.1"),
    "a peer that is a name": ("PLUTO_PEER", "east.example"),
    "a selector that is none": ("PLUTO_PEER_CLIENT", "10.2.0.0/99"),
    "a selector with an escape sequence": ("PLUTO_MY_CLIENT", "10.1.0.0/24\x1b[2J"),
    "a port that is too large": ("PLUTO_PEER_PORT", "65536"),
    "a range of ports in libreswan's form": ("PLUTO_MY_PORT", "1-2"),
    "a protocol that is a name": ("PLUTO_MY_PROTOCOL", "tcp"),
}


@pytest.mark.parametrize("case", BAD_SHAPES)
def test_a_bad_value_that_shapes_the_tunnel_is_refused_by_its_variable(case: str) -> None:
    variable, value = BAD_SHAPES[case]
    with pytest.raises(Refused) as refusal:
        read(**{variable: value})
    assert refusal.value.text.startswith(f"{variable}=")
    assert refusal.value.text.isprintable(), "the value is shown escaped"
    assert refusal.value.status == 2


@pytest.mark.parametrize(
    ("variable", "changes"),
    [
        ("PLUTO_PEER", {"PLUTO_PEER": "2001:db8::1"}),
        ("PLUTO_ME", {"PLUTO_ME": "0.0.0.0"}),
        ("PLUTO_PEER_CLIENT", {"PLUTO_MY_CLIENT": "fd00::/64"}),
    ],
    ids=str,
)
def test_ends_and_selectors_of_two_families_are_refused(variable: str, changes: dict[str, str]) -> None:
    """At `up`, which would make something of them."""
    with pytest.raises(Refused, match=f"^{variable}="):
        read(**changes)
    assert read(**changes, PLUTO_VERB="down-client").warnings == ()


BAD_OPTIONS = {
    "PLUTO_INTERFACE": ("eth/0", "underlay"),
    "PLUTO_REQID": ("auto", "reqid"),
    "PLUTO_PROTO": ("ipcomp", "sa_type"),
    "PLUTO_UDP_ENC": ("65536", "encapsulation_port"),
    "PLUTO_IPCOMP": ("maybe", "compressed"),
    "PLUTO_HOST_ACCESS": ("2", "host_access"),
    "PLUTO_MY_SOURCEIP": ("10.7.0.1/24", "source_address"),
    "PLUTO_MY_SOURCEIP4_1": ("10.7.0.256", "virtual_addresses"),
    "PLUTO_MY_SOURCEIP6_1": ("fd07::1%eth0", "virtual_addresses"),
    "PLUTO_PEER_SOURCEIP": ("$(reboot)", "peer_virtual_addresses"),
    "PLUTO_PEER_SOURCEIP4_1": ("x", "peer_virtual_addresses"),
    "PLUTO_PEER_SOURCEIP6_1": ("\x1b[2J", "peer_virtual_addresses"),
    "PLUTO_DNS4_1": ("dns.example", "dns_servers"),
    "PLUTO_DNS6_2": (":::", "dns_servers"),
}


@pytest.mark.parametrize("variable", BAD_OPTIONS)
def test_a_bad_value_of_something_optional_costs_a_warning_that_names_it(variable: str) -> None:
    value, field = BAD_OPTIONS[variable]
    context = read(**{variable: value})
    (warning,) = context.warnings
    assert warning.startswith(f"{variable}=") and warning.isprintable()
    assert getattr(context, field) == Context._field_defaults[field]


@pytest.mark.parametrize("variable", [row.variable for row in TABLE if row.weight != NEEDED])
def test_an_empty_variable_is_an_absent_one(variable: str) -> None:
    absent = {name: value for name, value in UP.items() if name != variable}
    assert daemons.read({**UP, variable: ""}) == daemons.read(absent)


HOSTILE = st.text(st.characters(), max_size=50)
VARIABLES = sorted({*CONTRACT, *(f"{prefix}1" for prefix in NUMBERED)})


@given(st.dictionaries(st.sampled_from(VARIABLES), HOSTILE, max_size=6))
@settings(deadline=None, max_examples=200)
def test_no_environment_raises_anything_but_a_refusal_by_name(changes: dict[str, str]) -> None:
    try:
        context = read(**changes)
    except Refused as refusal:
        assert re.match("[A-Z_]+", refusal.text), "the variable comes first"
        assert refusal.text.isprintable()
        return
    for warning in context.warnings:
        assert warning.isprintable()


def test_each_row_has_a_known_weight() -> None:
    assert {row.weight for row in TABLE} == {NEEDED, STRICT, OPTIONAL}


@pytest.mark.parametrize("value", ["127.0.0.1", "224.0.0.1", "255.255.255.255", "198.51.100.2"])
def test_an_assigned_address_that_none_of_ours_can_be_is_a_warning(value: str) -> None:
    """The next one that fits is used instead."""
    assigned = {"PLUTO_MY_SOURCEIP": value, "PLUTO_MY_SOURCEIP4_1": value, "PLUTO_MY_SOURCEIP4_2": "10.7.0.9"}
    context = read(**assigned)
    assert (context.virtual_addresses, context.source_address) == (("10.7.0.9",), "10.7.0.9")
    assert [warning.partition("=")[0] for warning in context.warnings] == ["PLUTO_MY_SOURCEIP", "PLUTO_MY_SOURCEIP4_1"]
    assert all(warning.endswith("; ignored") for warning in context.warnings)


def test_what_we_assigned_to_the_peer_may_be_its_outer_address() -> None:
    assert read(PLUTO_PEER_SOURCEIP4_1="198.51.100.2").peer_virtual_addresses == ("198.51.100.2",)
