"""What each key may say, and what is refused with the value that was expected."""

from typing import Any

import pytest

from tests.kit import field_cases
from tests.kit.settings_text import parse
from updown.model.errors import Refused
from updown.settings.keys import BY_KIND, KEYS, Settings
from updown.settings.parsers import StaticRoute, StaticRule

ACCEPTED: dict[str, Any] = {
    "interface = vti{mark}": "vti{mark}",
    "interface = vti5": "vti5",
    "interface = v{mark_in}-{mark_out}": "v{mark_in}-{mark_out}",
    "interface = ipsec{if_id:x}": "ipsec{if_id:x}",
    "netns = {connection}": "{connection}",
    "vrf = vrf{mark_in:x}": "vrf{mark_in:x}",
    "address = 10.99.{mark}.1/30, fd00:{mark:x}::1/64": ("10.99.{mark}.1/30, fd00:{mark:x}::1/64",),
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
    "mss = clamp": "clamp",
    "mss = 1379": "1379",
    "multicast = yes": True,
    "multicast = on": True,
    "multicast = off": False,
    "multicast = keep": None,
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
    "address = fe80::1/64 10.0.0.1 peer 10.0.0.2/31, 10.3.0.1/30": ("fe80::1/64", "10.0.0.1 peer 10.0.0.2/31", "10.3.0.1/30"),
    "address = 10.0.0.1/24, fd00::1/64 10.0.0.1/24": ("10.0.0.1/24", "fd00::1/64"),
    "address = 10.9.0.1/30 peer 10.9.0.2/30": ("10.9.0.1 peer 10.9.0.2/30",),
    "address = fd00::1/127 remote fd00::/127 10.9.0.1/32": ("fd00::1 peer fd00::/127", "10.9.0.1/32"),
    "address = 10.9.0.0/31, 10.9.1.1/31, fd00::/127, fd00:1::/128": (
        "10.9.0.0/31",
        "10.9.1.1/31",
        "fd00::/127",
        "fd00:1::/128",
    ),
    "address = fd00::ffff:ffff:ffff:ffff/64": ("fd00::ffff:ffff:ffff:ffff/64",),
    "address = 10.9.0.1/24 10.9.0.2/24 10.9.0.3/32": ("10.9.0.1/24", "10.9.0.2/24", "10.9.0.3/32"),
    "address = 10.9.0.1 10.9.0.2": ("10.9.0.1/32", "10.9.0.2/32"),
    "vrf = red": "red",
    "netns = private-1": "private-1",
    "route = 10.9.0.0/16": (StaticRoute("10.9.0.0/16"),),
    "route = 10.9.0.0/16 via 10.6.106.2, fd00:9::/48": (StaticRoute("10.9.0.0/16", "10.6.106.2"), StaticRoute("fd00:9::/48")),
    "route = 10.9.0.0/16 src 10.1.0.1": (StaticRoute("10.9.0.0/16", "", "10.1.0.1"),),
    "route = 10.9.0.0/16 src 10.1.0.1 via 10.6.106.2, fd00:9::/48": (
        StaticRoute("10.9.0.0/16", "10.6.106.2", "10.1.0.1"),
        StaticRoute("fd00:9::/48"),
    ),
    "route = default src fd00::1": (StaticRoute("::/0", "", "fd00::1"),),
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
    "rule = to 10.77.0.1": (StaticRule(destination="10.77.0.1/32"),),
    "rule = not fwmark 5 to fd00::/64, not iif eth1": (
        StaticRule(fwmark=5, fwmask=0xFFFFFFFF, destination="fd00::/64", inverted=True),
        StaticRule(iif="eth1", inverted=True),
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


REFUSED_VALUES = {
    "the kernel's own device for a connection": (
        "[connection t]\ninterface = ip_vti0\n",
        "f:2: interface = ip_vti0: ip_vti0 is the kernel's own",
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
    "a bad value": ("[defaults]\nmtu = big\n", "f:2: mtu = big: an MTU of 68 to 65515 bytes is expected, or auto"),
    "an MTU that is too small": ("[defaults]\nmtu = 67\n", "f:2: mtu = 67: an MTU of 68 to 65515 bytes is expected"),
    "an MTU that is too large": ("[defaults]\nmtu = 65516\n", "f:2: mtu = 65516: an MTU of"),
    "an empty value": ("[defaults]\nmtu =\n", "f:2: mtu = : an MTU of 68 to 65515 bytes is expected, or auto"),
    "a table that is a name": ("[defaults]\ntable = vpn\n", "f:2: table = vpn: a table number of 1 to 4294967295, or main, is"),
    "a sysctl that is neither": ("[defaults]\nforwarding = 2\n", "f:2: forwarding = 2: yes (1), no (0) or keep is expected"),
    "a policy that is neither": (
        "[defaults]\ndisable_policy = 2\n",
        "f:2: disable_policy = 2: yes (1), no (0) or keep is expected, or auto",
    ),
    "a rule's mark": ("[defaults]\nrule = fwmark x\n", "f:2: rule = fwmark x: fwmark: a mark such as 5, 0x10 or 0x10/0xff is"),
    "a rule's place": (
        "[defaults]\nrule = iif e priority -1\n",
        "f:2: rule = iif e priority -1: priority: a number of 0 to 4294967295 is expected",
    ),
    "a segment of nothing": ("[defaults]\nmss = 87\n", "f:2: mss = 87: no, clamp, or 88 to 65495 bytes is expected"),
    "a segment of a word": ("[defaults]\nmss = yes\n", "f:2: mss = yes: no, clamp, or 88 to 65495 bytes is expected"),
    "a multicast that is neither": (
        "[defaults]\nmulticast = maybe\n",
        "f:2: multicast = maybe: yes (on), no (off) or keep is expected",
    ),
    "table 0": ("[defaults]\ntable = 0\n", "f:2: table = 0: a table number"),
    "an unknown word": ("[defaults]\ndelete = always\n", "f:2: delete = always: one of rule, last, never is expected"),
    "a device name with a blank": ("[defaults]\ninterface = a b\n", "f:2: interface = a b: a device name is"),
    "an unknown placeholder": ("[defaults]\ninterface = vti{x}\n", "f:2: interface = vti{x}: placeholders are {mark}"),
    "an unknown placeholder for a namespace": ("[defaults]\nnetns = {peer}\n", "f:2: netns = {peer}: placeholders are {mark}"),
    "a name in hexadecimal": ("[defaults]\ninterface = {connection:x}\n", "f:2: interface = {connection:x}: placeholders"),
    "an address that no mark makes one": (
        "[defaults]\naddress = 10.{mark}.1/30\n",
        "f:2: address = 10.{mark}.1/30: an IPv4 or",
    ),
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
    **{
        f"address = {value}": (f"[defaults]\naddress = {value}\n", f"f:2: address = {value}: {said}")
        for value, said in (
            ("10.9.0.0/30", "10.9.0.0 is the network's own of 10.9.0.0/30, which no"),
            (
                "10.9.0.3/30",
                "10.9.0.3 is the broadcast address of 10.9.0.0/30, which no host can have: write this end's own inside",
            ),
            (
                "10.9.0.255/24",
                "10.9.0.255 is the broadcast address of 10.9.0.0/24, which no host can have: write this end's own inside",
            ),
            ("fd00::/64", "fd00:: is the network's own of fd00::/64, which no host can have: write this end's own inside"),
            ("224.0.0.1/24", "224.0.0.1 is multicast, which no host can have: write this end's own inside the tunnel, such as"),
            ("ff02::1", "ff02::1 is multicast, which"),
            ("127.0.0.5/32", "127.0.0.5 is a loopback address, which no host can have: write this end's own"),
            ("::1/128", "::1 is a loopback address, which"),
            ("0.0.0.0", "0.0.0.0 is no address, which"),
            ("::/64", ":: is no address, which"),
            ("255.255.255.255", "255.255.255.255 is everybody's broadcast address, which"),
            ("10.9.0.1 peer 10.9.0.0/30", "10.9.0.0 is the network's own of 10.9.0.0/30"),
            ("10.9.0.3 peer 10.9.0.2/30", "10.9.0.3 is the broadcast address of 10.9.0.0/30"),
            ("10.9.0.1 peer 224.0.0.5", "224.0.0.5 is multicast"),
            (
                "10.9.0.1 peer 10.9.0.1",
                "10.9.0.1 is both ends: the peer has another one, as in 10.99.0.1/30, or 10.99.0.1 peer",
            ),
            ("10.9.0.1/30 peer 10.9.0.2", "the length is the peer's: write 10.9.0.1 peer 10.9.0.2"),
            ("10.9.0.1/30 peer 10.9.0.2/31", "the length is the peer's: write 10.9.0.1 peer 10.9.0.2/31"),
            ("10.9.0.1 255.255.255.252", "255.255.255.252 is a mask: write 10.9.0.1/30"),
            ("fd00::1 ffff:ffff:ffff:ffff::", "ffff:ffff:ffff:ffff:: is a mask: write fd00::1/64"),
            ("10.9.0.1/30 10.9.0.2", "10.9.0.2 beside 10.9.0.1/30 is the far end's: write 10.9.0.1/30 alone, or 10.9.0.1 peer"),
            ("10.9.0.2, 10.9.0.1/24", "10.9.0.2 beside 10.9.0.1/24 is the far end's"),
            ("10.9.0.1/30 10.9.0.2/30", "10.9.0.2 beside 10.9.0.1/30 is the far end's"),
            ("fd00::/127 fd00::1/127", "fd00::1 beside fd00::/127 is the far end's: write fd00::/127 alone"),
            ("10.9.0.1/255.255.255.252", "an address with a prefix length is expected, such as 10.99.0.1/30"),
            ("10.9.0.1 netmask 255.255.255.252", "255.255.255.252 is a mask: write 10.9.0.1/30"),
            ("10.9.0.1 broadcast 10.9.0.3", "an IPv4 or IPv6 address is expected, such as 10.99.0.1/30"),
        )
    },
    "an end that is many": ("[device d]\nlocal = 224.0.0.1\n", "f:2: local = 224.0.0.1: 224.0.0.1 is multicast, which no"),
    "an end that is this machine": ("[device d]\nremote = ::1\n", "f:2: remote = ::1: ::1 is a loopback address, which no"),
    "a gateway that is all": (
        "[defaults]\nroute = 10.9.0.0/16 via 255.255.255.255\n",
        "f:2: route = 10.9.0.0/16 via 255.255.255.255: 255.255.255.255 is everybody's broadcast address, which no",
    ),
    "a probe of all": ("[defaults]\nprobe = 255.255.255.255\n", "f:2: probe = 255.255.255.255: the address of the far end"),
    "a route with host bits": ("[defaults]\nroute = 10.9.0.1/16\n", "f:2: route = 10.9.0.1/16: 10.9.0.1/16 has host"),
    "a route that lacks its gateway": ("[defaults]\nroute = 10.9.0.0/16 via\n", "f:2: route = 10.9.0.0/16 via: networks"),
    "a route by the other family": (
        "[defaults]\nroute = 10.9.0.0/16 via fe80::2\n",
        "f:2: route = 10.9.0.0/16 via fe80::2: 10.9.0.0/16 and its gateway fe80::2 are of two families",
    ),
    "a route from the other family": (
        "[defaults]\nroute = fd00:9::/48 src 10.1.0.1\n",
        "f:2: route = fd00:9::/48 src 10.1.0.1: fd00:9::/48 and its source 10.1.0.1 are of two families",
    ),
    "a route from nobody": ("[defaults]\nroute = 10.9.0.0/16 src ::1\n", "f:2: route = 10.9.0.0/16 src ::1: ::1 is a loopback"),
    "a route that says a thing twice": (
        "[defaults]\nroute = 10.9.0.0/16 via 10.6.0.2 via 10.6.0.3\n",
        "f:2: route = 10.9.0.0/16 via 10.6.0.2 via 10.6.0.3: networks such as",
    ),
    "a route by another word": ("[defaults]\nroute = 10.9.0.0/16 dev eth0\n", "f:2: route = 10.9.0.0/16 dev eth0: networks"),
    "no route at all": ("[defaults]\nroute =\n", "f:2: route = : networks such as"),
    "a rule for every packet": ("[defaults]\nrule = priority 5\n", "f:2: rule = priority 5: a rule needs from, to, iif or"),
    "a rule with another word": ("[defaults]\nrule = oif eth1\n", "f:2: rule = oif eth1: oif is none of not (first), from,"),
    "a rule with an empty mask": ("[defaults]\nrule = fwmark 5/0\n", "f:2: rule = fwmark 5/0: a mark with mask 0"),
    "a rule from everywhere": (
        "[defaults]\nrule = from 0.0.0.0/0\n",
        "f:2: rule = from 0.0.0.0/0: from 0.0.0.0/0 fits every packet: name the networks, or say iif or fwmark instead",
    ),
    "a rule from everywhere by IPv6 beside more": (
        "[defaults]\nrule = fwmark 5, iif eth1 from ::/0\n",
        "f:2: rule = fwmark 5, iif eth1 from ::/0: from ::/0 fits every packet",
    ),
    "a rule to everywhere": ("[defaults]\nrule = to ::/0\n", "f:2: rule = to ::/0: to ::/0 fits every packet"),
    "a rule against nothing": ("[defaults]\nrule = not\n", "f:2: rule = not: rules such as"),
    "a rule of two families": (
        "[defaults]\nrule = from 10.1.0.0/16 to fd00::/64\n",
        "f:2: rule = from 10.1.0.0/16 to fd00::/64: 10.1.0.0/16 and fd00::/64 are of two families",
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
}


@pytest.mark.parametrize("case", REFUSED_VALUES)
def test_a_value_that_is_refused_says_what_was_expected(case: str) -> None:
    text, said = REFUSED_VALUES[case]
    with pytest.raises(Refused) as refusal:
        parse(text, "f")
    assert refusal.value.text.startswith(said)
    assert refusal.value.status == 2


@pytest.mark.parametrize("value", ["60.1", "-1", "1e1", "nan", ".", "5 s", "\u0665"])
def test_a_wait_is_seconds_from_0_to_60(value: str) -> None:
    with pytest.raises(Refused, match="seconds, 0 to 60, are expected"):
        parse(f"[defaults]\nlock_wait = {value}\n", "f")


@pytest.mark.parametrize(
    "case", ["08-address-broadcast-of-net", "08-address-loopback", "08-address-multicast", "08-address-pair"]
)
def test_the_addresses_of_the_field_that_no_host_can_have_are_refused(case: str) -> None:
    with pytest.raises(Refused, match=r"^f:3: address = .*: write ") as refusal:
        parse(field_cases.settings(case), "f")
    assert refusal.value.status == 2
