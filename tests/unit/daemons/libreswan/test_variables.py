"""libreswan's variables become a context: each quirk of the contracts undone, each bad value refused by its variable."""

import re
from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.machine import Tunnel, call
from updown import daemons
from updown.daemons.libreswan.variables import TABLE
from updown.daemons.table import NEEDED, OPTIONAL, STRICT, TO_MAKE
from updown.model.claims import sa_info
from updown.model.context import Context
from updown.model.errors import Refused
from updown.model.values import Mark

MAIN = call(Tunnel(), "up")
OLD = call(Tunnel(release=4), "up")

CONTRACT = [
    "PLUTO_VERB",
    "PLUTO_CONNECTION",
    "PLUTO_CONNECTION_TYPE",
    "PLUTO_VIRT_INTERFACE",
    "PLUTO_INTERFACE",
    "PLUTO_XFRMI_ROUTE",
    "PLUTO_NEXT_HOP",
    "PLUTO_ME",
    "PLUTO_PEER",
    "PLUTO_MY_ID",
    "PLUTO_PEER_ID",
    "PLUTO_CLIENT_FAMILY",
    "PLUTO_MY_CLIENT",
    "PLUTO_PEER_CLIENT",
    "PLUTO_MY_CLIENT_NET",
    "PLUTO_PEER_CLIENT_NET",
    "PLUTO_MY_CLIENT_MASK",
    "PLUTO_PEER_CLIENT_MASK",
    "VTI_IP",
    "INTERFACE_IP",
    "PLUTO_MY_PORT",
    "PLUTO_PEER_PORT",
    "PLUTO_MY_PROTOCOL",
    "PLUTO_PEER_PROTOCOL",
    "PLUTO_SA_REQID",
    "PLUTO_SA_TYPE",
    "PLUTO_PEER_CA",
    "PLUTO_STACK",
    "PLUTO_DNS_RESOLVER",
    "PLUTO_METRIC",
    "PLUTO_MTU",
    "PLUTO_ADDTIME",
    "PLUTO_CONN_POLICY",
    "PLUTO_CONN_KIND",
    "PLUTO_CONN_ADDRFAMILY",
    "XAUTH_FAILED",
    "PLUTO_USERNAME",
    "PLUTO_MY_SOURCEIP",
    "PLUTO_MOBIKE_EVENT",
    "PLUTO_IS_PEER_CISCO",
    "PLUTO_CFG_SERVER",
    "PLUTO_CFG_CLIENT",
    "PLUTO_NM_CONFIGURED",
    "PLUTO_PEER_DNS_INFO",
    "PLUTO_PEER_DOMAIN_INFO",
    "PLUTO_PEER_BANNER",
    "PLUTO_INBYTES",
    "PLUTO_OUTBYTES",
    "NFLOG",
    "CONNMARK_IN",
    "CONNMARK_OUT",
    "PLUTO_XFRMI_FWMARK",
    "VTI_IFACE",
    "VTI_ROUTING",
    "VTI_SHARED",
    "CAT",
    "SPI_IN",
    "SPI_OUT",
    "UPDOWN_DEBUG",
]
"""contracts/libreswan.md section 2, without PATH and PWD, which the shell owns."""


def read(environment: dict[str, str], **changes: str) -> Context:
    return daemons.read({**environment, **changes})


def without(environment: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in names}


@pytest.mark.parametrize("variable", CONTRACT)
def test_every_variable_of_the_contract_has_one_row(variable: str) -> None:
    assert [row.variable for row in TABLE].count(variable) == 1


