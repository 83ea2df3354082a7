"""XFRM interfaces by if_id: one for a child, one for gateways with several local ends, and one for each SA."""

from typing import ClassVar

from tests.kit.grammar_libreswan import OURS
from tests.kit.grammar_strongswan import EACH, UNIQUE, Sketch, StrongSwan, sketch

SETTINGS = """
[defaults]
routing = yes
[connection one]
interface = ipsec41
address = 10.99.41.1/30
[connection this]
interface = ipsec42
shared = yes
[connection that]
interface = ipsec42
shared = yes
[connection uniq]
interface = ipsec{if_id}
[connection pool]
interface = ipsec{if_id}
"""


class Interfaces(StrongSwan):
    """One charon whose children have if_ids."""

    connections: ClassVar[tuple[Sketch, ...]] = (
        sketch("one", 41, "ipsec41", "41", "10.41.0.0/24", "10.41.1.0/24", address="10.99.41.1/30"),
        sketch("this", 42, "ipsec42", "42", "10.42.0.0/24", shared="yes"),
        sketch("that", 43, "ipsec42", "42", "10.43.0.0/24", me=OURS[1], shared="yes"),
        sketch("uniq", 44, f"ipsec{EACH}", UNIQUE, "10.44.0.0/24", "10.44.1.0/24"),
        sketch("pool", 45, f"ipsec{EACH}", UNIQUE, "10.45.0.45/32", me=OURS[1]),
        sketch("pool", 46, f"ipsec{EACH}", UNIQUE, "10.45.0.46/32", me=OURS[1]),
    )
    together: ClassVar[tuple[tuple[int, int], ...]] = ((1, 2), (4, 5))
    settings = SETTINGS
