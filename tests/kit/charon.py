"""strongSwan's calls for tests/kit/machine.py: what charon 5.9.8 and 6 give to their hook."""

from typing import NamedTuple

from tests.kit.machine import EAST, WEST, Environment


class Child(NamedTuple):
    """A child SA as its administrator sees it, and what charon makes of it. Marks are `5/0xffffffff`, if_ids decimal;
    empty where there is none."""

    name: str = "c"
    me: str = WEST
    peer: str = EAST
    my_id: str = "west"
    peer_id: str = "east"
    pairs: tuple[tuple[str, str], ...] = (("10.1.0.0/24", "10.2.0.0/24"),)
    mark_in: str = "5/0xffffffff"
    mark_out: str = "5/0xffffffff"
    if_id_in: str = ""
    if_id_out: str = ""
    reqid: int = 1
    underlay: str = "eth0"
    virtual: tuple[str, ...] = ()  # addresses assigned to us
    peer_virtual: tuple[str, ...] = ()  # that we assigned


def charon_call(
    child: Child, verb: str, unique_id: int = 1, pair: int = 0, protocol: int = 0, ports: tuple[str, str] = ("0", "0")
) -> Environment:
    """The environment of one call: `verb` is up or down, `pair` which of the child's pairs of selectors it is for."""
    mine, theirs = child.pairs[pair]
    single = "/128" if ":" in mine else "/32"
    host = mine == child.me + single
    six = ":" in (child.me if host else mine)
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PLUTO_VERSION": "1.1",
        "PLUTO_VERB": verb + ("-host" if host else "-client") + ("-v6" if six else ""),
        "PLUTO_CONNECTION": child.name,
        "PLUTO_INTERFACE": child.underlay,
        "PLUTO_REQID": str(child.reqid),
        "PLUTO_PROTO": "esp",
        "PLUTO_UNIQUEID": str(unique_id),
        "PLUTO_ME": child.me,
        "PLUTO_MY_ID": child.my_id,
        "PLUTO_MY_CLIENT": mine,
        "PLUTO_MY_PORT": ports[0],
        "PLUTO_MY_PROTOCOL": str(protocol),
        "PLUTO_PEER": child.peer,
        "PLUTO_PEER_ID": child.peer_id,
        "PLUTO_PEER_CLIENT": theirs,
        "PLUTO_PEER_PORT": ports[1],
        "PLUTO_PEER_PROTOCOL": str(protocol),
        "PLUTO_MARK_IN": child.mark_in,
        "PLUTO_MARK_OUT": child.mark_out,
        "PLUTO_IF_ID_IN": child.if_id_in,
        "PLUTO_IF_ID_OUT": child.if_id_out,
    }
    for side, addresses in (("MY", child.virtual), ("PEER", child.peer_virtual)):
        if addresses:
            environment[f"PLUTO_{side}_SOURCEIP"] = addresses[0]
        for family in ("4", "6"):
            same = [address for address in addresses if (":" in address) == (family == "6")]
            for number, address in enumerate(same, 1):
                environment[f"PLUTO_{side}_SOURCEIP{family}_{number}"] = address
    return {name: value for name, value in environment.items() if value}


def charon_calls(child: Child, verb: str, unique_id: int = 1) -> list[Environment]:
    """All calls of one event: one for each pair of selectors."""
    return [charon_call(child, verb, unique_id, pair) for pair in range(len(child.pairs))]