QUIRKS: dict[str, tuple[dict[str, str], str, Any]] = {
    "NULL is no virtual interface": ({"PLUTO_VIRT_INTERFACE": "NULL"}, "daemon_device", None),
    "NULL is no interface": ({"PLUTO_INTERFACE": "NULL"}, "underlay", None),
    "an alias is its interface": ({"PLUTO_INTERFACE": "eth0:1"}, "underlay", "eth0"),
    "SPI_OUT is that of packets we receive": ({"SPI_OUT": "0xa"}, "spi_in", 10),
    "SPI_IN is that of packets we send": ({"SPI_IN": "0xb"}, "spi_out", 11),
    "an ESP child adds 1 to the reqid": ({"PLUTO_SA_REQID": "16389"}, "reqid", 16388),
    "an IPCOMP child adds 2 to the reqid": ({"PLUTO_SA_REQID": "16390"}, "reqid", 16388),
    "a base reqid stays": ({"PLUTO_SA_REQID": "16388"}, "reqid", 16388),
    "a configured reqid stays": ({"PLUTO_SA_REQID": "100"}, "reqid", 100),
    "the largest configured reqid stays": ({"PLUTO_SA_REQID": "16383"}, "reqid", 16383),
    "a configured reqid is not automatic": ({"PLUTO_SA_REQID": "16383"}, "reqid_automatic", False),
    "an automatic reqid is automatic": ({"PLUTO_SA_REQID": "16388"}, "reqid_automatic", True),
    "a short mask has its zeros": ({"CONNMARK_IN": "5/0x0000ff"}, "mark_in", Mark(5, 0xFF)),
    "mask 0 has no 0x": ({"CONNMARK_IN": "5/00000000"}, "mark_in", Mark(5, 0)),
    "the next hop that is the peer is none": ({"PLUTO_NEXT_HOP": "198.51.100.2"}, "next_hop", None),
    "another next hop is a gateway": ({"PLUTO_NEXT_HOP": "198.51.100.254"}, "next_hop", "198.51.100.254"),
    "DNS servers come once": ({"PLUTO_PEER_DNS_INFO": "1.2.3.4 1.2.3.4 5.6.7.8"}, "dns_servers", ("1.2.3.4", "5.6.7.8")),
    "DNS domains come once": ({"PLUTO_PEER_DOMAIN_INFO": "a.example a.example b"}, "dns_domains", ("a.example", "b")),
    "without a resolver's name it is the file": ({"PLUTO_DNS_RESOLVER": ""}, "dns_resolver", "file"),
    "systemd's resolver is named": ({"PLUTO_DNS_RESOLVER": "systemd"}, "dns_resolver", "systemd"),
    "CK_GOING_AWAY is an instance": ({"PLUTO_CONN_KIND": "CK_GOING_AWAY"}, "instance", True),
    "CK_INSTANCE is an instance": ({"PLUTO_CONN_KIND": "CK_INSTANCE"}, "instance", True),
    "CK_PERMANENT is no instance": ({"PLUTO_CONN_KIND": "CK_PERMANENT"}, "instance", False),
    "UP is an initiator": ({"PLUTO_CONN_POLICY": "IKEv2+UP"}, "initiates", True),
    "ROUTE is no initiator": ({"PLUTO_CONN_POLICY": "IKEv2+ROUTE"}, "initiates", False),
    "UP brings the tunnel back": ({"PLUTO_CONN_POLICY": "IKEv2+UP"}, "revives", True),
    "KEEP brings the tunnel back": ({"PLUTO_CONN_POLICY": "IKEv2+KEEP"}, "revives", True),
    "ROUTE brings the tunnel back": ({"PLUTO_CONN_POLICY": "IKEv2+ROUTE"}, "revives", True),
    "a failure shunt keeps the way": ({"PLUTO_CONN_POLICY": "IKEv2+failureDROP"}, "revives", True),
    "failureNONE keeps nothing": ({"PLUTO_CONN_POLICY": "IKEv2+failureNONE"}, "revives", False),
    "none of these words keeps nothing": ({"PLUTO_CONN_POLICY": "IKEv2+UPPER"}, "revives", False),
    "no child without an SA": ({"PLUTO_SA_TYPE": "none"}, "child", False),
    "no child after a refusal": ({"PLUTO_SA_TYPE": "unknown?"}, "child", False),
    "AH is a child": ({"PLUTO_SA_TYPE": "AH"}, "child", True),
    "IPCOMP is a child": ({"PLUTO_SA_TYPE": "IPCOMP"}, "child", True),
    "pluto's device tells its if_id": ({"PLUTO_VIRT_INTERFACE": "ipsec7"}, "if_id_out", 7),
    "ipsec0 has if_id 16384": ({"PLUTO_VIRT_INTERFACE": "ipsec0"}, "if_id_out", 16384),
    "another device tells no if_id": ({"PLUTO_VIRT_INTERFACE": "tunnel1"}, "if_id_out", 0),
    "an instance of pluto's device name is no number": ({"PLUTO_VIRT_INTERFACE": "ipsec1x"}, "if_id_out", 0),
    "leftvti is the device's address": ({"VTI_IP": "10.99.0.1/30"}, "interface_addresses", ("10.99.0.1/30",)),
    "leftvti without a length is a host": ({"VTI_IP": "10.99.0.1"}, "interface_addresses", ("10.99.0.1/32",)),
    "an identity is carried as it is": ({"PLUTO_PEER_ID": "C=CA, O=\x1b[2J"}, "peer_id", "C=CA, O=\x1b[2J"),
    "bytes that are not UTF-8 are carried": ({"PLUTO_CONNECTION": "t\udcff"}, "connection", "t\udcff"),
    "CAT is a switch": ({"CAT": "YES"}, "client_translation", True),
    "UPDOWN_DEBUG is 5.4's": ({"UPDOWN_DEBUG": "yes"}, "debug", True),
    "IPSEC_INIT_SCRIPT_DEBUG is 5.3's": ({"IPSEC_INIT_SCRIPT_DEBUG": "yes"}, "debug", True),
}


