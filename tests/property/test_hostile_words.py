"""Promise P8, for what daemons print: whatever a peer chose as its identity or user name, and whatever a connection is called,
everybody else's facts are read as ever, and of the hostile one its own alone."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.kit.daemon_answers import Connection, list_sa, vici_message, whack_status
from tests.kit.machine import EAST, EAST6, THIRD, WEST, WEST6
from updown.daemons.answer import ANSWERED, ChildSa
from updown.daemons.libreswan.status import read
from updown.daemons.strongswan.vici import children_in
from updown.daemons.strongswan.vici_message import parse

OTHERS = (
    Connection("p", routed=True, wished=True, asks=True, spis=(0x2000, 0x2001), peer_id="@east", used=True),
    Connection("six", me=WEST6, peer=EAST6, spis=(0x3000, 0x3001)),
    Connection("r", peer="%any"),
    Connection("r", 1, peer=THIRD, spis=(0x4000, 0x4001), peer_id="C=CH, CN=a b"),
    Connection("od", routed=True),
)
FRAGMENTS = (
    *(
        '"',
        '"p"',
        '"p": ',
        '#9: "p" ',
        '"p":   policy: IKEv2+UP;',
        "[1]",
        ": ",
        "   ",
        "; ",
        ";",
        "===",
        "...",
        "@",
        " ",
        "\\",
        "\0",
    ),
    *("; prospective erouted;", "; erouted; eroute owner: #0", "; routed-tunnel; my_ip=unset; their_ip=unset;", "username="),
    *("IPsec SAs: total(9999)", "Total IPsec connections: loaded 9", "conn serial: $1;", '":   conn serial: $1;', "000 "),
    *(" esp.deadbeef@203.0.113.66 esp.2000@198.51.100.1 ", " esp:1@2001:db8::9 esp:3000@2001:db8:0:1::1", "Traffic:"),
    *("10.1.0.0/24===203.0.113.66...198.51.100.2===10.2.0.0/24", "my_updown=/usr/libexec/vti-updown;", "oriented;"),
    *(":500 ESTABLISHED", "198.51.100.1", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\udcff", "\x1b[31m", "..." * 300),
)
words = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=5)), max_size=8).map("".join)
line = words.filter(lambda text: "\n" not in text)  # pluto escapes what would break its line (jam_sanitized_bytes)
name = line.filter(lambda text: text not in {"", *(one.name for one in OTHERS)})
hostile = st.builds(
    Connection,
    name=st.one_of(st.just("h"), name),
    instance=st.integers(0, 2),
    me=st.sampled_from([WEST, WEST6]),
    peer=st.sampled_from([EAST, EAST6]),
    my_id=line,
    peer_id=line,
    user=line,
    routed=st.booleans(),
    wished=st.booleans(),
    asks=st.booleans(),
    spis=st.sampled_from([(0, 0), (0x5000, 0x5001)]),
    used=st.booleans(),
)
ATTACK = Connection(
    "h", 2, peer_id="@x esp.deadbeef@203.0.113.66 esp.2000@198.51.100.1 y; prospective erouted; eroute owner: #0"
)


@example(ATTACK, 4, 3)
@example(ATTACK._replace(peer_id="IPsec SAs: total(9999)", user='x" esp.1@203.0.113.66 esp.2@198.51.100.1', spis=(1, 2)), 5, 0)
@example(Connection('p": 10.1.0.0/24===203.0.113.66...198.51.100.2; erouted; eroute owner: #0', my_id='"'), 4, 5)
@given(hostile, st.sampled_from([4, 5]), st.integers(0, len(OTHERS)))
@settings(deadline=None, max_examples=400, database=None)
def test_of_pluto_s_status_nobody_s_facts_are_another_s_words(odd: Connection, release: int, place: int) -> None:
    connections = [*OTHERS[:place], odd, *OTHERS[place:]]
    said = read(whack_status(release, connections), 17)
    assert (said.state, said.since, said.unread) == (ANSWERED, 17, ())
    assert said.children == tuple(one.child() for one in connections if any(one.spis))
    held = {one.name: one.me for one in connections if one.routed or one.wished}
    assert set(said.held) == set(held)
    assert said.ends == {one.name: one.me for one in connections if one.name in held and not one.instance}
    assert set(said.loaded) == {one.name for one in connections}


CHARON = ChildSa("strongswan", "c", "198.51.100.1", "198.51.100.2", 1, 2, 3, 4, 5, 6, 0, 0, ("10.2.0.0/24",), ("w", "e"), True)


@given(line, line, line, st.lists(line.filter(lambda text: "[" not in text), max_size=3))
@settings(deadline=None, max_examples=200, database=None)
def test_of_vici_s_answer_nobody_s_facts_are_another_s_words(called: str, mine: str, theirs: str, nets: list[str]) -> None:
    odd = CHARON._replace(connection=called, ids=(mine, theirs), remote_ts=tuple(nets), peer="203.0.113.66")
    told = [parse(vici_message(list_sa(child))) for child in (CHARON, odd, CHARON)]
    found = [child for section in told for child in children_in(section)]
    assert found == [child for child in (CHARON, odd, CHARON) if child.connection]
