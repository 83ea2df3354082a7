"""The administrator's file: what it may say, whose word counts, and errors that name file, line and the nearest key."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updown.model.errors import Refused
from updown.settings.file import Line, lock_wait, parse, read_all, read_files, resolve
from updown.settings.keys import BY_KIND, KEYS, Settings
from updown.settings.parsers import StaticRoute, StaticRule

DEFAULTS = "[defaults]\nmtu = 1000\n"
CONNECTION_GLOB = "[connection *]\nmtu = 1100\n"
CONNECTION = "[connection t]\nmtu = 1200\n"
DEVICE_GLOB = "[device vti*]\nmtu = 1300\n"
DEVICE = "[device vti5]\nmtu = 1400\n"

PRECEDENCE = {
    "nothing": ("", 0),
    "defaults": (DEFAULTS, 1000),
    "connection glob beats defaults": (CONNECTION_GLOB + DEFAULTS, 1100),
    "exact connection beats glob": (CONNECTION + CONNECTION_GLOB + DEFAULTS, 1200),
    "device glob beats exact connection": (DEVICE_GLOB + CONNECTION + CONNECTION_GLOB, 1300),
    "exact device beats device glob": (DEVICE + DEVICE_GLOB + CONNECTION, 1400),
    "order in the file does not matter between kinds": (DEVICE + CONNECTION + DEFAULTS, 1400),
    "later beats earlier in one kind": (DEFAULTS + "[defaults]\nmtu = 1001\n", 1001),
    "later beats earlier between globs": (CONNECTION_GLOB + "[connection ?]\nmtu = 1101\n", 1101),
    "another connection's section is not ours": ("[connection u]\nmtu = 1200\n" + DEFAULTS, 1000),
    "another device's section is not ours": ("[device vti6]\nmtu = 1200\n" + DEFAULTS, 1000),
    "upper and lower case differ": ("[connection T]\nmtu = 1200\n" + DEFAULTS, 1000),
}


@pytest.mark.parametrize("case", PRECEDENCE)
def test_device_beats_connection_beats_defaults_and_exact_beats_glob(case: str) -> None:
    text, mtu = PRECEDENCE[case]
    assert resolve(tuple(parse(text, "f")), "t", "vti5").mtu == mtu


def test_keys_of_different_sections_add_up() -> None:
    lines = tuple(parse("[defaults]\nmtu=1400\n[connection t]\nmetric=5\n[device vti5]\ntable=100\n", "f"))
    assert resolve(lines, "t", "vti5") == Settings(mtu=1400, metric=5, table=100)


@pytest.mark.parametrize(
    ("pattern", "connection", "fits"),
    [
        ("t", "t", True),
        ("t", "t/1x2", True),
        ("t/1x2", "t/1x2", True),
        ("t/1x2", "t/1x1", False),
        ("t", "tt", False),
        ("t*", "t/1x2", True),
        ("road-[0-9]", "road-7", True),
        ("road-[0-9]", "road-x", False),
        ("*", "anything", True),
        ("two words", "two words", True),
    ],
)
def test_a_section_is_for_the_connections_its_pattern_fits(pattern: str, connection: str, fits: bool) -> None:
    lines = tuple(parse(f"[connection {pattern}]\nmtu = 1400\n", "f"))
    assert (resolve(lines, connection).mtu == 1400) is fits


def test_the_exact_name_of_one_child_beats_a_glob_for_it() -> None:
    lines = tuple(parse("[connection t/1x2]\nmtu = 1400\n[connection t*]\nmtu = 1300\n", "f"))
    assert resolve(lines, "t/1x2").mtu == 1400


ACCEPTED: dict[str, Any] = {
    "interface = vti{mark}": "vti{mark}",
    "interface = vti5": "vti5",
    "interface = v{mark_in}-{mark_out}": "v{mark_in}-{mark_out}",
    "interface = {connection}": "{connection}",
    "kind = vti": "vti",
    "shared = yes": True,
    "template = auto": None,
    "template = no": False,
    "routing = yes": True,
    "delete = last": "last",
    "delete = never": "never",
    "delete = rule": "rule",
    "address = 10.0.0.1/24, fd00::1/64": ("10.0.0.1/24", "fd00::1/64"),
    "mtu = 68": 68,
    "mtu = 65515": 65515,
    "table = main": 254,
    "table = 4294967295": 4294967295,
    "metric = 100": 100,
    "multipath = no": False,
    "multipath = yes": True,
    "kind = xfrm": "xfrm",
    "disable_policy = auto": BY_KIND,
    "disable_policy = keep": None,
    "disable_policy = no": 0,
    "forwarding = yes": 1,
    "rp_filter = 2": "2",
    "rp_filter = keep": "keep",
    "rp_filter = auto": "auto",
    "address = 10.0.0.1 peer 10.0.0.2": ("10.0.0.1 peer 10.0.0.2/32",),
    "address = fe80::1/64 10.0.0.1 peer 10.0.0.2/31, 10.3.0.1/30": (
        "fe80::1/64",
        "10.0.0.1 peer 10.0.0.2/31",
        "10.3.0.1/30",
    ),
    "vrf = red": "red",
    "netns = private-1": "private-1",
    "route = 10.9.0.0/16": (StaticRoute("10.9.0.0/16"),),
    "route = 10.9.0.0/16 via 10.6.106.2, fd00:9::/48": (
        StaticRoute("10.9.0.0/16", "10.6.106.2"),
        StaticRoute("fd00:9::/48"),
    ),
    "route = default": (StaticRoute("0.0.0.0/0"), StaticRoute("::/0")),
    "interface = ip_vti{mark}": "ip_vti{mark}",
    "route = 0.0.0.0/1": (StaticRoute("0.0.0.0/1"),),
    "route = default via fe80::2": (StaticRoute("::/0", "fe80::2"),),
    "route = 10.9.0.1": (StaticRoute("10.9.0.1/32"),),
    "rule = fwmark 0x10/0xff": (StaticRule(fwmark=16, fwmask=255),),
    "rule = fwmark 0X10/0XFF": (StaticRule(fwmark=16, fwmask=255),),
    "rule = fwmark 7, from fd00:1::/64 iif eth1 priority 900": (
        StaticRule(fwmark=7, fwmask=0xFFFFFFFF),
        StaticRule("fd00:1::/64", "eth1", priority=900),
    ),
    "local = 198.51.100.1": "198.51.100.1",
    "local = 2001:DB8:0::1": "2001:db8::1",
    "remote = any": "any",
    "remote = 0.0.0.0": "any",
    "remote = ::": "any",
    "remote = 2001:db8::2": "2001:db8::2",
    "mark = 5": 5,
    "mark = 0x5": 5,
    "mark = 0XfF/0xffffffff": 255,
    "mark_in = 5/0xffffffff": 5,
    "mark_out = 4294967295": 0xFFFFFFFF,
    "if_id = 0x2a": 42,
    "if_id = 42": 42,
    "link = follow": "follow",
    "probe = 10.6.106.2": "10.6.106.2",
    "probe = no": "",
}


@pytest.mark.parametrize("line", ACCEPTED)
def test_an_accepted_line_has_its_value(line: str) -> None:
    (found,) = parse(f"[defaults]\n{line}\n", "f")
    assert found.value == ACCEPTED[line]
    assert found.where == "f:2"


def test_every_key_is_a_field_of_the_settings_with_a_default() -> None:
    assert set(KEYS) == set(Settings._fields) == set(Settings._field_defaults)


def test_mark_is_both_of_its_directions_and_the_later_line_counts() -> None:
    lines = tuple(parse("[connection t]\nmark_in = 7\n[device vti5]\nmark = 5\nmark_out = 6\n", "f"))
    found = resolve(lines, "t", "vti5")
    assert (found.mark_in, found.mark_out) == (5, 6)
    assert resolve(lines, "t").mark_in == 7


def test_every_mistake_is_found_in_its_place(tmp_path: Path) -> None:
    """Not only the first: of two files, below a bad head, and before any section."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "a.conf").write_text(
        "mtu = 1400\nmtu = 1401\n[conection t]\nmtu = big\nlock_wait = 1\n[device d]\nmark = 5\n"
    )
    (tmp_path / "conf.d" / "b.conf").write_text("[defaults]\nroutng = yes\nmtu = 1402\n[device e\n")
    (tmp_path / "conf.d" / "c.conf").mkdir()
    found = list(read_all(str(tmp_path / "a.conf")))
    said = [str(one).replace(f"{tmp_path}/", "").split(": ")[0] for one in found if isinstance(one, Refused)]
    assert said == ["a.conf:1", "a.conf:3", "a.conf:4", "conf.d/b.conf:2", "conf.d/b.conf:4", "conf.d/c.conf"]
    good = [(line.kind, line.key) for line in found if isinstance(line, Line)]
    assert good == [("unknown", "mtu"), ("unknown", "lock_wait"), ("device", "mark"), ("defaults", "mtu")]