@pytest.mark.parametrize("quirk", QUIRKS)
def test_a_quirk_is_undone(quirk: str) -> None:
    changes, field, wanted = QUIRKS[quirk]
    assert getattr(read(MAIN, **changes), field) == wanted


@pytest.mark.parametrize(
    ("environment", "generation", "down_ends_trap"), [(MAIN, 5, True), (OLD, 4, False)], ids=["main", "4.10"]
)
def test_the_client_family_tells_the_generation(environment: dict[str, str], generation: int, down_ends_trap: bool) -> None:
    context = read(environment)
    assert (context.generation, context.down_ends_trap) == (generation, down_ends_trap)


@pytest.mark.parametrize("environment", [MAIN, OLD], ids=["main", "4.10"])
def test_the_smallest_environment_needs_neither_family_nor_resolver_nor_marks(environment: dict[str, str]) -> None:
    least = {
        name: environment[name]
        for name in ("PLUTO_VERB", "PLUTO_CONNECTION", "PLUTO_ME", "PLUTO_PEER", "PLUTO_MY_CLIENT", "PLUTO_PEER_CLIENT")
    }
    context = read(least, PLUTO_STACK="netkey")
    assert (context.dns_resolver, context.mark_in, context.mark_out, context.interface) == ("file", None, None, None)
    assert context.warnings == ()


@pytest.mark.parametrize(
    ("interface", "device", "xfrmi_route", "routing", "shared"),
    [
        ("vti5", "NULL", "", True, True),
        ("", "NULL", "", None, None),
        ("", "ipsec1", "yes", True, None),
        ("", "ipsec1", "", None, None),
    ],
    ids=["with VTI_IFACE", "without", "ipsec-interface", "ipsec-interface without routing"],
)
def test_vti_routing_and_shared_count_only_with_vti_iface(
    interface: str, device: str, xfrmi_route: str, routing: Any, shared: Any
) -> None:
    context = read(
        MAIN,
        VTI_IFACE=interface,
        VTI_ROUTING="yes",
        VTI_SHARED="yes",
        PLUTO_VIRT_INTERFACE=device,
        PLUTO_XFRMI_ROUTE=xfrmi_route,
    )
    assert (context.routing, context.shared) == (routing, shared)


@pytest.mark.parametrize(
    ("environment", "addresses"), [(MAIN, ()), (OLD, ("10.0.0.1/24",))], ids=["5.x does it itself", "4.10 leaves it"]
)
def test_interface_ip_is_ours_to_set_only_in_4_10(environment: dict[str, str], addresses: tuple[str, ...]) -> None:
    changes = {"VTI_IFACE": "", "PLUTO_VIRT_INTERFACE": "ipsec1", "INTERFACE_IP": "10.0.0.1/24"}
    assert read(environment, **changes).interface_addresses == addresses


FAMILIES = [
    ("up-client", "198.51.100.1", "10.2.0.0/24", 4, 4),
    ("up-client-v6", "198.51.100.1", "fd00:2::/64", 4, 6),  # 6in4, main
    ("up-client", "198.51.100.1", "fd00:2::/64", 4, 6),  # 6in4, 4.10: the suffix is the outer family's
    ("up-client-v6", "2001:db8::1", "10.2.0.0/24", 6, 4),  # 4in6, 4.10
    ("up-client", "2001:db8::1", "10.2.0.0/24", 6, 4),  # 4in6, main
    ("up-client-v6", "2001:db8::1", "::/0", 6, 6),
]


