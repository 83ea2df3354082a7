"""Policy rules: our bytes against pyroute2's, in both directions."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.fibmsg import fibmsg

from tests.kit.pyroute2_messages import NLM_F_CREATE, NLM_F_EXCL, name, prefix, pyroute2_bytes, quick, theirs, u32
from updown.kernel.netlink import rule_messages as policy
from updown.model.objects import Rule


def rules(family: int) -> "st.SearchStrategy[Rule]":
    return st.builds(
        Rule,
        st.just(family),
        st.just(""),
        table=st.integers(1, 0xFFFFFFFF),
        priority=u32,
        source=st.one_of(st.just(""), prefix(family, 1)),
        iif=st.one_of(st.just(""), name),
        fwmark=u32,
        fwmask=st.integers(1, 0xFFFFFFFF),
        protocol=st.integers(0, 255),
        destination=st.one_of(st.just(""), prefix(family, 1)),
        inverted=st.booleans(),
        source_port=st.integers(0, 65535),
    )


any_rule = st.one_of(rules(4), rules(6))


@quick
@given(any_rule, st.booleans())
def test_a_rule_says_all_of_itself(rule: Rule, marked: bool) -> None:
    rule = rule if marked else rule._replace(fwmark=0, fwmask=0)
    request = policy.rule_add(rule)
    assert (request.type, request.flags & (NLM_F_CREATE | NLM_F_EXCL)) == (32, NLM_F_CREATE | NLM_F_EXCL)
    message = theirs(fibmsg, request)
    source = f"{message.get_attr('FRA_SRC')}/{message['src_len']}" if message["src_len"] else ""
    destination = f"{message.get_attr('FRA_DST')}/{message['dst_len']}" if message["dst_len"] else ""
    assert (message["family"], message["action"]) == ({4: 2, 6: 10}[rule.family], 1)
    assert (source, destination) == (rule.source, rule.destination)
    assert message["flags"] == (2 if rule.inverted else 0)
    port, length = rule.source_port, 8  # of the attribute, its header included
    assert message.get_attr("FRA_IP_PROTO") == (17 if port else None)
    said = request.payload.find(struct.pack("=HHHH", length, 23, port, port)) > 0
    assert said is bool(port)
    assert (message.get_attr("FRA_PRIORITY"), message.get_attr("FRA_TABLE")) == (rule.priority, rule.table)
    assert (message.get_attr("FRA_IIFNAME") or "", message.get_attr("FRA_PROTOCOL")) == (rule.iif, rule.protocol)
    assert (message.get_attr("FRA_FWMARK") or 0, message.get_attr("FRA_FWMASK") or 0) == (rule.fwmark, rule.fwmask)


@quick
@given(any_rule)
def test_a_rule_reads_as_it_was_written(rule: Rule) -> None:
    assert policy.decode_rule(policy.rule_add(rule).payload) == rule


OTHER_RULES: dict[str, tuple[dict[str, int], list[tuple[str, Any]]]] = {
    "to another end than a table": ({"action": 6}, []),
    "for one IP protocol": ({"action": 1}, [("FRA_IP_PROTO", 6)]),
    "for UDP without ports": ({"action": 1}, [("FRA_IP_PROTO", 17)]),
    "by the device they leave by": ({"action": 1}, [("FRA_OIFNAME", "eth0")]),
    "of VRFs": ({"action": 1}, [("FRA_L3MDEV", 1)]),
    "that suppresses the default route": ({"action": 1}, [("FRA_SUPPRESS_PREFIXLEN", 0)]),
}


@pytest.mark.parametrize("case", OTHER_RULES)
def test_a_rule_that_asks_more_than_ours_may_is_none_of_them(case: str) -> None:
    fields, attributes = OTHER_RULES[case]
    more = [("FRA_TABLE", 100), ("FRA_PRIORITY", 5), *attributes]
    assert policy.decode_rule(pyroute2_bytes(fibmsg, {"family": 2, "table": 100, **fields}, more)) is None