def test_blank_lines_comments_and_white_space_do_not_count() -> None:
    text = "# a\n; b\n\n  [defaults]  \n\t mtu=1400 \n   # c\n"
    assert resolve(tuple(parse(text, "f")), "t").mtu == 1400


REFUSED = {
    "an unknown key with a near one": ("[defaults]\nmtuu = 1400\n", "f:2: unknown key mtuu; did you mean mtu?"),
    "a British spelling": ("[defaults]\nroutng = yes\n", "f:2: unknown key routng; did you mean routing?"),
    "an unknown key far from all": ("[defaults]\n\n\nzzzz = 1\n", "f:4: unknown key zzzz; known are interface, "),
    "an unknown section": ("[conection t]\n", "f:1: unknown section conection t; did you mean connection?"),
    "a device's section without a name a device can have": (
        "[device toolongdevicename1]\n",
        "f:1: [device toolongdevicename1]: a device name has at most 15 characters, this one 18",
    ),
    "a path as a device's section": ("[device a/b]\n", "f:1: [device a/b]: a device name is letters"),
    "a section for the kernel's own device": (
        "[device ip_vti0]\n",
        "f:1: [device ip_vti0]: ip_vti0 is the kernel's own, which no tunnel can have: choose another name",
    ),
    "a section for the kernel's own IPv6 device": ("[device ip6_vti0]\n", "f:1: [device ip6_vti0]: ip6_vti0 is the"),
    "the kernel's own device for a connection": (
        "[connection t]\ninterface = ip_vti0\n",
        "f:2: interface = ip_vti0: ip_vti0 is the kernel's own",
    ),
    "a key twice": (
        "[connection t]\nroute = 10.9.0.0/16\nmtu = 1400\nroute = 10.8.0.0/16\n",
        "f:4: route stands in this section already, in line 2",
    ),
    "the local table": ("[defaults]\ntable = 255\n", "f:2: table = 255: 255 is the table of this machine's own"),
    "a route to this machine": (
        "[defaults]\nroute = 10.0.0.0/8, 127.0.0.0/24\n",
        "f:2: route = 10.0.0.0/8, 127.0.0.0/24: 127.0.0.0/24 is loopback: no route leads there",
    ),
    "a route to this machine by IPv6": ("[defaults]\nroute = ::1\n", "f:2: route = ::1: ::1/128 is loopback: no"),
    "a multicast route": ("[defaults]\nroute = 224.0.0.0/4\n", "f:2: route = 224.0.0.0/4: 224.0.0.0/4 is multicast"),
    "an IPv6 multicast route": ("[defaults]\nroute = ff02::/16\n", "f:2: route = ff02::/16: ff02::/16 is multicast"),
    "a probe of nobody": ("[defaults]\nprobe = 0.0.0.0\n", "f:2: probe = 0.0.0.0: the address of the far end inside"),
    "a probe of ourselves": ("[defaults]\nprobe = ::1\n", "f:2: probe = ::1: the address of the far end inside"),
    "a probe of many": ("[defaults]\nprobe = 224.0.0.1\n", "f:2: probe = 224.0.0.1: the address of the far end"),
    "a section without a name": ("[connection]\n", "f:1: [connection] needs a name or a pattern"),
    "defaults with a name": ("[defaults x]\n", "f:1: unknown section defaults x"),
    "a section without its bracket": ("[defaults\n", "f:1: the section head lacks its ]"),
    "a line before any section": ("mtu = 1400\n", "f:1: mtu stands before any section"),
    "a line without an equals sign": ("[defaults]\nmtu 1400\n", "f:2: 'mtu 1400' is no `key = value`"),
    "a bad value": ("[defaults]\nmtu = big\n", "f:2: mtu = big: a number of 0 to 4294967295 is expected"),
    "an MTU that is too small": ("[defaults]\nmtu = 67\n", "f:2: mtu = 67: an MTU of 68 to 65515 bytes is expected"),
    "an MTU that is too large": ("[defaults]\nmtu = 65516\n", "f:2: mtu = 65516: an MTU of"),
    "an empty value": ("[defaults]\nmtu =\n", "f:2: mtu = : a number"),
    "table 0": ("[defaults]\ntable = 0\n", "f:2: table = 0: a table number"),
    "an unknown word": ("[defaults]\ndelete = always\n", "f:2: delete = always: one of rule, last, never is expected"),
    "a device name with a blank": ("[defaults]\ninterface = a b\n", "f:2: interface = a b: a device name is"),
    "an unknown placeholder": ("[defaults]\ninterface = vti{x}\n", "f:2: interface = vti{x}: placeholders are {mark}"),
    "an address that is none": ("[defaults]\naddress = x/24\n", "f:2: address = x/24: an IPv4 or IPv6 address"),
    "an address whose subnet is everything": (
        "[defaults]\naddress = 10.6.106.1/0\n",
        "f:2: address = 10.6.106.1/0: length 0 makes the device the default route; write 10.6.106.1/32, or its subnet's",
    ),
    "an IPv6 address whose subnet is everything": (
        "[defaults]\naddress = 10.6.106.1/30, fd00::1/0\n",
        "f:2: address = 10.6.106.1/30, fd00::1/0: length 0 makes the device the default route; write fd00::1/128, or",
    ),
    "a peer whose subnet is everything": (
        "[defaults]\naddress = 10.0.0.1 peer 10.0.0.2/0\n",
        "f:2: address = 10.0.0.1 peer 10.0.0.2/0: length 0 makes the device the default route; write 10.0.0.2/32, or",
    ),
    "an unknown kind": ("[defaults]\nkind = gre\n", "f:2: kind = gre: one of vti, xfrm is expected"),
    "an address with a peer of the other family": (
        "[defaults]\naddress = 10.0.0.1 peer fd00::2\n",
        "f:2: address = 10.0.0.1 peer fd00::2: an address and its peer are of one family",
    ),
    "an address that lacks its peer": ("[defaults]\naddress = 10.0.0.1 peer\n", "f:2: address = 10.0.0.1 peer: "),
    "a route with host bits": ("[defaults]\nroute = 10.9.0.1/16\n", "f:2: route = 10.9.0.1/16: 10.9.0.1/16 has host"),
    "a route that lacks its gateway": (
        "[defaults]\nroute = 10.9.0.0/16 via\n",
        "f:2: route = 10.9.0.0/16 via: networks",
    ),
    "a route by the other family": (
        "[defaults]\nroute = 10.9.0.0/16 via fe80::2\n",
        "f:2: route = 10.9.0.0/16 via fe80::2: 10.9.0.0/16 and its gateway fe80::2 are of two families",
    ),
    "no route at all": ("[defaults]\nroute =\n", "f:2: route = : networks such as"),
    "a rule for every packet": ("[defaults]\nrule = priority 5\n", "f:2: rule = priority 5: a rule needs from, iif or"),
    "a rule with another word": (
        "[defaults]\nrule = to 10.0.0.0/8\n",
        "f:2: rule = to 10.0.0.0/8: to is none of from,",
    ),
    "a rule with an empty mask": ("[defaults]\nrule = fwmark 5/0\n", "f:2: rule = fwmark 5/0: a mark with mask 0"),
    "a rule from everywhere": (
        "[defaults]\nrule = from 0.0.0.0/0\n",
        "f:2: rule = from 0.0.0.0/0: from 0.0.0.0/0 fits every packet: name the networks, or say iif or fwmark instead",
    ),
    "a rule from everywhere by IPv6 beside more": (
        "[defaults]\nrule = fwmark 5, iif eth1 from ::/0\n",
        "f:2: rule = fwmark 5, iif eth1 from ::/0: from ::/0 fits every packet",
    ),
    "half a rule": ("[defaults]\nrule = fwmark\n", "f:2: rule = fwmark: rules such as"),
    "a namespace that is a path": ("[defaults]\nnetns = ../x\n", "f:2: netns = ../x: a name such as"),
    "a VRF that is no device name": ("[defaults]\nvrf = a/b\n", "f:2: vrf = a/b: a device name is"),
    "local any": ("[device d]\nlocal = 0.0.0.0\n", "f:2: local = 0.0.0.0: an address of this machine is expected"),
    "a name as remote": ("[device d]\nremote = east\n", "f:2: remote = east: an IPv4 or IPv6 address is expected"),
    "mark 0": ("[device d]\nmark = 0\n", "f:2: mark = 0: a mark of 1 to 4294967295"),
    "mark 0x0": ("[device d]\nmark = 0x0/0xff\n", "f:2: mark = 0x0/0xff: a mark of 1 to 4294967295"),
    "a bad mask": ("[device d]\nmark = 5/zz\n", "f:2: mark = 5/zz: a mark such as 5/0xffffffff"),
    "a mark of 33 bits": ("[device d]\nmark = 0x100000000\n", "f:2: mark = 0x100000000: a mark of 1 to"),
    "a percent sign for a mark": ("[device d]\nmark = %unique\n", "f:2: mark = %unique: a mark of 1 to"),
    "if_id 0": ("[device d]\nif_id = 0\n", "f:2: if_id = 0: an if_id of 1 to 4294967295"),
    "another word for link": ("[device d]\nlink = up\n", "f:2: link = up: one of keep, follow is expected"),
    "a multipath that is neither": ("[defaults]\nmultipath = maybe\n", "f:2: multipath = maybe: yes or no is expected"),
    "a hostile line": ("[defaults]\n\x1b[2J = 1\n", "f:2: unknown key \\x1b[2J"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_error_names_file_line_and_what_was_expected(case: str) -> None:
    text, said = REFUSED[case]
    with pytest.raises(Refused) as refusal:
        parse(text, "f")
    assert refusal.value.text.startswith(said)
    assert refusal.value.status == 2


@pytest.mark.parametrize("value", ["5 # my mark", "5\t; my mark", "5 #"])
def test_a_comment_behind_a_refused_value_is_told(value: str) -> None:
    with pytest.raises(Refused) as refusal:
        parse(f"[device d]\nmark = {value}\n", "f")
    assert refusal.value.hint == "a comment stands on a line of its own, which begins with # or ;"
    with pytest.raises(Refused) as refusal:
        parse("[device d]\nmark = 5#\n", "f")
    assert refusal.value.hint == ""


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "vti-updown.conf").write_bytes(b"\xef\xbb\xbf[defaults]\nmtu = 1400\n")
    assert resolve(read_files(str(tmp_path / "vti-updown.conf")), "t").mtu == 1400


def test_a_key_may_stand_in_two_sections_of_one_name() -> None:
    text = "[connection t]\nmtu = 1400\n[connection t]\nmtu = 1300\n"
    assert resolve(tuple(parse(text, "f")), "t").mtu == 1300


def test_a_missing_file_says_nothing(tmp_path: Path) -> None:
    assert read_files(str(tmp_path / "vti-updown.conf")) == ()


def test_conf_d_is_read_after_the_file_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "vti-updown.conf").write_text("[defaults]\nmtu = 1000\nmetric = 7\n")
    (tmp_path / "conf.d" / "20-b.conf").write_text("[defaults]\nmtu = 1200\n")
    (tmp_path / "conf.d" / "10-a.conf").write_text("[defaults]\nmtu = 1100\n")
    (tmp_path / "conf.d" / "30-c.conf~").write_text("[defaults]\nmtu = 1300\n")
    lines = read_files(str(tmp_path / "vti-updown.conf"))
    assert [line.value for line in lines if line.key == "mtu"] == [1000, 1100, 1200]
    assert resolve(lines, "t") == Settings(mtu=1200, metric=7)