@pytest.mark.parametrize(("verb", "me", "theirs", "outer", "inner"), FAMILIES, ids=[" ".join(f[:3]) for f in FAMILIES])
def test_the_families_come_from_the_addresses_and_not_from_the_suffix(
    verb: str, me: str, theirs: str, outer: int, inner: int
) -> None:
    peer, mine = "2001:db8::2" if outer == 6 else "198.51.100.2", "fd00:1::/64" if inner == 6 else "10.1.0.0/24"
    ends = {"PLUTO_ME": me, "PLUTO_PEER": peer, "PLUTO_MY_CLIENT": mine, "PLUTO_PEER_CLIENT": theirs}
    told = sa_info(read(MAIN, PLUTO_VERB=verb, **ends))
    assert (told.outer_family, told.inner_family) == (outer, inner)


@pytest.mark.parametrize(
    ("client", "net", "mask", "prefixes"),
    [
        ("192.0.2.0/24", "192.0.2.0", "255.255.255.0", ("192.0.2.0/24",)),
        ("", "192.0.2.0", "255.255.255.0", ("192.0.2.0/24",)),
        ("", "fd00:2::", "ffff:ffff:ffff:ffff::", ("fd00:2::/64",)),
        ("192.0.2.1-192.0.2.2", "192.0.2.1", "255.255.255.255", ("192.0.2.1/32", "192.0.2.2/32")),
        ("::/0", "::", "::", ("::/0",)),
    ],
    ids=["with a length", "net and mask", "IPv6 net and mask", "a range", "everything"],
)
def test_a_selector_is_read_in_each_of_its_forms(client: str, net: str, mask: str, prefixes: tuple[str, ...]) -> None:
    theirs = {"PLUTO_PEER_CLIENT": client, "PLUTO_PEER_CLIENT_NET": net, "PLUTO_PEER_CLIENT_MASK": mask}
    context = read(MAIN, PLUTO_MY_CLIENT="fd00:1::/64" if ":" in net else "10.1.0.0/24", **theirs)
    assert context.peer_client.network.prefixes == prefixes


@pytest.mark.parametrize(
    ("verb", "release", "wishes", "sa_type", "mobike", "suspended"),
    [
        ("unroute", 5, ("UP",), "ESP", "", False),
        ("unroute", 5, ("KEEP",), "AH", "", False),
        ("unroute", 5, ("ROUTE",), "IPCOMP", "", False),
        ("unroute", 5, ("UP",), "ESP", "yes", True),
        ("unroute", 5, ("UP",), "unknown?", "", False),
        ("unroute", 5, ("UP",), "none", "", False),
        ("unroute", 5, (), "ESP", "", False),
        ("unroute", 5, (), "ESP", "yes", True),
        ("unroute", 4, ("UP",), "ESP", "", False),
        ("unroute", 4, ("UP",), "ESP", "yes", True),
        ("down", 5, ("UP",), "ESP", "", False),
    ],
    ids=lambda value: str(value),
)
def test_an_unroute_that_belongs_to_a_move_is_told_apart(
    verb: str, release: int, wishes: tuple[str, ...], sa_type: str, mobike: str, suspended: bool
) -> None:
    environment = call(Tunnel(release=release), verb, wishes=wishes, sa_type=sa_type, mobike=mobike)
    assert read(environment).suspended is suspended


@pytest.mark.parametrize(
    ("verb", "release", "wishes", "event", "may_move"),
    [
        ("unroute", 5, ("UP", "MOBIKE"), None, True),
        ("unroute", 5, ("MOBIKE",), None, False),
        ("unroute", 5, ("UP",), None, False),
        ("unroute", 5, ("UP", "MOBIKE"), "", False),
        ("unroute", 4, ("UP", "MOBIKE"), None, False),
        ("down", 5, ("UP", "MOBIKE"), None, False),
    ],
    ids=lambda value: str(value),
)
def test_without_a_source_address_a_move_is_known_by_the_policy_and_the_lost_address(
    verb: str, release: int, wishes: tuple[str, ...], event: Optional[str], may_move: bool
) -> None:
    """PLUTO_MOBIKE_EVENT is there with PLUTO_MY_SOURCEIP alone, empty in every other call."""
    environment = call(Tunnel(release=release), verb, wishes=wishes)
    environment.update({} if event is None else {"PLUTO_MOBIKE_EVENT": event})
    context = read(environment)
    assert (context.suspended, context.suspended_if_lost) == (False, may_move)


@pytest.mark.parametrize("variable", [row.variable for row in TABLE if row.weight == NEEDED])
def test_a_missing_variable_that_is_needed_is_named(variable: str) -> None:
    with pytest.raises(Refused, match=f"^{variable} is not set$"):
        read(without(MAIN, variable))


@pytest.mark.parametrize("side", ["MY", "PEER"])
@pytest.mark.parametrize("half", ["", "NET", "MASK"])
def test_a_selector_that_is_missing_or_half_there_is_named(side: str, half: str) -> None:
    environment = without(MAIN, f"PLUTO_{side}_CLIENT")
    if half:
        environment[f"PLUTO_{side}_CLIENT_{half}"] = "255.255.255.0"
    with pytest.raises(Refused, match=f"^PLUTO_{side}_CLIENT is not set$"):
        read(environment)


def test_an_environment_of_no_daemon_is_refused() -> None:
    with pytest.raises(Refused, match="which daemon"):
        daemons.read({"PLUTO_VERB": "up-client"})


BAD_SHAPES = {
    "a path as device": ("VTI_IFACE", "../../etc/passwd"),
    "16 characters as device": ("VTI_IFACE", "sixteen-chars-xx"),
    "a command as device": ("VTI_IFACE", "x;reboot"),
    "an escape sequence as device": ("VTI_IFACE", "vti\x1b[2J"),
    "a newline in the device": ("VTI_IFACE", "vti5\nvti6"),
    "bytes that are not UTF-8 as device": ("VTI_IFACE", "vti\udcff"),
    "pluto's device with a blank": ("PLUTO_VIRT_INTERFACE", "ipsec 1"),
    "a mask that is none": ("CONNMARK_IN", "5/zz"),
    "a mark that is too large": ("CONNMARK_OUT", "4294967296/0xffffffff"),
    "an address that is none": ("PLUTO_ME", "999.1.1.1"),
    "a peer that is a name": ("PLUTO_PEER", "east.example"),
    "a selector that is none": ("PLUTO_PEER_CLIENT", "10.2.0.0/99"),
    "a device address that is none": ("VTI_IP", "10.99.0.1/x"),
    "a device address whose subnet is everything": ("VTI_IP", "10.99.0.1/0"),
    "an IPv6 one": ("VTI_IP", "fd00:99::1/0"),
    "such an address of pluto's own device": ("INTERFACE_IP", "10.99.0.1/0"),
    "a word that is not yes or no": ("VTI_ROUTING", "maybe"),
    "a metric that is negative": ("PLUTO_METRIC", "-1"),
    "an MTU with a unit": ("PLUTO_MTU", "1400B"),
    "an MTU that no tunnel can have": ("PLUTO_MTU", "10"),
    "an MTU that is too large": ("PLUTO_MTU", "4000000000"),
    "the name of all devices": ("VTI_IFACE", "all"),
    "the name of devices to come": ("VTI_IFACE", "default"),
    "a reqid that is none": ("PLUTO_SA_REQID", "auto"),
    "an SPI that is none": ("SPI_IN", "12"),
    "a port that is too large": ("PLUTO_PEER_PORT", "65536"),
    "a protocol that is a name": ("PLUTO_MY_PROTOCOL", "tcp"),
    "a kind in small letters": ("PLUTO_CONN_KIND", "permanent"),
    "a kind that is cut off": ("PLUTO_CONN_KIND", "CK_"),
    "a kind with more behind it": ("PLUTO_CONN_KIND", "CK_PERMANENT;reboot"),
    "a kind with a newline": ("PLUTO_CONN_KIND", "CK_PERMANENT\n"),
    "an SA type that is none": ("PLUTO_SA_TYPE", "esp"),
    "an SA type with a blank": ("PLUTO_SA_TYPE", "ESP "),
    "a policy with a blank": ("PLUTO_CONN_POLICY", "IKEv2 UP"),
    "a policy with an escape sequence": ("PLUTO_CONN_POLICY", "IKEv2+UP\x1b[2J"),
    "a family that is none": ("PLUTO_CLIENT_FAMILY", "ipv5"),
}