def test_conf_d_counts_without_the_file(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.conf").write_text("[defaults]\nmtu = 1100\n")
    assert resolve(read_files(str(tmp_path / "vti-updown.conf")), "t").mtu == 1100


def test_an_error_in_conf_d_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.conf").write_text("[defaults]\nmtuu = 1100\n")
    with pytest.raises(Refused, match=r"conf\.d/a\.conf:2: unknown key mtuu"):
        read_files(str(tmp_path / "vti-updown.conf"))


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "vti-updown.conf").mkdir()
    with pytest.raises(Refused, match=r"vti-updown\.conf: Is a directory"):
        read_files(str(tmp_path / "vti-updown.conf"))


def test_bytes_that_are_not_utf_8_may_stand_in_a_comment_and_are_shown_escaped_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "vti-updown.conf").write_bytes(b"# caf\xe9\n[defaults]\ncaf\xe9 = 1\n")
    with pytest.raises(Refused, match=r"vti-updown.conf:3: unknown key caf\\xe9"):
        read_files(str(tmp_path / "vti-updown.conf"))


@given(st.text(st.characters(), max_size=120))
@settings(deadline=None, max_examples=200)
def test_no_file_raises_anything_but_a_refusal_that_names_the_line(text: str) -> None:
    try:
        parse(text, "f")
    except Refused as refusal:
        assert refusal.text.startswith("f:")
        assert refusal.text.isprintable()


@pytest.mark.parametrize(("value", "wait"), [("0", 0), ("0.05", 0.05), ("5", 5), ("60", 60)])
def test_how_long_to_wait_for_the_lock_is_a_setting_of_all(value: str, wait: float) -> None:
    assert lock_wait(tuple(parse(f"[defaults]\nlock_wait = {value}\n", "f"))) == wait
    assert lock_wait(()) == 5


@pytest.mark.parametrize("value", ["60.1", "-1", "1e1", "nan", ".", "5 s", "\u0665"])
def test_a_wait_is_seconds_from_0_to_60(value: str) -> None:
    with pytest.raises(Refused, match="seconds, 0 to 60, are expected"):
        parse(f"[defaults]\nlock_wait = {value}\n", "f")


@pytest.mark.parametrize("section", ["connection *", "device vti5"])
def test_the_wait_stands_in_defaults_alone(section: str) -> None:
    with pytest.raises(Refused, match="f:2: lock_wait stands in") as error:
        parse(f"[{section}]\nlock_wait = 5\n", "f")
    assert "[defaults]" in error.value.hint