@pytest.mark.parametrize("case", BAD_SHAPES)
def test_a_bad_value_that_shapes_the_tunnel_is_refused_by_its_variable(case: str) -> None:
    variable, value = BAD_SHAPES[case]
    with pytest.raises(Refused) as refusal:
        read(MAIN, **{variable: value})
    assert refusal.value.text.startswith(f"{variable}=")
    assert refusal.value.text.isprintable(), "the value is shown escaped"
    assert refusal.value.status == 2


OPTIONAL_ROWS = {row.variable: row for row in TABLE if row.weight == OPTIONAL}
BAD_OPTIONS = {
    "PLUTO_MY_SOURCEIP": "10.1.0.1/24",
    "PLUTO_NEXT_HOP": "gateway",
    "PLUTO_INTERFACE": "eth/0",
    "PLUTO_PEER_DNS_INFO": "8.8.8.8 evil.example",
    "PLUTO_INBYTES": "many",
    "PLUTO_CONN_ADDRFAMILY": "inet",
    "PLUTO_ADDTIME": "-1",
    "NFLOG": "x",
    "CAT": "meow",
    "XAUTH_FAILED": "2",
    "PLUTO_MOBIKE_EVENT": "perhaps",
    "PLUTO_MY_CLIENT_MASK": "255.0.255.0",
}


@pytest.mark.parametrize("variable", BAD_OPTIONS)
def test_a_bad_value_of_something_optional_costs_a_warning_that_names_it(variable: str) -> None:
    assert variable in OPTIONAL_ROWS
    context = read(MAIN, **{variable: BAD_OPTIONS[variable]})
    assert [warning for warning in context.warnings if warning.startswith(f"{variable}=")]
    field = OPTIONAL_ROWS[variable].field
    if field in Context._field_defaults:
        assert getattr(context, field) == Context._field_defaults[field]


CARRIED = {
    "PLUTO_PEER_ID": "C=CA, O=\x1b]0;owned\x07",
    "PLUTO_PEER_BANNER": "x" * 2000,
    "PLUTO_USERNAME": "$(reboot)",
    "PLUTO_PEER_CA": "%s%n{0}",
    "PLUTO_CONNECTION": "t\x01\x02\udcfe'\"`$;&|",
}


@pytest.mark.parametrize("variable", CARRIED)
def test_free_text_of_a_peer_is_carried_without_a_word(variable: str) -> None:
    context = read(MAIN, **{variable: CARRIED[variable]})
    assert CARRIED[variable] in context
    assert context.warnings == ()


UNFIT = {
    "a peer of another family": ("PLUTO_PEER", {"PLUTO_PEER": "2001:db8::1"}),
    "our end of another family": ("PLUTO_PEER", {"PLUTO_ME": "2001:db8::1"}),
    "any address of ours": ("PLUTO_ME", {"PLUTO_ME": "0.0.0.0"}),
    "any IPv6 address of ours": ("PLUTO_ME", {"PLUTO_ME": "::", "PLUTO_PEER": "2001:db8::1"}),
    "a selector of another family": ("PLUTO_PEER_CLIENT", {"PLUTO_MY_CLIENT": "fd00::/64"}),
    "a range of another family": ("PLUTO_PEER_CLIENT", {"PLUTO_PEER_CLIENT": "fd00::1-fd00::9"}),
}


@pytest.mark.parametrize("case", UNFIT)
def test_ends_and_selectors_of_two_families_are_refused_where_they_shape_something(case: str) -> None:
    """Where nothing is made of them they do no harm, and what there is can go."""
    variable, changes = UNFIT[case]
    for verb in ("prepare-client", "route-client", "up-client", "prepare-route-up"):
        with pytest.raises(Refused) as refusal:
            read(MAIN, **changes, PLUTO_VERB=verb)
        assert refusal.value.text.startswith(f"{variable}=")
        assert len(f"vti-updown: {refusal.value.text}") <= 120
    for verb in ("down-client", "unroute-client"):
        assert read(MAIN, **changes, PLUTO_VERB=verb).warnings == ()
    read(without(MAIN, "VTI_IFACE", "CONNMARK_IN", "CONNMARK_OUT"), **changes)


@pytest.mark.parametrize("peer", ["0.0.0.0", "::"])
def test_a_template_may_have_no_peer(peer: str) -> None:
    assert read(MAIN, PLUTO_PEER=peer, PLUTO_CONN_KIND="CK_TEMPLATE").template


@pytest.mark.parametrize("kind", ["CK_TEMPLATE", "CK_GROUP", "CK_LABELED_CHILD", "CK_LABELED_TEMPLATE"])
def test_every_kind_of_libreswans_is_known(kind: str) -> None:
    context = read(MAIN, PLUTO_CONN_KIND=kind)
    assert context.instance
    assert context.warnings == ()


def test_a_kind_of_a_later_release_is_served_and_named() -> None:
    context = read(MAIN, PLUTO_CONN_KIND="CK_OUT_OF_SPACE")
    assert context.instance
    (warning,) = context.warnings
    assert warning == "PLUTO_CONN_KIND=CK_OUT_OF_SPACE: no kind of this release; taken for an instance"


SELECTORS = ("PLUTO_MY_CLIENT", "PLUTO_PEER_CLIENT")  # which must be there in one of their two forms


@pytest.mark.parametrize("variable", [row.variable for row in TABLE if row.weight != NEEDED and row.variable not in SELECTORS])
def test_an_empty_variable_is_an_absent_one(variable: str) -> None:
    assert read(MAIN, **{variable: ""}) == read(without(MAIN, variable))


VARIABLES = sorted({row.variable for row in TABLE})
HOSTILE = st.text(st.characters(), max_size=50)


@given(st.dictionaries(st.sampled_from(VARIABLES), HOSTILE, max_size=6))
@settings(deadline=None, max_examples=200)
def test_no_environment_raises_anything_but_a_refusal_by_name(changes: dict[str, str]) -> None:
    try:
        context = read(MAIN, **changes)
    except Refused as refusal:
        assert re.match("[A-Z_]+", refusal.text), "the variable comes first"
        assert refusal.text.isprintable()
        return
    for warning in context.warnings:
        assert warning.isprintable()


def test_each_row_has_a_known_weight() -> None:
    assert {row.weight for row in TABLE} == {NEEDED, STRICT, TO_MAKE, OPTIONAL}


NO_HOSTS = {
    "VTI_IP": ("10.99.0.0/30", "10.99.0.3/30", "127.0.0.1/32", "224.0.0.1/24", "0.0.0.0/32", "198.51.100.2/32", "fd00::/64"),
    "PLUTO_ME": ("127.0.0.1", "224.0.0.1", "255.255.255.255"),
    "PLUTO_PEER": ("255.255.255.255", "::1", "ff02::1"),
}


@pytest.mark.parametrize(("variable", "value"), [(name, value) for name, each in NO_HOSTS.items() for value in each])
def test_an_address_that_no_host_or_the_peer_has_is_refused_by_its_variable(variable: str, value: str) -> None:
    with pytest.raises(Refused) as refusal:
        read(MAIN, **{variable: value})
    assert refusal.value.text.startswith(f"{variable}={value}")
    assert refusal.value.status == 2
    ends = call(Tunnel(), "down")
    assert read(ends, **{variable: value}).verb.steps == ("down",), "what there is must be able to go"


def test_the_daemons_own_device_has_no_address_that_no_host_can_have() -> None:
    """4.10 leaves leftinterface-ip= to the hook."""
    own = call(Tunnel(device="", release=4), "up")
    for value in ("10.99.0.0/24", "198.51.100.2/24"):
        with pytest.raises(Refused, match=f"^INTERFACE_IP={value}"):
            read(own, PLUTO_VIRT_INTERFACE="ipsec1", INTERFACE_IP=value)


@pytest.mark.parametrize("value", ["127.0.0.1", "224.0.0.1", "255.255.255.255", "::ffff:10.0.0.1", "198.51.100.2"])
def test_an_assigned_address_that_none_of_ours_can_be_is_a_warning(value: str) -> None:
    context = read(MAIN, PLUTO_MY_SOURCEIP=value)
    assert context.source_address is None
    (warning,) = context.warnings
    assert warning.startswith(f"PLUTO_MY_SOURCEIP={value}: ") and warning.endswith("; ignored")
